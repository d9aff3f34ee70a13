"""Handing audits to MLflow in a process of its own, which ends at a deadline whatever the store does.

A timeout inside MLflow's client would bound one request, not their sum, and neither a server that sends a byte a minute
nor a locked database nor a name service that hangs. A process can always be ended. It also keeps MLflow's settings, its
active run and its memory out of the caller's process. ``python -m reports.tracking.handover SECONDS`` is the other end:
a letter per line on standard input, an answer per line on standard output.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from threading import Timer
from types import TracebackType
from typing import IO, Any, Self, TextIO

from audit.config.sections import RegisteredModelConfig
from audit.storage.outside.safe_text import redact
from audit.storage.place import Place, place_of
from audit.storage.run_directory import RunDirectory
from reports.export.audit_json import read_audit_json
from reports.tracking.outbox import REGISTERED_MODEL, filled_outbox, read_outbox

ATTEMPTS = 3
PAUSE_SECONDS = 1.0
"""After a failure that may pass, the second attempt waits so long, the third twice as long."""

REQUEST_SECONDS = 10
"""How long the store may keep one request waiting, where the environment says nothing else."""
LAST_WORDS_SECONDS = 5.0
"""How long a process that failed may take to say why."""
ORPHAN_SECONDS = 5.0
"""So much after the deadline the process ends by itself, for the case that nobody is left to end it."""

DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # an audit reports to nobody unless its owner asked for it
    "MLFLOW_LOGGING_LEVEL": "WARNING",  # making the first database is no news
}
FIXED = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
"""MLflow's client would repeat "make a run" after a lost answer and make two; a whole attempt looks for it first."""


@dataclass(frozen=True)
class Letter:
    """One audit to hand over.

    Attributes:
        run_path: Its run directory.
        uri: Tracking server or database, with its password if it has one.
        experiment: MLflow experiment.
        registered: A registered model version to tag.
    """

    run_path: Place
    uri: str
    experiment: str
    registered: RegisteredModelConfig | None = None


@dataclass(frozen=True)
class Receipt:
    """What became of a letter.

    Attributes:
        url: Where the audit is in MLflow, None where it is not, or not all of it.
        problem: Why it is not; empty where it is.
        sent: Items that the store has taken now; 0 where it had everything already.
        note: What became of a registered model's tags and alias.
        unreachable: Whether the store gave no answer, so that another letter to it would have no better luck.
    """

    url: str | None = None
    problem: str = ""
    sent: int = 0
    note: str = ""
    unreachable: bool = False


def prepare(letter: Letter) -> None:
    """Write the run's outbox before anything is sent, so that what is left is known whatever happens then.

    Raises:
        OSError: The run directory lacks a file, or cannot be written to.
        ValueError: Its ``audit.json`` is of another schema.
    """
    run = RunDirectory(letter.run_path)
    result = read_audit_json(run)
    filled_outbox(run, result, redact(letter.uri), letter.experiment, letter.registered).write(run)


