"""Alerts of a schedule: written to a file, and posted to a webhook.

The file is the record. A webhook that cannot be reached receives missed alerts at the next slot. An alert keeps its id
if its slot is evaluated again, so it is sent once.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from audit.results.comparison.trend import Called, Point, Trend
from audit.storage.files import storage_of
from audit.storage.place import Place
from ray_jobs.schedule.webhook import Undelivered, Webhook

LOG = logging.getLogger(__name__)

ALERTS = "alerts.json"

KEPT = 1000
"""Number of alerts that the file keeps, the newest ones."""


@dataclass(frozen=True)
class Alert:
    """One alert.

    Attributes:
        id: The same for the same event; a receiver can detect repetitions with it.
        kind: ``gate`` if a gate's verdict changed, ``change`` if figures changed by more than chance.
        series: The series.
        run_id: The run with the event.
        slot: When that run was due, ISO 8601 in UTC.
        subject: The gate, or the figure with the clearest change.
        before: The gate's verdict in the previous run, None if there was none; for a change, the run compared with.
        after: The gate's verdict now; for a change, the number of changed figures.
        message: The alert as a sentence.
        delivered: Whether the webhook accepted it.
    """

    id: str
    kind: Literal["gate", "change"]
    series: str
    run_id: str
    slot: str
    subject: str
    before: str | None
    after: str
    message: str
    delivered: bool = False


_ALERTS = TypeAdapter(tuple[Alert, ...])


def alerts_of(trend: Trend) -> tuple[Alert, ...]:
    """Return the alerts for the last run of a series.

    A gate raises an alert if its verdict differs from the previous run. In the first run of a series, and for a new
    gate, only a failure raises one.
    """
    if not trend.points:
        return ()
    now = trend.points[-1]
    before = trend.points[-2].gates if len(trend.points) > 1 else {}
    return (*_of_gates(trend.series, now, before), *_of_changes(trend.series, now))


def _of_gates(series: str, now: Point, before: dict[str, str]) -> Iterator[Alert]:
    for gate, verdict in now.gates.items():
        old = before.get(gate)
        if verdict != old and (old is not None or verdict == "fail"):
            was = "was not judged before" if old is None else f"was {old!r} in the previous run"
            yield Alert(
                id=f"{now.run_id}/gate/{gate}",
                kind="gate",
                series=series,
                run_id=now.run_id,
                slot=now.slot,
                subject=gate,
                before=old,
                after=verdict,
                message=f"{series}: gate {gate} is {verdict!r} in the run of {now.slot}; it {was}",
            )


def _of_changes(series: str, now: Point) -> Iterator[Alert]:
    if now.check is None or not now.check.called:
        return
    clearest, count = now.check.called[0], len(now.check.called)
    subject = in_words(clearest)
    yield Alert(
        id=f"{now.run_id}/change",
        kind="change",
        series=series,
        run_id=now.run_id,
        slot=now.slot,
        subject=subject,
        before=now.check.against,
        after=f"{count} figure{'s' if count > 1 else ''} changed",
        message=(
            f"{series}: {count} of {now.check.figures} figures of the run of {now.slot} differ from those of "
            f"{now.check.against} by more than chance; the clearest: {subject}, {clearest.first:z.3f} before, "
            f"{clearest.second:z.3f} now"
        ),
    )


def in_words(called: Called) -> str:
    """Describe a figure: ``share of female (gender) of nurse, baseline``."""
    figure = f"share of {called.group}" if called.group else called.figure.replace("_", " ")
    attribute = f" ({called.attribute})" if called.attribute else ""
    return f"{figure}{attribute} of {called.prompt_id or 'all prompts'}, {called.arm}"


def note_alerts(path: Place, found: Sequence[Alert]) -> tuple[Alert, ...]:
    """Add new alerts to the file, and return those that were not in it.

    The file is written even without alerts: an empty list shows that the run was evaluated.
    """
    known = read_alerts(path)
    ids = {alert.id for alert in known}
    new = tuple(alert for alert in found if alert.id not in ids)
    _write(path, (*known, *new))
    return new


def deliver(path: Place, webhook: Webhook) -> None:
    """Post every undelivered alert of the file, the oldest first; stop at the first failure.

    A failure is logged, and the alert stays in the file for the next slot.
    """
    alerts = list(read_alerts(path))
    for number, alert in enumerate(alerts):
        if alert.delivered:
            continue
        try:
            webhook.post(alert.id, _told(alert))
        except Undelivered as reason:
            LOG.warning("an alert is delayed to the next slot: %s", reason)
            return
        alerts[number] = replace(alert, delivered=True)
        _write(path, alerts)


def read_alerts(path: Place) -> tuple[Alert, ...]:
    """Return the alerts of a file, the oldest first; empty if there is no file, or its content is invalid."""
    try:
        data = storage_of(path.parent).read(path.name)
    except FileNotFoundError:
        return ()
    try:
        return _ALERTS.validate_python(json.loads(data)["alerts"])
    except (KeyError, TypeError, ValidationError, ValueError):
        _put_aside(path, data)
        return ()


def _told(alert: Alert) -> dict[str, Any]:
    return {name: value for name, value in asdict(alert).items() if name != "delivered"}


def _put_aside(path: Place, data: bytes) -> None:
    storage, aside = storage_of(path.parent), f"{path.name.removesuffix('.json')}.unreadable"
    storage.write(aside, data)
    storage.delete(path.name)
    LOG.warning("expected alerts in %s, found something else; the file is kept as %s", path, aside)


def _write(path: Place, alerts: Sequence[Alert]) -> None:
    data = {"version": 1, "alerts": [asdict(alert) for alert in alerts[-KEPT:]]}
    text = json.dumps(data, indent=2, ensure_ascii=False)
    storage_of(path.parent).write(path.name, f"{text}\n".encode())
