"""One slot of a schedule: runs the audit in its own process, records the outcome, and sends alerts.

The audit is a subprocess, so that the schedule survives its crash. Meanwhile this process holds the lease of the
config's name. A repeated slot resumes its own run directory; a finished slot is not run again.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from audit.config.file import read_config
from audit.config.sections import AlertsConfig
from audit.config.settings import AuditConfig
from audit.results.comparison.slots import Journal, Slot, SlotRecord, State, schedule_directory, series_of
from audit.results.comparison.trend import Trend, latest_trend
from audit.storage.files import storage_of
from audit.storage.place import Place, place_of
from ray_jobs.run.exit_codes import ExitCode, exit_code
from ray_jobs.schedule.alerts import ALERTS, Alert, alerts_of, deliver, note_alerts
from ray_jobs.schedule.lease import SECONDS, Lease, LeaseHeldError, LeaseLostError
from ray_jobs.schedule.slot_times import MOST_MISSED, SlotTimes
from ray_jobs.schedule.webhook import Webhook

LOG = logging.getLogger(__name__)

POLL_SECONDS = 0.5

STANDARD_ERROR = 2
"""Standard error of this process; its own results go to standard output."""

STOP_SECONDS = 30.0
"""Time that an audit has to exit after a request to stop."""

WHATEVER_THE_GATES_SAY = ("--gate-exit-code", "0")
"""Python crashes exit with 1, like a failed gate. With this option, a failed gate exits with 0 instead."""


@dataclass(frozen=True)
class Order:
    """The audit of every slot.

    Attributes:
        config: The YAML file; it is read again for each slot.
        overrides: ``a.b=value`` settings that override the file.
        address: A running Ray cluster, None for this machine.
        program: Command that is called with ``run CONFIG …``.
        lease_seconds: Duration of the lease if its owner dies.
    """

    config: Path
    overrides: tuple[str, ...] = ()
    address: str | None = None
    program: tuple[str, ...] = (sys.executable, "-m", "ray_jobs")
    lease_seconds: float = SECONDS

    def read(self) -> AuditConfig:
        """Read the config.

        Raises:
            ConfigErrors: Every error in it.
        """
        return read_config(self.config, self.overrides)

    def command(self, slot: Slot) -> list[str]:
        """Return the command of one slot's audit."""
        options = [part for override in self.overrides for part in ("--set", override)]
        options += ["--address", self.address] if self.address else []
        return [
            *self.program,
            "run",
            str(self.config),
            "--slot",
            slot.time.isoformat(),
            *WHATEVER_THE_GATES_SAY,
            *options,
        ]


@dataclass(frozen=True)
class SlotOutcome:
    """Outcome of a slot.

    Attributes:
        slot: The slot.
        state: ``done``, ``failed``, ``interrupted`` or ``refused``.
        code: The audit's own exit code; ``PASS`` if another process holds the lease, or if the slot was already done.
        note: The reason as text.
        alerts: New alerts.
    """

    slot: Slot
    state: State
    code: int
    note: str = ""
    alerts: tuple[Alert, ...] = ()


def run_slot(order: Order, due: datetime, times: SlotTimes | None, stop: threading.Event) -> SlotOutcome:
    """Run the audit of one slot, unless another process runs it or it is done.

    Args:
        order: The audit.
        due: The slot, in UTC.
        times: All slots, to find missed ones; None if they are unknown.
        stop: Event that stops the audit.

    Raises:
        ConfigErrors: If the config has errors.
    """
    config = order.read()
    slot = Slot(series_of(config), due)
    output = place_of(config.output)
    journal = Journal.of(output, config.name)
    note_missed(journal, slot, times)
    if journal.state(slot) == "done":
        return SlotOutcome(slot, "done", ExitCode.PASS, "it was done before")
    lease = Lease(schedule_directory(output, config.name), order.lease_seconds)
    try:
        with lease.held():
            outcome = _audit(order, slot, journal, lease, stop)
    except LeaseHeldError as reason:
        journal.append(SlotRecord(slot.series, due.isoformat(), "refused", str(reason)))
        LOG.warning("the audit of %s is skipped: %s", due.isoformat(), reason)
        return SlotOutcome(slot, "refused", ExitCode.PASS, str(reason))
    return _told(outcome, config, journal)


def note_missed(journal: Journal, slot: Slot, times: SlotTimes | None) -> None:
    """Record the slots between the last recorded one and this one as missed."""
    since = journal.last_slot()
    missed = times.between(since, slot.time) if times and since else ()
    if not missed:
        return
    first, last, count = missed[0], missed[-1], len(missed)
    until = "" if count == 1 else last.isoformat()
    note = "no schedule was running" + (f"; {MOST_MISSED} or more" if count == MOST_MISSED else "")
    journal.append(SlotRecord(slot.series, first.isoformat(), "missed", note, until, count))
    span = first.isoformat() + (f" to {until}" if until else "")
    LOG.warning("missed %d slot%s of %s: %s", count, "s" if count > 1 else "", slot.series, span)