class Messenger:
    """Delivers letters one after the other, each within so many seconds.

    Attributes:
        seconds: Time for one letter, the start of the process included.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._process: subprocess.Popen[str] | None = None
        self._complaints: IO[str] = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by __exit__

    def __enter__(self) -> Self:
        """Return itself; the process is started by the first letter."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process, and with it whatever it still waits for."""
        self._end()
        self._complaints.close()

    def deliver(self, letter: Letter) -> Receipt:
        """Hand one audit over; a store that fails in whatever way ends in a receipt with a problem.

        Raises:
            OSError: No process can be started here.
        """
        process = self._process = self._process or self._start()
        began, said = time.monotonic(), os.fstat(self._complaints.fileno()).st_size
        clock = Timer(self.seconds, process.kill)
        clock.start()
        try:
            answer = _asked(process, letter)
        finally:
            clock.cancel()
        if answer:
            return Receipt(**json.loads(answer))
        took = time.monotonic() - began
        with suppress(subprocess.TimeoutExpired):
            process.wait(LAST_WORDS_SECONDS)  # its traceback comes after the end of its answers
        self._end()
        return _noted(letter, self._silence(took, said))

    def _start(self) -> subprocess.Popen[str]:
        self._complaints.seek(0)
        self._complaints.truncate()
        return subprocess.Popen(
            [sys.executable, "-m", "reports.tracking.handover", str(self.seconds + ORPHAN_SECONDS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            text=True,
            env=environment(os.environ, self.seconds),
            start_new_session=True,  # a Ctrl-C ends the caller, which then ends this in order
        )

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with suppress(BrokenPipeError), process:  # closes its pipes and reaps it
                process.kill()

    def _silence(self, seconds: float, said: int) -> Receipt:
        """Say why there was no answer, in the last words that the process said after ``said`` bytes of others."""
        if seconds >= self.seconds:
            return Receipt(problem=f"the tracking store took more than {self.seconds:g} s", unreachable=True)
        self._complaints.seek(said)
        last = [line.strip() for line in self._complaints if line.strip()][-1:]
        return Receipt(problem=f"logging to MLflow failed: {redact(*last) if last else 'its process was killed'}")


def environment(own: Mapping[str, str], seconds: float) -> dict[str, str]:
    """Return the process's environment: the caller's, with bounds for MLflow's client where he set none.

    Args:
        own: The caller's environment, which stays as it is.
        seconds: Time for one letter; no single request may take longer.
    """
    request = str(max(1, min(REQUEST_SECONDS, int(seconds / ATTEMPTS / 2))))
    bounds = {**DEFAULTS, "MLFLOW_HTTP_REQUEST_TIMEOUT": request}
    return {**bounds, **own, **FIXED, "PYTHONPATH": os.pathsep.join(sys.path)}


def _asked(process: subprocess.Popen[str], letter: Letter) -> str:
    """Send a letter and return the answer, nothing where the process ends before it."""
    if process.stdin is None or process.stdout is None:
        raise ValueError("expected a process with pipes")
    registered = letter.registered and letter.registered.model_dump(mode="json")
    data = {**asdict(letter), "run_path": str(letter.run_path), "registered": registered}
    try:
        process.stdin.write(f"{json.dumps(data)}\n")
        process.stdin.flush()
        answer = process.stdout.readline()
    except BrokenPipeError:
        return ""
    return answer if answer.endswith("\n") else ""


def _noted(letter: Letter, receipt: Receipt) -> Receipt:
    """Write a problem into the outbox, so that the run directory tells it too; only a registry's costs no link."""
    run = RunDirectory(letter.run_path)
    outbox = read_outbox(run)
    if outbox is None:
        return receipt
    outbox = replace(outbox, problem=receipt.problem).write(run)
    told = outbox.tracked is not None and outbox.left == (REGISTERED_MODEL,)
    return replace(receipt, url=outbox.tracked.url if outbox.tracked and told else None)


def _delivered(letter: Letter) -> Receipt:
    """Log one audit from inside the process, again after a failure that may pass."""
    from reports.tracking.client import TrackingError, UnreachableError
    from reports.tracking.log import log_audit

    run = RunDirectory(letter.run_path)
    before = read_outbox(run)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            outbox = log_audit(run, uri=letter.uri, experiment=letter.experiment, registered=letter.registered)
        except UnreachableError as error:
            if attempt == ATTEMPTS:
                return _noted(letter, Receipt(problem=str(error), unreachable=True))
            time.sleep(PAUSE_SECONDS * attempt)
        except (TrackingError, OSError, ValueError) as error:  # ValueError: what lies in the directory is no audit
            return _noted(letter, Receipt(problem=str(error)))
        else:
            had = before.told if before and before.tracked == outbox.tracked else {}
            sent = sum(had.get(item) != digest for item, digest in outbox.items.items())
            return Receipt(outbox.tracked.url if outbox.tracked else None, sent=sent, note=outbox.note)
    raise AssertionError("the last attempt returns or raises")


def main(seconds: float) -> None:
    """Answer letters until standard input ends, each within ``seconds``."""
    with _own_answers() as answers:
        for line in sys.stdin:
            signal.setitimer(signal.ITIMER_REAL, seconds)  # unhandled, the signal ends the process
            receipt = _delivered(_letter(json.loads(line)))
            answers.write(f"{json.dumps(asdict(receipt))}\n")
            answers.flush()
            signal.setitimer(signal.ITIMER_REAL, 0)


def _letter(data: Mapping[str, Any]) -> Letter:
    registered = data["registered"] and RegisteredModelConfig.model_validate(data["registered"])
    return Letter(place_of(data["run_path"]), data["uri"], data["experiment"], registered)


@contextmanager
def _own_answers() -> Iterator[TextIO]:
    """Keep standard output for answers, and send to standard error what libraries print on it."""
    with os.fdopen(os.dup(sys.stdout.fileno()), "w") as answers:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        yield answers


if __name__ == "__main__":
    main(float(sys.argv[1]))
