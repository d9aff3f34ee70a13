"""Trees of hierarchical clustering, with a line for each merge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from reports.charts.svg import Frame, figure, label_width, line_tag, need, row_band, shorten, text_tag

_STEP, _TOP = 20.0, 12.0


def tree(
    frame: Frame,
    order: Sequence[str],
    merges: Sequence[tuple[int, int, float]],
    label: str,
    clusters: Mapping[str, int],
) -> Markup:
    """Draw a tree whose leaves are rows; the distance at which two branches merge grows to the right.

    Args:
        frame: Attributes of the chart.
        order: Leaves from top to bottom.
        merges: (node, node, distance) from the lowest; a node below n is the leaf of this place in the sorted input of
            the clustering, n + i the i-th merge. Leaves are counted as ``clusters`` lists them.
        label: What the distance is.
        clusters: Leaf → number of its cluster, in the order in which the clustering counts leaves.

    Raises:
        ValueError: There are no leaves.
    """
    need(order, "leaf")
    names = list(clusters)
    left, right = label_width([_name(leaf, clusters) for leaf in order]), frame.width - 16
    longest = max((distance for *_, distance in merges), default=0.0) or 1.0
    heights = {leaf: _TOP + _STEP * (place + 0.5) for place, leaf in enumerate(order)}
    places: dict[int, tuple[float, float]] = {number: (left, heights[name]) for number, name in enumerate(names)}
    bottom = _TOP + _STEP * len(order)
    body = [row_band(frame.width, heights[leaf] - _STEP / 2, _STEP) for leaf in order if clusters[leaf] % 2]
    for leaf in order:
        body.append(text_tag(left - 8, heights[leaf] + 4, shorten(_name(leaf, clusters)), anchor="end"))
    for number, (first, second, distance) in enumerate(merges):
        x = left + (right - left) * distance / longest
        (x1, y1), (x2, y2) = places[first], places[second]
        body += [
            line_tag(x1, y1, x, y1, "branch"),
            line_tag(x2, y2, x, y2, "branch"),
            line_tag(x, y1, x, y2, "branch"),
        ]
        places[len(names) + number] = (x, (y1 + y2) / 2)
    for part in (0.0, 0.5, 1.0):
        x = left + (right - left) * part
        body.append(text_tag(x, bottom + 16, f"{longest * part:.2f}", style="m", anchor="middle"))
    body.append(text_tag((left + right) / 2, bottom + 34, label, style="m", anchor="middle"))
    return figure(frame, bottom + 42, body)


def _name(leaf: str, clusters: Mapping[str, int]) -> str:
    return f"{leaf} · {clusters[leaf]}"
