"""Progress of an audit: a bar on a terminal, a log line every few shards, ``progress.json`` for programs."""

from __future__ import annotations

import logging
import os
import socket
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Literal, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from audit.records.work import ShardReceipt
from audit.storage.outside.safe_text import printable, redact
from audit.storage.run_directory import PROGRESS, RunDirectory
from ray_jobs.run.progress.driver_process import this_process

LOG = logging.getLogger(__name__)

State = Literal["running", "done", "incomplete", "failed", "interrupted"]

LOG_LINES = 20
"""Lines in a log for a whole audit, independent of its size."""

WRITE_SECONDS = 1.0
"""Shortest time between two writes of ``progress.json``."""

DRIVER = uuid.uuid4().hex
"""Identifies this process: a restarted container often has its old host name and process number."""


@dataclass(frozen=True)
class Snapshot:
    """Progress of an audit; ``progress.json`` is this record.

    Attributes:
        state: ``running``; ``done``; ``incomplete`` when shards are missing at the end; ``failed`` when an error ended
            the audit; ``interrupted`` when a person did.
        done: Finished shards, those of earlier tries included.
        total: Shards in the plan.
        failed: Shards that failed in this attempt.
        images: Images made in this try, over all arms.
        images_per_second: Rate of this try, the start of the workers included.
        eta_seconds: Expected time to the end at this try's rate, None before its first shard.
        host: Machine of the driver.
        pid: Process of the driver there.
        driver: The driver's ``DRIVER``.
        updated: When this was written, UTC in ISO 8601.
        pid_space: Machine and container that the process number belongs to; empty if the system does not say.
        pid_start: Start of the process there, None likewise.
    """

    state: State
    done: int
    total: int
    failed: int
    images: int
    images_per_second: float
    eta_seconds: float | None
    host: str
    pid: int
    driver: str
    updated: str
    pid_space: str = ""
    pid_start: int | None = None


class Progress:
    """Counts shards and shows the progress.

    Args:
        run: The run directory that gets ``progress.json``.
        total: Shards in the plan.
        done: Shards that an earlier try finished.
        stream: Where a person reads: a bar if it is a terminal, lines otherwise.
    """

    def __init__(self, run: RunDirectory, total: int, done: int, stream: TextIO) -> None:
        """Start counting and measuring time."""
        self._run, self._total, self._done, self._already = run, total, done, done
        self._failed = self._images = 0
        self._started = time.monotonic()
        self._written = float("-inf")
        self._console = Console(file=stream, soft_wrap=True, highlight=False)
        self._bar = self._new_bar() if self._console.is_terminal else None

    def finished(self, receipt: ShardReceipt) -> None:
        """Count a finished shard."""
        self._done += 1
        self._images += receipt.images
        self._tell()

    def failed(self, shard_id: str, reason: str) -> None:
        """Count a failed shard and print the reason at once, since the audit may run for hours."""
        self._failed += 1
        self._console.print(printable(redact(f"shard {shard_id} failed: {reason}")), markup=False)
        self._tell()

    @property
    def left(self) -> int:
        """Shards that are neither finished nor failed."""
        return self._total - self._done - self._failed

    def snapshot(self, state: State) -> Snapshot:
        """Return the progress."""
        seconds = time.monotonic() - self._started
        in_this_try = self._done - self._already
        return Snapshot(
            state=state,
            done=self._done,
            total=self._total,
            failed=self._failed,
            images=self._images,
            images_per_second=round(self._images / seconds, 3) if seconds else 0.0,
            eta_seconds=round(seconds / in_this_try * self.left, 1) if in_this_try else None,
            host=socket.gethostname(),
            pid=os.getpid(),
            driver=DRIVER,
            updated=datetime.now(UTC).isoformat(timespec="seconds"),
            **this_process(),
        )

    def begin(self) -> None:
        """Show the bar or the first line."""
        self._write("running")
        if self._bar is not None:
            self._bar.start()
        else:
            self._print_line(self.snapshot("running"))

    def end(self, state: State) -> None:
        """Write the final state."""
        self._write(state)
        if self._bar is not None:
            self._bar.stop()

    def _tell(self) -> None:
        now = time.monotonic()
        if now - self._written >= WRITE_SECONDS:
            self._write("running")
        settled = self._done + self._failed
        if self._bar is not None:
            rate = self.snapshot("running").images_per_second
            self._bar.update(self._bar.task_ids[0], completed=settled, failed=self._failed, rate=rate)
        elif settled == self._total or settled % max(1, self._total // LOG_LINES) == 0:
            self._print_line(self.snapshot("running"))

    def _write(self, state: State) -> None:
        self._written = time.monotonic()
        try:
            self._run.write_json(PROGRESS, asdict(self.snapshot(state)))
        except OSError as error:  # a full disk must not stop the audit here; results fail with a clear error
            LOG.warning("%s could not be written: %s", PROGRESS, error)

    def _print_line(self, now: Snapshot) -> None:
        failed = f", {now.failed} failed" if now.failed else ""
        rate = f", {now.images_per_second:.1f} images/s" if now.images else ""
        eta = f", {_duration(now.eta_seconds)} left" if now.eta_seconds else ""
        self._console.print(f"{now.done} of {now.total} shards{failed}{rate}{eta}", markup=False)

    def _new_bar(self) -> Bar:
        bar = Bar(
            TextColumn("shards"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:.1f} images/s"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[failed]} failed"),
            console=self._console,
        )
        bar.add_task("shards", total=self._total, completed=self._already, rate=0.0, failed=0)
        return bar


@contextmanager
def show_progress(
    run: RunDirectory, total: int, done: int, stream: TextIO | None = None, *, last: bool = True
) -> Iterator[Progress]:
    """Show progress inside the block and record how it ended; an audit is ``done`` only after its last block.

    Leaving the block with shards missing is ``incomplete``; an exception is ``failed``, Ctrl-C ``interrupted``. The
    default stream is stderr: stdout belongs to the answer.
    """
    progress = Progress(run, total, done, stream or sys.stderr)
    progress.begin()
    state: State = "failed"
    try:
        yield progress
        whole = progress.snapshot("running").done == total
        state = "running" if not last else "done" if whole else "incomplete"
    except KeyboardInterrupt:
        state = "interrupted"
        raise
    finally:
        progress.end(state)


def _duration(seconds: float) -> str:
    """Return ``45 s``, ``12 min`` or ``3.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
