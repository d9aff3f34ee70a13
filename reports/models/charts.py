"""Charts of a comparison of models: one mark or bar per model in each row."""

from __future__ import annotations

from collections.abc import Iterator

from audit.records.estimates import NBSP
from audit.results.models.records import ModelComparison, ModelShare
from reports.charts.axis import Axis, Mark
from reports.charts.bars import Bar, BarRow, stacked_bars
from reports.charts.dumbbell import Row, dumbbell
from reports.charts.svg import Frame
from reports.figures.charts import Figure
from reports.index.story import label, occupation_words
from reports.models.tables import places_table, shares_table

MOST_MODELS = 4
"""Models in a chart: there are four shapes of marks. The tables have all models."""

MOST_PROMPTS = 40
"""Occupations in a chart; the tables and files have all."""

HERO_WIDTH = 470.0


def discrepancy_figure(comparison: ModelComparison, arm: str, key: str) -> Figure | None:
    """Return the mean discrepancy of each model by attribute, with intervals; None for too many models."""
    models = [model.name for model in comparison.models]
    own = {(d.attribute, d.model): d.mean for d in comparison.discrepancies if d.arm == arm}
    if len(models) > MOST_MODELS or not own:
        return None
    rows = [
        Row(
            label(attribute),
            tuple(
                Mark(mean.value, mean.low, mean.high) if (mean := own.get((attribute, model))) else None
                for model in models
            ),
        )
        for attribute in comparison.attributes
    ]
    highest = max(mean.high for mean in own.values())
    axis = Axis("fairness discrepancy, mean", max(0.2, -(-10 * highest // 1) / 10), False, 0.0, "on target")
    title = "Mean fairness discrepancy of each model"
    description = "One line per attribute; one mark per model with its own 95 % interval."
    svg = dumbbell(Frame(key, title, description, HERO_WIDTH), axis, models, rows)
    caption = f"{title}, baseline (own 95{NBSP}% intervals; two of them can overlap although the difference is clear)"
    return Figure(key, caption, svg, places_table(comparison, arm))


def share_figures(comparison: ModelComparison, arm: str, key: str) -> Iterator[Figure]:
    """Yield the shares of each attribute: marks with intervals for two groups, stacked bars for more."""
    models = [model.name for model in comparison.models]
    if len(models) > MOST_MODELS:
        return
    for attribute, groups in comparison.attributes.items():
        own = {
            (share.prompt_id, share.model, share.group): share
            for share in comparison.shares
            if (share.arm, share.attribute) == (arm, attribute)
        }
        prompts = list(dict.fromkeys(prompt for prompt, _, _ in own))[:MOST_PROMPTS]
        if not prompts:
            continue
        name = f"{key}-{attribute}"
        table = shares_table(comparison, arm, attribute)
        if len(groups) == 2:
            rows = [
                Row(occupation_words(prompt), tuple(_mark(own.get((prompt, model, groups[0]))) for model in models))
                for prompt in prompts
            ]
            title = f"Share of images perceived as {label(groups[0])}, by model"
            axis = Axis("", 1.0, True, None, "", f"more {label(groups[1])}", f"more {label(groups[0])}")
            frame = Frame(name, title, "One line per occupation; one mark per model with its own 95 % interval.")
            yield Figure(name, title, dumbbell(frame, axis, models, rows), table)
        else:
            bars = [BarRow(occupation_words(prompt), tuple(_bars(own, prompt, models, groups))) for prompt in prompts]
            title = f"Shares of perceived {label(attribute)}, by model"
            frame = Frame(name, title, f"One bar per model; groups from left to right: {', '.join(groups)}.")
            yield Figure(name, title, stacked_bars(frame, models, [label(group) for group in groups], bars), table)


def _mark(found: ModelShare | None) -> Mark | None:
    return None if found is None else Mark(found.share.value, found.share.low, found.share.high)


def _bars(
    own: dict[tuple[str, str, str], ModelShare], prompt: str, models: list[str], groups: tuple[str, ...]
) -> Iterator[Bar]:
    for number, model in enumerate(models):
        shares = [own.get((prompt, model, group)) for group in groups]
        if all(share is not None for share in shares):
            yield Bar(number, tuple(share.share.value for share in shares if share is not None))
