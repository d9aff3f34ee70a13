"""A schedule on this machine: APScheduler says when, a subprocess does the audit, the loop outlives both."""

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
"""How late a slot may begin: after a restart, or when the machine slept. Later, it is missed."""


class Schedule:
    """Audits one config at every slot, one after the other.

    Args:
        order: What to audit.
        times: When.
        count: How many audits to do; None for no end.
        grace_seconds: How late a slot may begin.

    Raises:
        ConfigErrors: If the config cannot be read now; later that costs a slot, and the next one reads it again.
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
        """End the audit that is running, and the schedule with it; safe in a signal handler."""
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
        """Return the slot to begin with at once: one that was cut short, or is due for less than the grace.

        What was due before it, while nobody was there, is noted as missed.
        """
        series, journal = self._files()
        last, known = self._times.last(now), journal.last_slot()
        if last is None or known is None:
            return None  # a new schedule begins with its next slot
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
            journal.append(SlotRecord(series, due.isoformat(), "failed", "the config could not be read"))
            LOG.error("the audit of %s cannot begin: %s", due.isoformat(), mistakes)
            return
        except OSError as fault:  # of the storage; the journal lies there too, so only the log can tell
            LOG.error("the audit of %s has no outcome: %s", due.isoformat(), fault)
            return
        self.outcomes.append(outcome)
        if self._left is not None and outcome.state != "refused":
            self._left -= 1
            if self._left <= 0:
                self.stop()

    def _on_missed(self, event: JobExecutionEvent | JobSubmissionEvent) -> None:
        """Write down at once what APScheduler left out, and why."""
        if isinstance(event, JobSubmissionEvent):
            slots, why = event.scheduled_run_times, "the audit before it was still running"
        else:
            slots, why = [event.scheduled_run_time], "it could not begin in time"
        series, journal = self._files()
        for due in slots:
            moment = due.astimezone(UTC).isoformat()
            journal.append(SlotRecord(series, moment, "missed", why))
            LOG.warning("missed the slot %s: %s", moment, why)

    def _files(self) -> tuple[str, Journal]:
        """Return the series and the journal of the config as it is now, or as it last could be read."""
        with suppress(ConfigErrors):
            self._config = self._order.read()
        return series_of(self._config), Journal.of(place_of(self._config.output), self._config.name)
