"""Alerts of a schedule: a file beside the series, and from it a webhook.

The file comes first and is the record; a webhook that cannot be reached gets what it missed at the next slot. An alert
has an id that is the same however often its slot is looked at, so it is told once.
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
"""Alerts that the file keeps, the newest."""


@dataclass(frozen=True)
class Alert:
    """One thing that somebody should know.

    Attributes:
        id: The same for the same fact; a receiver can tell a repetition by it.
        kind: ``gate`` where a gate changed state, ``change`` where figures did, more than by chance.
        series: The series.
        run_id: The run that shows it.
        slot: When that run was due, ISO 8601 in UTC.
        subject: The gate, or what changed most.
        before: The gate's verdict in the run before, None where there was none; of a change the run compared with.
        after: The gate's verdict now; of a change how many figures were called.
        message: All of it in a sentence.
        delivered: Whether the webhook took it.
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
    """Return what the last run of a series gives reason to tell.

    A gate is told where its verdict differs from the run before. In the first run of a series, and for a gate that was
    just added, only a failure is news.
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
            was = "was not judged before" if old is None else f"was {old!r} in the run before"
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
    """Name a figure: ``share of female (gender) of nurse, baseline``."""
    figure = f"share of {called.group}" if called.group else called.figure.replace("_", " ")
    attribute = f" ({called.attribute})" if called.attribute else ""
    return f"{figure}{attribute} of {called.prompt_id or 'all prompts'}, {called.arm}"


def note_alerts(path: Place, found: Sequence[Alert]) -> tuple[Alert, ...]:
    """Add alerts to the file, each once; return those that were not in it.

    The file is written even where there is nothing to tell: an empty list says that somebody looked.
    """
    known = read_alerts(path)
    ids = {alert.id for alert in known}
    new = tuple(alert for alert in found if alert.id not in ids)
    _write(path, (*known, *new))
    return new


def deliver(path: Place, webhook: Webhook) -> None:
    """Post every alert of the file that the webhook has not taken, the oldest first; stop at the first refusal.

    What cannot be delivered is told in the log and stays in the file for the next slot.
    """
    alerts = list(read_alerts(path))
    for number, alert in enumerate(alerts):
        if alert.delivered:
            continue
        try:
            webhook.post(alert.id, _told(alert))
        except Undelivered as reason:
            LOG.warning("an alert waits for the next slot: %s", reason)
            return
        alerts[number] = replace(alert, delivered=True)
        _write(path, alerts)


def read_alerts(path: Place) -> tuple[Alert, ...]:
    """Return the alerts of a file, the oldest first; none where there is no file, or one that is no list of alerts."""
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
    LOG.warning("expected alerts in %s, found something else; it is kept as %s", path, aside)


def _write(path: Place, alerts: Sequence[Alert]) -> None:
    data = {"version": 1, "alerts": [asdict(alert) for alert in alerts[-KEPT:]]}
    text = json.dumps(data, indent=2, ensure_ascii=False)
    storage_of(path.parent).write(path.name, f"{text}\n".encode())
