"""Tests charts: accessible, safe with hostile text, and with marks at the right positions."""

import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from reports.charts.axis import Axis, Mark
from reports.charts.bars import Bar, BarRow, stacked_bars
from reports.charts.dumbbell import Row, dumbbell
from reports.charts.heatmap import HeatRow, heatmap
from reports.charts.lines import Series, lines
from reports.charts.svg import Frame

FRAME = Frame("chart", "A title", "A description")
SHARE = Axis("share", 1.0, True, 0.5, "target")
HOSTILE = "<script>alert(1)</script>"


def drawings(label="doctor", frame=FRAME):
    row = Row(label, (Mark(0.9, 0.8, 0.95), Mark(0.5, 0.4, 0.6)))
    return {
        "dumbbell": dumbbell(frame, SHARE, ["baseline", label], [row]),
        "stacked_bars": stacked_bars(frame, ["baseline"], [label, "old"], [BarRow(label, (Bar(0, (0.25, 0.75)),))]),
        "heatmap": heatmap(frame, [label], [HeatRow(label, (0.3,), opens_block=True)]),
        "lines": lines(frame, label, [Series(label, (0.2, 0.1))]),
    }


def marks_of(svg):
    """Return the groups with a value; each has its own title."""
    return [group for group in svg.iter("g") if group.find("title") is not None]


@pytest.mark.parametrize("kind", list(drawings()))
def test_every_chart_has_a_role_a_title_and_a_description(kind):
    svg = ElementTree.fromstring(drawings()[kind])
    assert svg.get("role") == "img"
    assert [svg[0].tag, svg[1].tag] == ["title", "desc"]
    assert (svg[0].text, svg[1].text) == ("A title", "A description")
    assert svg.get("aria-labelledby").split() == [svg[0].get("id"), svg[1].get("id")]


@pytest.mark.parametrize("kind", list(drawings()))
def test_hostile_labels_stay_text(kind):
    frame = Frame('x" onload="alert(1)', HOSTILE, HOSTILE)
    svg = drawings(HOSTILE, frame)[kind]
    tree = ElementTree.fromstring(svg)
    assert "<script" not in svg
    assert not [element for element in tree.iter() if "onload" in element.attrib or element.tag == "script"]


@pytest.mark.parametrize("kind", list(drawings()))
def test_no_chart_names_an_address(kind):
    assert not re.search(r"https?:|href|url\(", drawings()[kind])


def test_marks_are_placed_in_proportion():
    marks = tuple(Mark(value) for value in (0.0, 0.5, 1.0))
    rows = [Row("a", (mark,)) for mark in marks]
    svg = ElementTree.fromstring(dumbbell(FRAME, SHARE, ["baseline"], rows))
    left, middle, right = (float(group.find("circle").get("cx")) for group in marks_of(svg))
    assert middle - left == pytest.approx(right - middle, abs=0.2)


def test_arms_differ_in_shape_not_only_in_colour():
    row = Row("a", (Mark(0.1), Mark(0.5), Mark(0.9)))
    svg = ElementTree.fromstring(dumbbell(FRAME, SHARE, ["baseline", "b", "c"], [row]))
    shapes = [(group[-1].tag, re.sub(r"^M[\d. -]+", "", group[-1].get("d", ""))) for group in marks_of(svg)]
    assert len(set(shapes)) == 3


def test_a_legend_wraps_instead_of_leaving_the_chart():
    arms = [f"a mitigation named {number}" for number in range(4)]
    row = Row("a", (Mark(0.1),) * 4)
    svg = ElementTree.fromstring(dumbbell(Frame("k", "t", "d", 400.0), SHARE, arms, [row]))
    places = [re.findall(r"[\d.]+", group.get("transform")) for group in svg.iter("g") if group.get("transform")]
    assert len(places) == 4
    assert len({y for _, y in places}) > 1
    assert all(float(x) + 7 * len(arms[0]) < 400 for x, _ in places)


def test_an_arm_without_a_value_leaves_no_mark():
    rows = [Row("a", (Mark(0.2), None)), Row("b", (None, None))]
    svg = dumbbell(FRAME, SHARE, ["baseline", "edited"], rows)
    assert len(marks_of(ElementTree.fromstring(svg))) == 1
    assert "nothing classified" in svg


def test_stacked_segments_fill_the_bar_in_proportion():
    rows = [BarRow("a", (Bar(0, (0.2, 0.3, 0.5)),))]
    svg = ElementTree.fromstring(stacked_bars(FRAME, ["baseline"], ["x", "y", "z"], rows))
    widths = [float(group.find("rect").get("width")) for group in marks_of(svg)]
    assert [width / sum(widths) for width in widths] == pytest.approx([0.2, 0.3, 0.5], abs=0.001)


def test_strong_cells_of_a_heatmap_carry_their_sign():
    rows = [HeatRow("a", (1.0, -1.0, 0.01))]
    svg = ElementTree.fromstring(heatmap(FRAME, ["x", "y", "z"], rows))
    signs = [text.text for text in svg.iter("text") if (text.get("class") or "").startswith("on-heat")]
    assert signs == ["+", "−"]


def test_labels_at_the_ends_of_lines_do_not_overlap():
    series = [Series(name, (0.5, 0.9)) for name in "abc"]
    svg = ElementTree.fromstring(lines(FRAME, "accuracy", series))
    places = sorted(float(text.get("y")) for text in svg.iter("text") if text.text in {"a", "b", "c"})
    assert min(b - a for a, b in pairwise(places)) >= 12


@pytest.mark.parametrize("high", [0.05, 0.2, 0.4, 0.7, 1.0])
def test_ticks_are_round_and_few(high):
    axis = Axis("", high, False)
    assert 2 <= len(axis.ticks) <= 6
    assert all(round(tick, 2) == pytest.approx(tick) for tick in axis.ticks)


def test_a_row_with_its_own_target_has_its_own_dashed_line():
    rows = [Row(name, (Mark(0.5),), target) for name, target in (("a", 0.25), ("b", 0.75))]
    axis = Axis("", 1.0, True)
    svg = ElementTree.fromstring(dumbbell(FRAME, axis, ["baseline"], rows))
    lines = [line for line in svg.iter("line") if line.get("class") == "reference"]
    circles = [float(circle.get("cx")) for circle in svg.iter("circle") if float(circle.get("cy")) > 40]
    places = [float(line.get("x1")) for line in lines]
    ends = [(float(line.get("y1")), float(line.get("y2"))) for line in lines]
    assert ends[0][1] < ends[1][0]
    apart = (places[1] - places[0]) / 2
    assert [place - circles[-1] for place in places] == pytest.approx([-apart, apart], abs=0.2)


def test_a_chart_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one row"):
        dumbbell(FRAME, SHARE, ["baseline"], [])
    with pytest.raises(ValueError, match="at least one column"):
        heatmap(FRAME, [], [HeatRow("a", ())])
    with pytest.raises(ValueError, match="value in series 'a'"):
        lines(FRAME, "accuracy", [Series("a", ())])
