"""Charts of lines beside bands, and small maps."""

import re

import pytest

from reports.charts.banded import BandedLine, banded_lines
from reports.charts.small_map import small_map
from reports.charts.svg import Frame

FRAME = Frame("k", "A <title>", "A description", 430.0)


def line(name="deletion", values=(0.9, 0.7, 0.5)):
    return BandedLine(name, values, tuple(v - 0.1 for v in values), tuple(v + 0.1 for v in values))


def test_a_line_and_its_band_have_a_point_for_each_value():
    svg = banded_lines(FRAME, "probability", [line(), line("insertion", (0.4, 0.5, 0.6))], along="features")
    assert svg.count("<polygon") == svg.count("<polyline") == 2
    [first, *_] = re.findall(r'<polygon class="range" points="([^"]*)"', svg)
    assert len(first.split()) == 6
    assert "A &lt;title&gt;" in svg
    assert "2 features" in svg


def test_the_axis_covers_the_tenths_of_all_values():
    svg = banded_lines(FRAME, "probability", [line()], along="features")
    ticks = [float(text) for text in re.findall(r">(\d\.\d)</text>", svg)]
    assert (min(ticks), max(ticks)) == (0.4, 1.0)


def test_a_higher_value_is_drawn_higher_and_the_last_one_at_the_right():
    svg = banded_lines(FRAME, "probability", [line()], along="features")
    [points] = re.findall(r'<polyline[^>]*points="([^"]*)"', svg)
    xs, ys = zip(*(map(float, point.split(",")) for point in points.split()), strict=True)
    assert list(xs) == sorted(xs)
    assert list(ys) == sorted(ys)


def test_a_constant_line_has_an_axis():
    constant = BandedLine("deletion", (0.5, 0.5), (0.5, 0.5), (0.5, 0.5))
    assert "nan" not in banded_lines(FRAME, "probability", [constant], along="features")


def test_names_at_the_ends_do_not_overlap():
    svg = banded_lines(FRAME, "probability", [line(), line("insertion")], along="features")
    ends = [float(y) for y in re.findall(r'class="v ink\d" x="[^"]*" y="([^"]*)"', svg)]
    assert abs(ends[0] - ends[1]) >= 15


def test_no_line_and_a_single_value_are_refused():
    with pytest.raises(ValueError, match="at least one line"):
        banded_lines(FRAME, "probability", [], along="features")
    with pytest.raises(ValueError, match="second value"):
        banded_lines(FRAME, "probability", [line(values=(0.5,))], along="features")


def test_a_small_map_shades_cells_by_their_share_of_the_largest():
    svg = small_map('x" onload="alert(1)', ((0.0, 1.0), (0.5, 0.26)))
    assert [svg.count(f'"heatp{level}"') for level in (1, 2, 3, 4)] == [1, 1, 0, 1]
    assert "onload=&#34;" in svg
    assert small_map("t", ((0.0, 0.0),)).count("heatp") == 0


def test_an_uneven_grid_is_refused():
    with pytest.raises(ValueError, match="rows of one length"):
        small_map("t", ((1.0,), (1.0, 2.0)))
