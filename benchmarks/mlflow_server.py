"""A real MLflow server on loopback that can be stopped and restarted on the same database and port."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

DATABASE = "mlflow.db"
"""Database file in the server's directory; MLflow creates it if it is missing, which takes seconds."""

START_SECONDS = 300.0
"""Time limit of a start on a busy machine."""


class MlflowServer:
    """An MLflow server with its own directory.

    Args:
        directory: Directory of its database, artifacts and log.
    """

    def __init__(self, directory: Path) -> None:
        """Choose a free port."""
        self._directory = directory
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server, and wait until it answers.

        Raises:
            TimeoutError: If it does not answer, or has ended; the message contains the end of its log.
        """
        command = [
            sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1",
            "--backend-store-uri", f"sqlite:///{self._directory / DATABASE}",
            "--artifacts-destination", str(self._directory / "artifacts"),
        ]  # fmt: skip
        environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        log = self._directory / "server.log"
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                command, stdout=file, stderr=file, env=environment, start_new_session=True, cwd=self._directory
            )
        end = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > end:
                raise TimeoutError(f"expected an MLflow server at {self.url}, found none:\n{log.read_text()[-2000:]}")
            time.sleep(0.2)

    def stop(self) -> None:
        """Kill the server immediately."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)  # its own session: the server and its workers
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=5):  # noqa: S310 - our own address
                return True
        except OSError:
            return False
