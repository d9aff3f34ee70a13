"""Sends audits to MLflow in a separate process that ends at a deadline.

A timeout in MLflow's client limits one request, not their sum. It does not cover a server that sends one byte per
minute, a locked database or a name service that does not answer. A process can always be ended. The process also keeps
MLflow's settings, active run and memory separate from the caller's. ``python -m reports.tracking.handover SECONDS`` is
the receiving side: it reads one letter per line from standard input and writes one answer per line to standard output.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from threading import Timer
from types import TracebackType
from typing import IO, Any, Self, TextIO

from audit.config.sections import RegisteredModelConfig
from audit.results.models.compare import MODELS
from audit.storage.outside.safe_text import redact
from audit.storage.place import Place, place_of
from audit.storage.run_directory import RunDirectory
from reports.export.audit_json import read_audit_json
from reports.tracking.outbox import REGISTERED_MODEL, filled_outbox, read_outbox

ATTEMPTS = 3
PAUSE_SECONDS = 1.0
"""Delay before the second attempt after a temporary failure; the third attempt waits twice as long."""

REQUEST_SECONDS = 10
"""Longest time for one request, unless the environment sets another limit."""
ERROR_SECONDS = 5.0
"""Time that a failed process has to write its error message."""
ORPHAN_SECONDS = 5.0
"""The process ends itself this long after the deadline, in case the caller no longer exists."""

DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # an audit sends no usage data unless the user asks for it
    "MLFLOW_LOGGING_LEVEL": "WARNING",  # do not log the creation of the first database
}
FIXED = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
"""After a lost answer, MLflow's client would repeat "create run" and create two; an attempt searches for it first."""


@dataclass(frozen=True)
class Letter:
    """One audit to send.

    Attributes:
        run_path: Its run directory.
        uri: Tracking server or database, with its password if there is one.
        experiment: MLflow experiment.
        registered: A registered model version to tag.
    """

    run_path: Place
    uri: str
    experiment: str
    registered: RegisteredModelConfig | None = None


@dataclass(frozen=True)
class Receipt:
    """The outcome of sending one letter.

    Attributes:
        url: Address of the audit in MLflow; None if it is not there, or not completely.
        problem: Why it is not there; empty if it is.
        sent: Items that the store accepted in this attempt; 0 if it had all of them.
        note: Result for a registered model's tags and alias.
        unreachable: Whether the store did not answer, so that another letter to it would fail too.
    """

    url: str | None = None
    problem: str = ""
    sent: int = 0
    note: str = ""
    unreachable: bool = False


def prepare(letter: Letter) -> None:
    """Write the run's outbox before the first request, so that the remaining items are known after any failure.

    Raises:
        OSError: The run directory lacks a file, or cannot be written to.
        ValueError: Its ``audit.json`` has an unknown schema version.
    """
    run = RunDirectory(letter.run_path)
    result = read_audit_json(run)
    filled_outbox(run, result, redact(letter.uri), letter.experiment, letter.registered).write(run)


