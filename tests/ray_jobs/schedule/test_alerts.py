"""Tests alerts: a changed gate or figure raises one alert, first in the file, then to the webhook."""

import json

import pytest

from audit.results.comparison.trend import Called, Check, Point, Trend
from ray_jobs.schedule.alerts import alerts_of, deliver, note_alerts, read_alerts
from ray_jobs.schedule.webhook import Undelivered

CALLED = Called("baseline", "nurse", "gender", "share", "female", 0.9, 0.1, -0.95, -0.65, 1e-9, "changed")


class Inbox:
    """A webhook that records posts until it refuses."""

    def __init__(self):
        self.taken, self.refuses = [], False

    def post(self, event_id, data):
        if self.refuses:
            raise Undelivered("expected it to accept a post, found it unreachable")
        self.taken.append((event_id, data))


def point(number, check=None, **gates):
    return Point(f"2026-01-0{number}T03:00:00+00:00", f"weekly-{number}", "pass", gates, (), check)


def shown(*points):
    return [(alert.kind, alert.subject, alert.before, alert.after) for alert in alerts_of(Trend("weekly", points))]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("pass", "pass", []),
        ("pass", "fail", [("gate", "fair", "pass", "fail")]),
        ("fail", "pass", [("gate", "fair", "fail", "pass")]),
        ("pass", "inconclusive", [("gate", "fair", "pass", "inconclusive")]),
    ],
)
def test_a_gate_raises_an_alert_if_its_verdict_differs_from_the_previous_run(before, after, expected):
    assert shown(point(1, fair=before), point(2, fair=after)) == expected


def test_at_first_only_a_failure_is_news():
    assert shown(point(1, fair="pass", kept="inconclusive")) == []
    assert shown(point(1, fair="fail")) == [("gate", "fair", None, "fail")]
    assert shown(point(1), point(2, added="pass")) == []
    assert alerts_of(Trend("weekly", ())) == ()


def test_a_called_change_is_one_alert_that_names_the_clearest_figure():
    check = Check("weekly-1", 0.025, 40, True, (), (CALLED, CALLED))
    [alert] = alerts_of(Trend("weekly", (point(1), point(2, check))))
    assert (alert.kind, alert.before, alert.after) == ("change", "weekly-1", "2 figures changed")
    assert alert.subject == "share of female (gender) of nurse, baseline"
    assert "2 of 40 figures" in alert.message
    assert "0.900 before, 0.100 now" in alert.message


def test_a_slot_that_is_evaluated_twice_raises_one_alert(tmp_path):
    alerts = alerts_of(Trend("weekly", (point(1, fair="pass"), point(2, fair="fail"))))
    file, inbox = tmp_path / "alerts.json", Inbox()
    assert note_alerts(file, alerts) == alerts
    assert note_alerts(file, alerts) == ()
    deliver(file, inbox)
    deliver(file, inbox)
    assert [event_id for event_id, _ in inbox.taken] == ["weekly-2/gate/fair"]
    assert "delivered" not in inbox.taken[0][1]


def test_what_the_webhook_missed_it_gets_later_in_order(tmp_path, caplog):
    file, inbox = tmp_path / "alerts.json", Inbox()
    inbox.refuses = True
    for number in (2, 3):
        before, after = ("pass", "fail") if number == 2 else ("fail", "pass")
        note_alerts(file, alerts_of(Trend("weekly", (point(number - 1, fair=before), point(number, fair=after)))))
        deliver(file, inbox)
    assert [alert.delivered for alert in read_alerts(file)] == [False, False]
    assert "is delayed to the next slot" in caplog.text
    inbox.refuses = False
    deliver(file, inbox)
    assert [event_id for event_id, _ in inbox.taken] == ["weekly-2/gate/fair", "weekly-3/gate/fair"]
    assert all(alert.delivered for alert in read_alerts(file))


def test_the_file_is_written_even_without_alerts(tmp_path):
    note_alerts(tmp_path / "alerts.json", ())
    assert json.loads((tmp_path / "alerts.json").read_text()) == {"version": 1, "alerts": []}


def test_a_file_of_something_else_is_put_aside_and_not_lost(tmp_path, caplog):
    file = tmp_path / "alerts.json"
    file.write_text('{"mine": 1}')
    assert read_alerts(file) == ()
    assert (tmp_path / "alerts.unreadable").read_text() == '{"mine": 1}'
    assert "expected alerts" in caplog.text
