"""One slot of a schedule: the audit in a process of its own, what became of it, and who is told.

The audit runs as a subprocess, so that whatever happens to it, the schedule goes on. While it runs, this process holds
the lease of the config's name. A slot that is tried again goes on in its own run directory; one that is done is not
done again.
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
"""Of this process, as the operating system counts; its own answer goes to standard output."""

STOP_SECONDS = 30.0
"""How long an audit that is asked to stop may take to leave."""

WHATEVER_THE_GATES_SAY = ("--gate-exit-code", "0")
"""A crash of Python ends with 1, as a failed gate does; told so, the audit ends with 0 wherever it was done."""


@dataclass(frozen=True)
class Order:
    """What is audited at every slot.

    Attributes:
        config: The YAML file; it is read again at each slot.
        overrides: ``a.b=value`` settings that go before the file's.
        address: A running Ray cluster, None for this machine.
        program: What is called with ``run CONFIG …``.
        lease_seconds: How long the lease lasts when its owner dies.
    """

    config: Path
    overrides: tuple[str, ...] = ()
    address: str | None = None
    program: tuple[str, ...] = (sys.executable, "-m", "ray_jobs")
    lease_seconds: float = SECONDS

    def read(self) -> AuditConfig:
        """Read the config.

        Raises:
            ConfigErrors: Every mistake in it.
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
    """What became of a slot.

    Attributes:
        slot: Which.
        state: ``done``, ``failed``, ``interrupted`` or ``refused``.
        code: What the audit's exit code would be by itself; ``PASS`` where another process holds the lease, or the slot
            was done before.
        note: Why, in words.
        alerts: What was found worth telling.
    """

    slot: Slot
    state: State
    code: int
    note: str = ""
    alerts: tuple[Alert, ...] = ()


def run_slot(order: Order, due: datetime, times: SlotTimes | None, stop: threading.Event) -> SlotOutcome:
    """Do the audit of one slot, unless another process is at it or it is done.

    Args:
        order: What to audit.
        due: The slot, in UTC.
        times: All slots, so that those that were missed are noticed; None where they are not known.
        stop: Set from outside, it ends the audit.

    Raises:
        ConfigErrors: If the config cannot be read.
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
        LOG.warning("the audit of %s is left out: %s", due.isoformat(), reason)
        return SlotOutcome(slot, "refused", ExitCode.PASS, str(reason))
    return _told(outcome, config, journal)


def note_missed(journal: Journal, slot: Slot, times: SlotTimes | None) -> None:
    """Write down the slots between the last one that anything is known of and this one."""
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
    """Return the webhook of a config; None where it has none, or where its secret is not in the environment."""
    if alerts.webhook is None or alerts.secret_env is None:
        return None
    secret = environment.get(alerts.secret_env, "")
    if not secret:
        LOG.warning("expected a secret in the environment variable %s, found none; alerts wait", alerts.secret_env)
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
    """Start the audit in a session of its own; what it prints goes to this process's standard error."""
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=STANDARD_ERROR, start_new_session=True)


def _wait(child: subprocess.Popen[bytes], lease: Lease, stop: threading.Event) -> tuple[int, str]:
    """Wait for the audit and renew the lease; return its exit code, and why it was ended, if it was.

    Whatever is raised meanwhile, the audit ends before the lease is given back: the next slot would run beside it.
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
    """Renews a lease in a thread: a store that says nothing holds up whoever asks it, and the audit must still end."""

    def __init__(self, lease: Lease, thread: Executor) -> None:
        self._lease, self._thread = lease, thread
        self._renewal: Future[None] | None = None
        self._fault = "its storage says nothing"

    def why_lost(self) -> str:
        """Renew the lease where it is time; return why the audit cannot go on under it, nothing where it can.

        A storage that fails may be back in a moment, so it is asked again until the last third of the lease, which is
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
                LOG.warning("the lease waits to be renewed: %s", fault)
        late = self._lease.seconds_left <= self._lease.renew_seconds
        return f"the lease could not be renewed: {self._fault}" if late else ""


def _end(child: subprocess.Popen[bytes]) -> int:
    """Ask the audit to leave, and end it with all that it started where it does not."""
    child.terminate()
    try:
        return child.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        return child.wait()


def _told(outcome: SlotOutcome, config: AuditConfig, journal: Journal) -> SlotOutcome:
    """Bring the series up to date, and tell what is new in it."""
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
        return "not one of an audit"