def webhook_of(alerts: AlertsConfig, environment: Mapping[str, str]) -> Webhook | None:
    """Return the webhook of a config; None if it has none, or if its secret is missing in the environment."""
    if alerts.webhook is None or alerts.secret_env is None:
        return None
    secret = environment.get(alerts.secret_env, "")
    if not secret:
        LOG.warning("expected a secret in environment variable %s, found none; alerts are delayed", alerts.secret_env)
        return None
    return Webhook(alerts.webhook, secret)


def _audit(order: Order, slot: Slot, journal: Journal, lease: Lease, stop: threading.Event) -> SlotOutcome:
    due = slot.time.isoformat()
    journal.append(SlotRecord(slot.series, due, "started"))
    LOG.info("audit of %s: %s", due, slot.run_id)
    code, note = _wait(_start(order.command(slot)), lease, stop)
    state: State = "failed" if code else "done"
    if note:
        state = "interrupted"
    elif state == "failed":
        note = f"ended by signal {-code}" if code < 0 else f"exit code {code} ({_meaning(code)})"
    journal.append(SlotRecord(slot.series, due, state, note))
    LOG.log(logging.INFO if state == "done" else logging.WARNING, "audit of %s: %s %s", due, state, note)
    return SlotOutcome(slot, state, code if code >= 0 else ExitCode.INFRASTRUCTURE, note)


def _start(command: list[str]) -> subprocess.Popen[bytes]:
    """Start the audit in a new session, with its output on this process's standard error."""
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=STANDARD_ERROR, start_new_session=True)


def _wait(child: subprocess.Popen[bytes], lease: Lease, stop: threading.Event) -> tuple[int, str]:
    """Wait for the audit and renew the lease; return its exit code, and the reason if it was stopped.

    After any exception the audit is stopped before the lease is released; otherwise the next slot could overlap it.
    """
    with ThreadPoolExecutor(1) as thread:
        keeper = _Keeper(lease, thread)
        try:
            while True:
                with suppress(subprocess.TimeoutExpired):
                    return child.wait(POLL_SECONDS), ""
                why = "the schedule was stopped" if stop.is_set() else keeper.why_lost()
                if why:
                    return _end(child), why
        finally:
            if child.returncode is None:
                _end(child)


class _Keeper:
    """Renews a lease in a thread, since storage that does not answer must not block the end of the audit."""

    def __init__(self, lease: Lease, thread: Executor) -> None:
        self._lease, self._thread = lease, thread
        self._renewal: Future[None] | None = None
        self._fault = "its storage does not answer"

    def why_lost(self) -> str:
        """Renew the lease if it is due; return why the audit must stop, or an empty text.

        A failed renewal is retried until the last third of the lease. That time is reserved for stopping the audit.
        left for the audit to leave in.
        """
        if self._renewal is None:
            if self._lease.seconds_left > 2 * self._lease.renew_seconds:
                return ""
            self._renewal = self._thread.submit(self._lease.renew)
        if wait([self._renewal], POLL_SECONDS).done:
            renewal, self._renewal = self._renewal, None
            try:
                renewal.result()
            except LeaseLostError as reason:
                return str(reason)
            except OSError as fault:
                self._fault = str(fault)
                LOG.warning("the renewal of the lease is delayed: %s", fault)
        late = self._lease.seconds_left <= self._lease.renew_seconds
        return f"the lease could not be renewed: {self._fault}" if late else ""


def _end(child: subprocess.Popen[bytes]) -> int:
    """Ask the audit to exit; kill its process group if it does not."""
    child.terminate()
    try:
        return child.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        return child.wait()


def _told(outcome: SlotOutcome, config: AuditConfig, journal: Journal) -> SlotOutcome:
    """Update the series, and raise alerts for what is new in it."""
    output = place_of(config.output)
    directory = schedule_directory(output, config.name)
    slot = outcome.slot
    trend = latest_trend(output, slot, journal.gaps(slot.series, slot.time))
    _write_series(directory, trend)
    own = bool(trend.points) and trend.points[-1].run_id == slot.run_id
    new = note_alerts(directory / ALERTS, alerts_of(trend) if own else ())
    for alert in new:
        LOG.warning("%s", alert.message)
    webhook = webhook_of(config.alerts, os.environ)
    if webhook is not None:
        deliver(directory / ALERTS, webhook)
    code = exit_code(trend.points[-1].verdict, complete=True) if own and outcome.state == "done" else outcome.code
    return SlotOutcome(slot, outcome.state, code, outcome.note, new)


def _write_series(directory: Place, trend: Trend) -> None:
    text = json.dumps(asdict(trend), indent=2, ensure_ascii=False)
    storage_of(directory).write(f"{trend.series}.json", f"{text}\n".encode())


def _meaning(code: int) -> str:
    if code == ExitCode.GATE_FAILED:
        return "a crash"
    try:
        return ExitCode(code).name.lower().replace("_", " ")
    except ValueError:
        return "not an exit code of an audit"
