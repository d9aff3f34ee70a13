"""Tests the series in a scheduled run's report: points with intervals, changes and gaps."""

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from audit.results.comparison.slots import SlotRecord
from audit.results.comparison.trend import Called, Check, Headline, Point, Trend
from reports.figures.pictures import Pictures
from reports.figures.trend import CALLED_SHOWN, trend_section
from reports.html import render

CALLED = Called("baseline", "fire-fighter", "gender", "share", "female", 0.9, 0.125, -0.95, -0.65, 1e-9, "changed")
GAP = SlotRecord("weekly", "2026-01-26T03:00:00+00:00", "failed", "exit code 4 <b>")


def point(week, value, check=None, edited=0.1):
    headlines = (
        Headline("baseline", "gender", value, value - 0.05, value + 0.05, 3),
        Headline("mended", "gender", edited, None, None, 1),
    )
    return Point(f"2026-01-{5 + 7 * week:02d}T03:00:00+00:00", f"weekly-{week}", "pass", {}, headlines, check)


@pytest.fixture
def trend():
    quiet = Check("weekly-0", 0.025, 40, True)
    loud = Check("weekly-0", 0.008, 40, True, ("model_fingerprint",), (CALLED,) * 20)
    return Trend("weekly", (point(0, 0.3), point(1, 0.3, quiet), point(2, 0.6, loud)), (GAP,))


def marks(svg):
    """Titles of the marks."""
    return [
        group.find("title").text for group in ElementTree.fromstring(svg).iter("g") if group.find("title") is not None
    ]


def test_every_point_is_in_chart_and_table_with_its_interval(trend):
    [figure] = trend_section(trend).figures
    assert marks(figure.svg) == [
        text
        for date, value in (
            ("2026-01-05", "0.30 [0.25, 0.35]"),
            ("2026-01-12", "0.30 [0.25, 0.35]"),
            ("2026-01-19", "0.60 [0.55, 0.65]"),
        )
        for text in (f"{date}: {value}", f"{date}: 0.10")
    ]
    assert [row[0] for row in figure.table.rows] == ["2026-01-05 03:00", "2026-01-12 03:00", "2026-01-19 03:00"]
    assert [row[-1] for row in figure.table.rows] == ["first run", "none in 40, paired", "20 of 40 figures, paired"]


def test_a_run_that_measured_mean_probabilities_is_in_no_line_and_named(trend):
    old = replace(trend, points=(replace(trend.points[0], soft=True), *trend.points[1:]))
    section = trend_section(old)
    [figure] = section.figures
    assert len(marks(figure.svg)) == 4
    assert figure.table.rows[0][1:3] == ("0.300 [0.250, 0.350] (soft)", "0.100 (soft)")
    assert "soft" not in " ".join(figure.table.rows[1])
    assert section.warnings[0].startswith("Runs up to 2026-01-05 03:00 measured discrepancies")
    assert len(section.warnings) == 1 + len(trend_section(trend).warnings)


def test_slots_of_one_day_are_labelled_by_time(trend):
    """As in a schedule that runs every hour."""
    [figure] = trend_section(trend).figures
    assert ">2026-01-12<" in figure.svg
    day = [replace(one, slot=f"2026-01-05T0{hour}:00:00+00:00") for hour, one in enumerate(trend.points, start=3)]
    [figure] = trend_section(replace(trend, points=tuple(day), gaps=())).figures
    assert all(f">0{hour}:00<" in figure.svg for hour in (3, 4, 5))
    assert ">2026-01-05<" not in figure.svg


def test_a_later_date_is_further_right_and_a_larger_value_is_higher(trend):
    [figure] = trend_section(trend).figures
    first = next(ElementTree.fromstring(figure.svg).iter("polyline"))
    points = [tuple(map(float, pair.split(","))) for pair in first.get("points").split()]
    (x0, y0), (x1, y1), (x2, y2) = points
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert y0 == y1 > y2


def test_a_change_is_a_line_across_and_rows_of_its_clearest_figures(trend):
    section = trend_section(trend)
    events = [
        line for line in ElementTree.fromstring(section.figures[0].svg).iter("line") if line.get("class") == "reference"
    ]
    assert len(events) == 1
    assert len(section.called.rows) == CALLED_SHOWN
    assert section.called.rows[0][:4] == ("2026-01-19 03:00", "share of female (gender)", "fire fighter", "baseline")
    assert section.sentence == "In 1 of 3 runs figures changed by more than chance: 2026-01-19 03:00."
    assert "model_fingerprint" in section.warnings[0]


def test_a_series_without_changes_states_this_and_a_first_run_has_no_chart(trend):
    quiet = Trend("weekly", trend.points[:2])
    assert trend_section(quiet).sentence == "In 2 runs no figure changed by more than chance."
    assert (trend_section(quiet).called, trend_section(quiet).gaps) == (None, None)
    assert trend_section(Trend("weekly", trend.points[:1])).figures == ()


def test_a_run_that_no_schedule_made_has_no_such_section(result):
    assert trend_section(None) is None
    assert 'id="trend"' not in render(result, Pictures({}, {}))


def test_the_report_holds_the_series_and_what_is_hostile_in_it_stays_text(result, trend):
    html = render(result, Pictures({}, {}), trend)
    assert 'href="#trend"' in html
    assert "exit code 4 &lt;b&gt;" in html
    assert "exit code 4 <b>" not in html
