"""A schedule on this machine: APScheduler triggers the slots, a subprocess runs each audit."""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from apscheduler.events import EVENT_JOB_MAX_INSTANCES, EVENT_JOB_MISSED, JobExecutionEvent, JobSubmissionEvent
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

from audit.config.errors import ConfigErrors
from audit.results.comparison.slots import Journal, Slot, SlotRecord, series_of
from audit.storage.place import place_of
from ray_jobs.schedule.slot import Order, SlotOutcome, note_missed, run_slot
from ray_jobs.schedule.slot_times import SlotTimes

LOG = logging.getLogger(__name__)

GRACE_SECONDS = 3600
"""Longest delay of a slot, for example after a restart or sleep. A later slot counts as missed."""


class Schedule:
    """Audits one config at every slot, one audit at a time.

    Args:
        order: The audit.
        times: The due times.
        count: Number of audits, None for no limit.
        grace_seconds: Longest delay of a slot.

    Raises:
        ConfigErrors: If the config is invalid at the start; an error later fails only the current slot.
    """

    def __init__(
        self, order: Order, times: SlotTimes, count: int | None = None, grace_seconds: int = GRACE_SECONDS
    ) -> None:
        self._order = order
        self._times = times
        self._left = count
        self._grace = timedelta(seconds=grace_seconds)
        self._stop = threading.Event()
        self._config = order.read()
        self.outcomes: list[SlotOutcome] = []

    def stop(self) -> None:
        """Stop the running audit and the schedule; safe in a signal handler."""
        self._stop.set()

    def run(self) -> None:
        """Run until ``stop`` is called, or the number of audits is reached."""
        due = self._due_at_start(datetime.now(UTC))
        if due is not None:
            self._work(due)
        scheduler = BackgroundScheduler(timezone=UTC, executors={"default": ThreadPoolExecutor(1)})
        scheduler.add_listener(self._on_missed, EVENT_JOB_MISSED | EVENT_JOB_MAX_INSTANCES)
        scheduler.add_job(
            self._on_slot,
            self._times.trigger,
            coalesce=True,
            max_instances=1,
            misfire_grace_time=max(1, int(self._grace.total_seconds())),
        )
        if not self._stop.is_set():
            LOG.info("next audit: %s", next(self._times.after(datetime.now(UTC))).isoformat())
            scheduler.start()
            self._stop.wait()
            scheduler.shutdown(wait=True)

    def _due_at_start(self, now: datetime) -> datetime | None:
        """Return the slot to start at once: an interrupted one, or one that is due within the grace period.

        Earlier slots that passed without a running schedule are recorded as missed.
        """
        series, journal = self._files()
        last, known = self._times.last(now), journal.last_slot()
        if last is None or known is None:
            return None  # a new schedule starts with its next slot
        if journal.state(Slot(series, last)) in ("started", "interrupted"):
            return last
        if last > known and now - last <= self._grace:
            return last
        note_missed(journal, Slot(series, now), self._times)
        return None

    def _on_slot(self) -> None:
        due = self._times.last(datetime.now(UTC))
        if due is not None and not self._stop.is_set():
            self._work(due)

    def _work(self, due: datetime) -> None:
        try:
            outcome = run_slot(self._order, due, self._times, self._stop)
        except ConfigErrors as mistakes:
            series, journal = self._files()
            journal.append(SlotRecord(series, due.isoformat(), "failed", "the config has errors"))
            LOG.error("the audit of %s cannot start: %s", due.isoformat(), mistakes)
            return
        except OSError as fault:  # of the storage, which also holds the journal, so only the log can report it
            LOG.error("the audit of %s has no result: %s", due.isoformat(), fault)
            return
        self.outcomes.append(outcome)
        if self._left is not None and outcome.state != "refused":
            self._left -= 1
            if self._left <= 0:
                self.stop()

    def _on_missed(self, event: JobExecutionEvent | JobSubmissionEvent) -> None:
        """Record a slot that APScheduler skipped, with the reason."""
        if isinstance(event, JobSubmissionEvent):
            slots, why = event.scheduled_run_times, "the previous audit was still running"
        else:
            slots, why = [event.scheduled_run_time], "it could not start in time"
        series, journal = self._files()
        for due in slots:
            moment = due.astimezone(UTC).isoformat()
            journal.append(SlotRecord(series, moment, "missed", why))
            LOG.warning("missed the slot %s: %s", moment, why)

    def _files(self) -> tuple[str, Journal]:
        """Return series and journal of the current config, or of the last valid one."""
        with suppress(ConfigErrors):
            self._config = self._order.read()
        return series_of(self._config), Journal.of(place_of(self._config.output), self._config.name)