class Messenger:
    """Delivers letters one after the other, each within a time limit.

    Attributes:
        seconds: Time limit for one letter, including the start of the process.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._process: subprocess.Popen[str] | None = None
        self._errors: IO[str] = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by __exit__

    def __enter__(self) -> Self:
        """Return itself; the first letter starts the process."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process, including a request that it still waits for."""
        self._end()
        self._errors.close()

    def deliver(self, letter: Letter) -> Receipt:
        """Send one audit; if the store fails, the receipt contains the problem.

        Raises:
            OSError: No process can be started here.
        """
        process = self._process = self._process or self._start()
        began, offset = time.monotonic(), os.fstat(self._errors.fileno()).st_size
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
            process.wait(ERROR_SECONDS)  # the traceback arrives after the end of its answers
        self._end()
        return _noted(letter, self._no_answer(took, offset))

    def _start(self) -> subprocess.Popen[str]:
        self._errors.seek(0)
        self._errors.truncate()
        return subprocess.Popen(
            [sys.executable, "-m", "reports.tracking.handover", str(self.seconds + ORPHAN_SECONDS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=environment(os.environ, self.seconds),
            start_new_session=True,  # Ctrl-C stops the caller, which then ends this process in order
        )

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with suppress(BrokenPipeError), process:  # closes its pipes and reaps it
                process.kill()

    def _no_answer(self, seconds: float, offset: int) -> Receipt:
        """Return why there was no answer: the deadline, or the last line that was logged after byte ``offset``."""
        if seconds >= self.seconds:
            return Receipt(problem=f"the tracking store took more than {self.seconds:g} s", unreachable=True)
        self._errors.seek(offset)
        last = [line.strip() for line in self._errors if line.strip()][-1:]
        return Receipt(problem=f"logging to MLflow failed: {redact(*last) if last else 'its process was killed'}")


def environment(own: Mapping[str, str], seconds: float) -> dict[str, str]:
    """Return the environment of the process: the caller's, with limits for MLflow's client unless they are set.

    Args:
        own: The caller's environment, which stays as it is.
        seconds: Time limit for one letter, and therefore for each request.
    """
    request = str(max(1, min(REQUEST_SECONDS, int(seconds / ATTEMPTS / 2))))
    bounds = {**DEFAULTS, "MLFLOW_HTTP_REQUEST_TIMEOUT": request}
    return {**bounds, **own, **FIXED, "PYTHONPATH": os.pathsep.join(sys.path)}


def _asked(process: subprocess.Popen[str], letter: Letter) -> str:
    """Send a letter and return the answer, empty if the process ends first."""
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
    """Record a problem in the run's outbox; the link is kept if only the model registry failed."""
    run = RunDirectory(letter.run_path)
    outbox = read_outbox(run)
    if outbox is None:
        return receipt
    outbox = replace(outbox, problem=receipt.problem).write(run)
    complete = outbox.tracked is not None and outbox.left == (REGISTERED_MODEL,)
    return replace(receipt, url=outbox.tracked.url if outbox.tracked and complete else None)


def _delivered(letter: Letter) -> Receipt:
    """Log one audit inside the process; retry after a temporary failure."""
    from reports.tracking.client import TrackingError, UnreachableError
    from reports.tracking.inside import kind_of, log_inside
    from reports.tracking.log import log_audit

    run = RunDirectory(letter.run_path)
    before = read_outbox(run)
    if run.has(MODELS):
        from reports.tracking.models import log_models

        return _delivered_once(letter, log_models)
    if kind_of(run) is not None:
        return _delivered_once(letter, log_inside)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            outbox = log_audit(run, uri=letter.uri, experiment=letter.experiment, registered=letter.registered)
        except UnreachableError as error:
            if attempt == ATTEMPTS:
                return _noted(letter, Receipt(problem=str(error), unreachable=True))
            time.sleep(PAUSE_SECONDS * attempt)
        except (TrackingError, OSError, ValueError) as error:  # ValueError: the directory does not hold an audit
            return _noted(letter, Receipt(problem=str(error)))
        else:
            had = before.told if before and before.tracked == outbox.tracked else {}
            sent = sum(had.get(item) != digest for item, digest in outbox.items.items())
            return Receipt(outbox.tracked.url if outbox.tracked else None, sent=sent, note=outbox.note)
    raise AssertionError("the last attempt returns or raises")


def _delivered_once(letter: Letter, log: Callable[..., str]) -> Receipt:
    """Log what is no audit. The command that made it sends it again, so a failure is only reported."""
    from reports.tracking.client import TrackingError, UnreachableError

    try:
        return Receipt(log(RunDirectory(letter.run_path), uri=letter.uri, experiment=letter.experiment), sent=1)
    except (TrackingError, OSError, ValueError) as error:
        return Receipt(problem=str(error), unreachable=isinstance(error, UnreachableError))


def main(seconds: float) -> None:
    """Answer letters until standard input ends, each within ``seconds``."""
    with _own_answers() as answers:
        for line in sys.stdin:
            signal.setitimer(signal.ITIMER_REAL, seconds)  # no handler: the signal ends the process
            receipt = _delivered(_letter(json.loads(line)))
            answers.write(f"{json.dumps(asdict(receipt))}\n")
            answers.flush()
            signal.setitimer(signal.ITIMER_REAL, 0)


def _letter(data: Mapping[str, Any]) -> Letter:
    registered = data["registered"] and RegisteredModelConfig.model_validate(data["registered"])
    return Letter(place_of(data["run_path"]), data["uri"], data["experiment"], registered)


@contextmanager
def _own_answers() -> Iterator[TextIO]:
    """Reserve standard output for answers; redirect what libraries print to standard error."""
    with os.fdopen(os.dup(sys.stdout.fileno()), "w") as answers:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        yield answers


if __name__ == "__main__":
    main(float(sys.argv[1]))
