"""Tables of concepts over time: predictions by part, dictionaries, concepts that are followed, and edits by stage."""

from __future__ import annotations

from collections.abc import Iterator

from audit.analyses.stages.request import ALL_STEPS, BY_TEXT
from audit.records.estimates import Estimate, percent
from audit.records.inside.concepts import Concepts, DictionaryFigures, LayoutFigures, StageFigures, Stages
from reports.concepts import published
from reports.concepts.charts import READERS
from reports.figures.charts import Table
from reports.words.formats import figure_text, number, share_text

CONDITIONAL = "conditional"
ALL = "all"

_STAGES = ("early", "middle", "final")
_WINDOWS = {stage: stage for stage in _STAGES} | {ALL_STEPS: "named in the prompt"}

KINDS = {
    "spatial": "part into a quadrant",
    "global": "group everywhere",
    "style": "style everywhere",
    "group text": "group",
    "style text": "style",
}
"""What is done → its name on the page."""


def moments(found: Concepts) -> dict[str, int]:
    """Return the first recorded step, the one nearest to the middle of the run, and the last."""
    middle = min(found.steps, key=lambda step: abs(step - (found.total_steps - 1) / 2))
    return {"first step": found.steps[0], "half-way": middle, "last step": found.steps[-1]}


def part_tables(found: Concepts) -> Iterator[Table]:
    """Yield a table for the first step and one for the step half-way, by block, reader and part; then gains by part."""
    for name, step in list(moments(found).items())[:2]:
        rows = [_row(READERS[reader], "", figure) for reader in ("prior", "prompt") for figure in found.curve(reader)]
        rows += [_row(READERS["forecast"], "", _at(found.curve("forecast"), step))]
        rows += [
            _row(READERS[reader], block, _at(found.curve(reader, block, CONDITIONAL), step))
            for block in found.blocks
            for reader in ("concepts", "placed", "probe")
        ]
        columns = (
            "read by", "block", "mean over parts", "over the mean mask", "over the prompt's",
            "over the predicted image", *found.parts,
        )  # fmt: skip
        yield Table(f"Prediction of the finished layout, {name} (step {step})", columns, tuple(rows), names=2)
    yield gains_table(found)


def gains_table(found: Concepts) -> Table:
    """Return by how much concepts at their place exceed the mean mask, by block, moment and part."""
    rows = tuple(
        (block, name, *(_gain(figure.parts_over_prior.get(part)) for part in found.parts))
        for block in found.blocks
        for name, step in list(moments(found).items())[:2]
        for figure in (_at(found.curve("placed", block, CONDITIONAL), step),)
    )
    caption = "Concepts at their place: gain over the mean mask, for the same pictures"
    return Table(caption, ("block", "step", *found.parts), rows, names=2)


def _gain(estimate: Estimate | None) -> str:
    return "–" if estimate is None else figure_text(estimate)


def halves_table(found: Concepts) -> Table | None:
    """Return both guidance halves beside each other; None without guidance."""
    rows = []
    for block in found.blocks:
        for name, step in moments(found).items():
            both = [found.curve("placed", block, half) for half in (CONDITIONAL, "unconditional")]
            if not all(both):
                return None
            rows.append((block, name, *(figure_text(_at(curve, step).mean) for curve in both)))
    columns = ("block", "step", "with the prompt", "without the prompt")
    return Table("Concepts at their place, by guidance half", columns, tuple(rows), names=2)


def dictionary_table(found: Concepts) -> Table:
    """Return the measures of all dictionaries."""
    rows = tuple(_dictionary(one) for one in found.dictionaries)
    columns = (
        "block", "half", "window", "explained variance", "published", "dead latents", "named latents", "cohesion",
        "separability",
    )  # fmt: skip
    return Table("Dictionaries of what blocks add, on images that did not train them", columns, rows, names=3)


