"""Rankings, trees and maps: marks are where their values are, and names do not cover each other."""

import re

import pytest

from reports.charts.axis import Mark
from reports.charts.prompts.label_map import Place, label_map
from reports.charts.prompts.ranking import Ends, Ranked, ranking
from reports.charts.prompts.tree import tree
from reports.charts.svg import CHARACTER, Frame

FRAME = Frame("key", "Title", "Description")
ENDS = Ends("female", "male", 0.25, "neutral")


def test_a_ranking_has_signed_values_and_grows_with_them():
    rows = [Ranked("low", Mark(-1.7, -1.9, -1.5)), Ranked("zero", Mark(0.001)), Ranked("high", Mark(0.5), filled=False)]
    svg = str(ranking(FRAME, ENDS, rows))
    assert ">−1.70<" in svg
    assert ">0.00<" in svg
    assert ">+2.0<" in svg
    assert "low: −1.70 [−1.90, −1.50]" in svg
    assert "arm0" in svg


def test_a_chart_of_nothing_is_refused():
    for draw in (lambda: ranking(FRAME, ENDS, []), lambda: tree(FRAME, [], [], "d", {}), lambda: label_map(FRAME, [])):
        with pytest.raises(ValueError, match="a chart needs at least one"):
            draw()


def test_a_tree_joins_branches_at_their_distance():
    svg = str(tree(FRAME, ["b", "a", "c"], [(0, 1, 0.2), (2, 3, 0.4)], "distance", {"a": 1, "b": 1, "c": 2}))
    verticals = [
        (float(x1), float(y2) - float(y1))
        for x1, y1, x2, y2 in re.findall(r'"branch" x1="([\d.]+)" y1="([\d.]+)" x2="([\d.]+)" y2="([\d.]+)"', svg)
        if x1 == x2
    ]
    (near, short), (far, long) = verticals
    assert far > near
    assert abs(long) > abs(short)
    assert ">c · 2<" in svg


@pytest.mark.parametrize("spread", [1.0, 0.05, 0.0])
def test_names_on_a_map_do_not_cover_each_other(spread):
    places = [Place(f"occupation {n}", spread * (n % 5) + (n == 0), spread * (n // 5), 1 + n % 3) for n in range(20)]
    svg = str(label_map(FRAME, places))
    boxes = []
    for x, y, text in re.findall(r'<text class="t" x="([-\d.]+)" y="([-\d.]+)"[^>]*>([^<]+)</text>', svg):
        half = len(text) * CHARACTER / 2
        boxes.append((float(x) - half, float(y) - 12, float(x) + half, float(y) + 3))
    assert len(boxes) == 20
    overlaps = sum(
        a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3] for i, a in enumerate(boxes) for b in boxes[:i]
    )
    assert overlaps == 0
