"""Charts of an exploration: scores by axis, similarity to descriptors, clusters and their map."""

from __future__ import annotations

from collections.abc import Iterator

from audit.records.estimates import percent
from audit.records.inside.exploration import Axis, Clusters, Exploration, Score, Similarities
from reports.charts.axis import Mark
from reports.charts.heatmap import HeatRow, heatmap
from reports.charts.prompts.label_map import Place, label_map
from reports.charts.prompts.ranking import Ends, Ranked, ranking
from reports.charts.prompts.tree import tree
from reports.charts.svg import Frame
from reports.figures.charts import Figure, Table
from reports.words.formats import interval, number, p_value

SHOWN_AT_EACH_END = 20
"""Prompts at each end of a ranking that a chart shows; all are in the table of scores."""

_SHOWN_IN_HEATMAP = 40
_DESCRIPTORS = 24


def score_figures(found: Exploration) -> Iterator[Figure]:
    """Yield a chart for each axis."""
    neutral = {score.axis: score for score in found.neutral_scores}
    for place, axis in enumerate(found.axes):
        rows = found.of_axis(axis.name)
        shown = rows if len(rows) <= 2 * SHOWN_AT_EACH_END else (*rows[:SHOWN_AT_EACH_END], *rows[-SHOWN_AT_EACH_END:])
        left_out = f", the {SHOWN_AT_EACH_END} prompts at each end of {len(rows)}" * (len(shown) < len(rows))
        caption = f"{axis.name}: from “{axis.low}” to “{axis.high}”{left_out}"
        frame = Frame(f"axis-{place}", caption, "One row per prompt; filled marks differ from the neutral prompt.")
        ends = Ends(axis.low, axis.high, neutral[axis.name].value, found.neutral)
        svg = ranking(frame, ends, [_ranked(score) for score in shown])
        yield Figure(f"axis-{place}", caption, svg, _table(axis, shown))


def move_figures(found: Exploration) -> Iterator[Figure]:
    """Yield a heat map for each axis: how far each modifier moves each prompt; nothing without modifiers."""
    words = tuple(dict.fromkeys(move.modifier for move in found.moves))
    prompts = _order(found)[:_SHOWN_IN_HEATMAP]
    for place, axis in enumerate(found.axes if words else ()):
        moves = {(move.prompt, move.modifier): move for move in found.moves if move.axis == axis.name}
        caption = f"{axis.name}: change of the score by a word before what the prompt is about"
        rows = [
            HeatRow(
                prompt,
                tuple(moves[prompt, word].change for word in words),
                texts=tuple("•" * moves[prompt, word].differs for word in words),
            )
            for prompt in prompts
        ]
        described = f"Green cells move towards “{axis.high}”; a dot marks a change that is found."
        svg = heatmap(Frame(f"moves-{place}", caption, described), words, rows)
        cells = tuple(
            (
                move.prompt,
                move.modifier,
                number(move.change),
                interval(move.low, move.high),
                p_value(move.p),
                "yes" if move.differs else "no",
            )
            for move in sorted(moves.values(), key=lambda move: -abs(move.change))
        )
        columns = ("prompt", "word", "change", "95 % interval", "p", "found")
        yield Figure(f"moves-{place}", caption, svg, Table(caption, columns, cells[:200], names=2))


def similarity_figure(found: Exploration) -> Figure | None:
    """Return the heat map of prompts and descriptors, None without descriptors."""
    given = found.similarities
    if given is None:
        return None
    relative = _relative(given)
    prompts = _order(found)[:_SHOWN_IN_HEATMAP]
    columns = given.descriptors[:_DESCRIPTORS]
    caption = "Similarity of prompts to descriptors, relative to the mean of each row and column"
    rows = [HeatRow(prompt, relative[prompt][: len(columns)]) for prompt in prompts]
    frame = Frame("similarity", caption, "Green cells: more similar than prompt and descriptor are on average.")
    cells = tuple((prompt, *(number(value) for value in relative[prompt][: len(columns)])) for prompt in prompts)
    table = Table(caption, ("prompt", *columns), cells)
    return Figure("similarity", caption, heatmap(frame, columns, rows), table)


def tree_figure(clusters: Clusters) -> Figure:
    """Return the tree of the prompts."""
    caption = "Prompts that are read alike: average linkage of the distance between directions"
    merges = [(first, second, distance) for first, second, distance, _ in clusters.heights]
    frame = Frame("tree", caption, "Branches that merge further left are more alike; a number is a cluster.")
    svg = tree(frame, clusters.order, merges, "cosine distance", clusters.members)
    rows = tuple((prompt, str(clusters.members[prompt])) for prompt in clusters.order)
    return Figure("tree", caption, svg, Table(caption, ("prompt", "cluster"), rows))


def map_figure(clusters: Clusters) -> Figure:
    """Return the map of the prompts."""
    caption = f"Map of the directions in two dimensions, which keep {percent(clusters.kept)} of their variance"
    places = [Place(prompt, x, y, clusters.members[prompt]) for prompt, (x, y) in clusters.places.items()]
    frame = Frame("map", caption, "Near points have similar directions; colours are clusters.")
    rows = tuple((place.label, number(place.x), number(place.y), str(place.cluster)) for place in places)
    return Figure(
        "map", caption, label_map(frame, places), Table(caption, ("prompt", "first", "second", "cluster"), rows)
    )


def strongest_descriptors(given: Similarities, count: int = 3) -> dict[str, tuple[str, ...]]:
    """Return for each prompt the descriptors that it is relatively most similar to."""
    relative = _relative(given)
    found = {}
    for prompt, values in relative.items():
        best = sorted(range(len(values)), key=lambda place: -values[place])[:count]
        found[prompt] = tuple(given.descriptors[place] for place in best if values[place] > 0)
    return found


def _relative(given: Similarities) -> dict[str, tuple[float, ...]]:
    """Return cosines minus the means of their row and column, plus the mean of all."""
    rows = list(given.cosines.values())
    columns = [sum(values) / len(rows) for values in zip(*rows, strict=True)]
    whole = sum(columns) / len(columns)
    return {
        prompt: tuple(
            value - sum(values) / len(values) - mean + whole for value, mean in zip(values, columns, strict=True)
        )
        for prompt, values in given.cosines.items()
    }


def _order(found: Exploration) -> tuple[str, ...]:
    return found.clusters.order if found.clusters is not None else tuple(found.texts)


def _ranked(score: Score) -> Ranked:
    return Ranked(score.prompt, Mark(score.value, score.low, score.high), filled=score.differs)


def _table(axis: Axis, scores: tuple[Score, ...]) -> Table:
    rows = tuple(
        (
            score.prompt,
            number(score.value),
            interval(score.low, score.high),
            number(score.change),
            p_value(score.p),
            "yes" if score.differs else "no",
            number(score.text_score),
        )
        for score in scores
    )
    columns = ("prompt", "score", "95 % interval", "from neutral", "p", "differs", "text encoder alone")
    return Table(f"Scores on {axis.name}", columns, rows)