def followed_table(found: Concepts) -> Table:
    """Return the concept of each part from window to window."""
    first, last = found.steps[0], found.steps[-1]
    middle = moments(found)["half-way"]
    rows = tuple(
        (
            one.block,
            one.part,
            *(f"{one.latents[stage]} ({number(one.iou[stage])})" for stage in _STAGES),
            number(one.with_last[first]),
            number(one.with_last[middle]),
        )
        for one in found.followed
    )
    columns = (
        "block", "part", "early", "middle", "final", f"map of step {first} with step {last}",
        f"map of step {middle} with step {last}",
    )  # fmt: skip
    return Table("The latent that fits each part best (intersection over union)", columns, rows, names=2)


def stage_summary(stages: Stages) -> Table:
    """Return success by kind and window, beside the published figures."""
    rows = tuple(
        (
            KINDS[one.kind],
            _WINDOWS[one.stage],
            "–" if one.kind in BY_TEXT.values() else number(one.strength),
            figure_text(one.success),
            _published(published.STAGES.get((one.kind, one.stage))),
            _optional(one.clip),
            _published(published.CLIP.get(one.stage) if one.kind == "style" else None),
            _optional(one.similarity),
            _optional(one.distance),
            _published(published.LPIPS.get(one.stage) if one.kind == "style" else None),
        )
        for one in stages.figures
        if one.concept == ALL
    )
    columns = (
        "edit", "window", "strength", "success", "published", "CLIP change", "published", "CLIP-I",
        "distance" if stages.distance == "none" else stages.distance, "published LPIPS",
    )  # fmt: skip
    return Table("Edits by window, all concepts together", columns, rows, names=2)


def stage_tables(stages: Stages) -> Iterator[Table]:
    """Yield a table for each kind of edit: success of each concept by window."""
    for kind, caption in (
        ("spatial", "A part into a quadrant: share of the pictures in which it grows most there (chance: 25 %)"),
        ("global", "A group everywhere: share of the pictures that show it and did not show it before"),
        ("style", "A style everywhere: share of the pictures that show it and did not show it before"),
    ):
        own = [one for one in stages.figures if one.kind in (kind, BY_TEXT.get(kind)) and one.concept != ALL]
        windows = [stage for stage in _WINDOWS if any(one.stage == stage for one in own)]
        concepts = dict.fromkeys(one.concept for one in own)
        rows = tuple((concept, *(_success(own, concept, stage) for stage in windows)) for concept in concepts)
        if rows:
            yield Table(caption, ("concept", *(_WINDOWS[stage] for stage in windows)), rows)


def _success(figures: list[StageFigures], concept: str, stage: str) -> str:
    found = next((one for one in figures if (one.concept, one.stage) == (concept, stage)), None)
    return "–" if found is None else f"{share_text(found.success)}, n {found.success.n}"


def _published(value: float | None) -> str:
    return "–" if value is None else number(value)


def _optional(estimate: Estimate | None) -> str:
    return "not measured" if estimate is None else figure_text(estimate)


def _at(curve: tuple[LayoutFigures, ...], step: int) -> LayoutFigures:
    return next(one for one in curve if one.step == step)


def _row(reader: str, block: str, figure: LayoutFigures) -> tuple[str, ...]:
    return (
        reader,
        block or "–",
        figure_text(figure.mean),
        "–" if figure.over_prior is None else figure_text(figure.over_prior),
        "–" if figure.over_prompt is None else figure_text(figure.over_prompt),
        "–" if figure.over_forecast is None else figure_text(figure.over_forecast),
        *("–" if estimate is None else figure_text(estimate) for estimate in figure.parts.values()),
    )


def _dictionary(one: DictionaryFigures) -> tuple[str, ...]:
    explained = sum(one.explained.values()) / len(one.explained)
    way = one.block.split("_")[0]
    beside = published.EXPLAINED.get((way, one.stage)) if one.half == CONDITIONAL else None
    named = sum(one.named.values())
    parts = ", ".join(f"{part} {count}" for part, count in one.named.items() if count)
    return (
        one.block,
        one.half,
        one.stage,
        percent(explained),
        "–" if beside is None else percent(beside),
        f"{one.dead} of {one.latents}",
        f"{named} ({parts})" if named else "0",
        number(one.cohesion),
        number(one.separability),
    )
