"""The page of concepts over time as one HTML file, which needs neither network nor script."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import cycle, pairwise

from audit.analyses.stages.request import BY_TEXT
from audit.records.estimates import Estimate, percent
from audit.records.inside.concepts import Concepts, LayoutFigures, StageFigures, Stages
from audit.results.concepts.pictures import COLOURS
from reports.concepts import published
from reports.concepts.charts import layout_figures
from reports.concepts.tables import (
    ALL,
    CONDITIONAL,
    dictionary_table,
    followed_table,
    halves_table,
    moments,
    part_tables,
    stage_summary,
    stage_tables,
)
from reports.environment import environment
from reports.words.formats import figure_text, number

SATURATED = 0.9
"""Share of the last step's gain over the prior from which a curve counts as saturated."""


def render(found: Concepts) -> str:
    """Return the page as one HTML document."""
    context = {
        "found": found,
        "lead": lead(found),
        "findings": tuple(findings(found)),
        "source": published.SOURCE,
        "legend": tuple(zip(found.parts, cycle(COLOURS))),
        "layout": tuple(layout_figures(found)),
        "parts": tuple(part_tables(found)),
        "halves": halves_table(found),
        "dictionaries": dictionary_table(found),
        "followed": followed_table(found),
        "stages": None if found.stages is None else stage_summary(found.stages),
        "each_stage": () if found.stages is None else tuple(stage_tables(found.stages)),
    }
    return environment().get_template("concepts.html.j2").render(context)


def lead(found: Concepts) -> str:
    """Say what was read, in one sentence."""
    blocks, seed = ", ".join(found.blocks), f" with seed {found.seed}" if found.seed else ""
    return (
        f"{found.images} pictures of {found.prompts} prompts{seed}, {len(found.steps)} of {found.total_steps} steps: "
        f"what {blocks} add to their input. All figures are of the {found.measured} pictures that trained nothing."
    )


def findings(found: Concepts) -> Iterator[str]:
    """Yield what the figures say, in sentences, beside what was published."""
    at = moments(found)
    yield _without_looking(found)
    yield _of_forecast(found, at)
    for block in found.blocks:
        yield _of_block(found, block, at)
    yield _of_saturation(found)
    yield (
        f"Published for the first step: {number(published.FIRST_STEP_IOU)} from the middle block, about constant from "
        "half-way on, the up block best. The published pictures have free layouts; compare the shape of the curve and "
        "the distance to the mean mask, not the level."
    )
    if found.stages is not None:
        yield from stage_findings(found.stages)


def _without_looking(found: Concepts) -> str:
    prior, prompt = found.curve("prior")[0], found.curve("prompt")[0]
    return (
        f"Without a look inside the model, the mean mask of all pictures agrees with the finished layout by "
        f"{figure_text(prior.mean)} (intersection over union, mean over parts), the mean mask of the same prompt by "
        f"{figure_text(prompt.mean)}."
    )


def _of_forecast(found: Concepts, at: Mapping[str, int]) -> str:
    first, middle = (_at(found.curve("forecast"), at[moment]) for moment in ("first step", "half-way"))
    return (
        f"The image that a step predicts agrees by {figure_text(first.mean)} at the first step and by "
        f"{figure_text(middle.mean)} half-way."
    )


def _of_block(found: Concepts, block: str, at: Mapping[str, int]) -> str:
    curve = found.curve("placed", block, CONDITIONAL)
    first, middle = (_at(curve, at[moment]) for moment in ("first step", "half-way"))
    return (
        f"Concepts of {block} agree by {figure_text(first.mean)} at the first step and by {figure_text(middle.mean)} "
        f"half-way. At the first step this is {_compared(first)}."
    )


def _of_saturation(found: Concepts) -> str:
    """Say when each block's curve reaches its end, or that it gains nothing."""
    reached = {block: saturation(found.curve("placed", block, CONDITIONAL)) for block in found.blocks}
    steps = ", ".join(f"{block} {'never' if step is None else f'step {step}'}" for block, step in reached.items())
    return (
        f"{percent(SATURATED)} of the last step's gain over the mean mask is reached at: {steps} (of "
        f"{found.total_steps} steps). Published: about half-way."
    )


def saturation(curve: tuple[LayoutFigures, ...]) -> int | None:
    """Return the first step from which on a curve keeps most of the gain of its last step; None without a gain."""
    gains = [0.0 if one.over_prior is None else one.over_prior.value for one in curve]
    if gains[-1] <= 0:
        return None
    late = [place for place, gain in enumerate(gains) if gain < SATURATED * gains[-1]]
    return curve[late[-1] + 1 if late else 0].step


def stage_findings(stages: Stages) -> Iterator[str]:
    """Yield success by window, beside what was published and what naming it in the prompt reaches."""
    for kind, words in (("spatial", "A part into a quadrant"), ("global", "A group"), ("style", "A style")):
        own = {one.stage: one for one in stages.figures if one.kind == kind and one.concept == ALL}
        if len(own) < 3:
            continue
        values = ", ".join(f"{stage} {figure_text(one.success)}" for stage, one in own.items())
        named = [one for one in stages.figures if one.kind == BY_TEXT.get(kind) and one.concept == ALL]
        by_text = "".join(f" Named in the prompt: {figure_text(one.success)}." for one in named)
        yield f"{words}, success by window: {values}.{by_text}{_beside_published(kind, own)}"
    for concept in stages.shown:
        yield f"Every picture showed “{concept}” before any edit, as its judge sees it: nothing can be counted for it."


def _beside_published(kind: str, own: Mapping[str, StageFigures]) -> str:
    """Say whether success by window has the published order; nothing where none was published."""
    if (kind, "early") not in published.STAGES:
        return ""
    beside = ", ".join(f"{stage} {number(published.STAGES[kind, stage])}" for stage in own)
    order = sorted(own, key=lambda stage: -own[stage].success.value)
    expected = sorted(own, key=lambda stage: -published.STAGES[kind, stage])
    agrees = "The order agrees" if order == expected else "The order does not agree"
    chance = any(own[more].success.low <= own[less].success.high for more, less in pairwise(order))
    return (
        f" Published: {beside}. {agrees} with the published one ({', then '.join(expected)})"
        f"{'; intervals overlap, so our order may be due to chance' * chance}."
    )


def _at(curve: tuple[LayoutFigures, ...], step: int) -> LayoutFigures:
    return next(one for one in curve if one.step == step)


def _compared(figure: LayoutFigures) -> str:
    """Compare a prediction with those that need no look inside the model, and with the predicted image."""
    beside = {
        "the mean mask of all pictures": figure.over_prior,
        "the mean mask of the same prompt": figure.over_prompt,
        "the image that the step predicts": figure.over_forecast,
    }
    return ", ".join(_gain(name, gain) for name, gain in beside.items() if gain is not None)


def _gain(name: str, gain: Estimate) -> str:
    if gain.low > 0:
        return f"above {name} by {figure_text(gain)}"
    return f"below {name} ({figure_text(gain)})" if gain.high < 0 else f"like {name} ({figure_text(gain)})"
