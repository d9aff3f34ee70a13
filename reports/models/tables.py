"""Tables of a comparison of models: places, differences, shares, quality and cost."""

from __future__ import annotations

from audit.records.estimates import NBSP, exact_percent, percent
from audit.results.models.records import Difference, ModelComparison, ModelDiscrepancy, ModelFigure
from reports.figures.charts import Table
from reports.index.story import label, occupation_words
from reports.models.sentences import place_text
from reports.words.formats import interval, number, p_value, share_text, with_interval

MOST_ROWS = 200
"""Rows of a table of shares on the page; all are in the files."""

QUALITY_NAMES = {
    "clip_t": "CLIP-T, cosine to the prompt",
    "prompt_shown": "Prompted occupation shown",
    "face_found": "Face found",
    "several_faces": "Several faces in an image",
    "clip_i": "CLIP-I to the model's own baseline",
    "dino_i": "DINO-I to the model's own baseline",
    "lpips": "LPIPS to the model's own baseline",
    "psnr": "PSNR to the model's own baseline, dB",
    "kid": "Kernel distance to the model's own baseline",
    "fid": "Fréchet distance to the model's own baseline",
    "kid_to_reference": "Kernel distance to the reference images",
    "fid_to_reference": "Fréchet distance to the reference images",
}

SHARES = ("prompt_shown", "face_found", "several_faces")


def places_table(comparison: ModelComparison, arm: str) -> Table:
    """Return the mean discrepancy and the place of every model, a row for each attribute."""
    rows = []
    for attribute in comparison.attributes:
        own = {d.model: d for d in comparison.discrepancies if (d.arm, d.attribute) == (arm, attribute)}
        if own:
            rows.append((label(attribute), *(_place_cell(own.get(model.name)) for model in comparison.models)))
    where = "" if len(comparison.arms) == 1 else f", arm {arm}"
    caption = (
        f"Mean fairness discrepancy over {measured_prompts(comparison, arm)}{where}; 0 is on target. In brackets the "
        f"own 95{NBSP}% interval, then the place: 1 is the least skewed model, and a range such as 1–2 is open"
    )
    return Table(caption, ("Attribute", *(model.name for model in comparison.models)), tuple(rows))


def measured_prompts(comparison: ModelComparison, arm: str) -> str:
    """Return the number of occupations of the means of an arm in words; it can differ by attribute: ``5–6``."""
    counts = sorted({d.mean.n for d in comparison.discrepancies if d.arm == arm})
    if not counts:
        return "no occupation"
    return f"{place_text(counts[0], counts[-1])} occupation{'' if counts[-1] == 1 else 's'}"


def _place_cell(found: ModelDiscrepancy | None) -> str:
    if found is None:
        return "–"
    mean = with_interval(found.mean.value, found.mean.low, found.mean.high)
    return f"{mean} · place {place_text(found.best_place, found.last_place)}"


def worst_table(comparison: ModelComparison, arm: str) -> Table:
    """Return the occupation with the largest discrepancy of every model."""
    rows = []
    for attribute in comparison.attributes:
        own = {d.model: d for d in comparison.discrepancies if (d.arm, d.attribute) == (arm, attribute)}
        if own:
            cells = (
                f"{occupation_words(d.worst_prompt)} {with_interval(d.worst.value, d.worst.low, d.worst.high)}"
                if (d := own.get(model.name))
                else "–"
                for model in comparison.models
            )
            rows.append((label(attribute), *cells))
    caption = f"Occupation with the largest discrepancy (95{NBSP}% intervals, which account for the selection)"
    return Table(caption, ("Attribute", *(model.name for model in comparison.models)), tuple(rows))


def discrepancy_table(comparison: ModelComparison, arm: str) -> Table:
    """Return the differences of the mean squared discrepancies of each pair of models."""
    own = [d for d in comparison.differences if d.arm == arm and d.group is None]
    rows = tuple(
        (
            label(d.attribute),
            f"{d.first} − {d.second}",
            number(d.difference.value),
            interval(d.difference.low, d.difference.high),
            f"{interval(d.low, d.high)} at {exact_percent(1 - d.level)}",
            p_value(d.p_value),
            _decision(d),
        )
        for d in own
    )
    return Table(
        "Differences of the mean squared discrepancies; above 0 the first model is more skewed"
        + ("" if len(comparison.arms) == 1 else f", arm {arm}"),
        (
            "Attribute", "Models", "Difference", f"95{NBSP}% interval alone", "Interval that decides", "p alone",
            "Established",
        ),
        rows,
        names=2,
    )  # fmt: skip


def share_differences_table(comparison: ModelComparison, arm: str) -> Table:
    """Return the established differences of shares of single occupations, the smallest p-value first."""
    own = [d for d in comparison.differences if d.arm == arm and d.group is not None and d.established]
    rows = tuple(
        (
            occupation_words(d.prompt_id or ""),
            label(d.group or ""),
            f"{d.first} and {d.second}",
            percent(d.first_value),
            percent(d.second_value),
            f"{_points(d.difference.value)} {interval(d.difference.low, d.difference.high, share=True)}",
            f"{interval(d.low, d.high, share=True)} at {exact_percent(1 - d.level)}",
            p_value(d.p_value),
        )
        for d in sorted(own, key=lambda d: d.p_value)[:MOST_ROWS]
    )
    columns = (
        "Occupation", "Group", "Models", "First", "Second", f"Difference in points, 95{NBSP}% alone",
        "Interval that decides", "p alone",
    )  # fmt: skip
    shown = "" if len(own) <= MOST_ROWS else f", of which {MOST_ROWS} are shown and the files have all"
    return Table(f"Established differences of shares ({len(own)}{shown})", columns, rows, names=3)


def shares_table(comparison: ModelComparison, arm: str, attribute: str) -> Table:
    """Return the shares of every group, a row for each occupation and group, a column for each model."""
    own = {
        (share.prompt_id, share.group, share.model): share
        for share in comparison.shares
        if (share.arm, share.attribute) == (arm, attribute)
    }
    prompts = dict.fromkeys(prompt for prompt, _, _ in own)
    rows = [
        (
            occupation_words(prompt),
            label(group),
            *(_share_cell(own.get((prompt, group, model.name))) for model in comparison.models),
        )
        for prompt in prompts
        for group in comparison.attributes[attribute]
    ]
    cut = "" if len(rows) <= MOST_ROWS else f"; the first {MOST_ROWS} of {len(rows)} rows, the files have all"
    caption = f"Shares of perceived {label(attribute)} (each with its own 95{NBSP}% interval{cut})"
    columns = ("Occupation", "Group", *(model.name for model in comparison.models))
    return Table(caption, columns, tuple(rows[:MOST_ROWS]), names=2)


def _share_cell(found: object) -> str:
    share = getattr(found, "share", None)
    return "–" if share is None else share_text(share)


def quality_table(comparison: ModelComparison, arm: str) -> Table:
    """Return the quality figures, a column for each model."""
    own = {(f.figure, f.model): f for f in comparison.figures if f.arm == arm}
    rows = tuple(
        (title, *(_figure_cell(own.get((figure, model.name))) for model in comparison.models))
        for figure, title in QUALITY_NAMES.items()
        if any((figure, model.name) in own for model in comparison.models)
    )
    caption = f"Quality (95{NBSP}% intervals; a Fréchet distance has none)"
    return Table(caption, ("Figure", *(model.name for model in comparison.models)), rows)


def _figure_cell(found: ModelFigure | None) -> str:
    if found is None:
        return "–"
    if found.figure in SHARES:
        return f"{percent(found.value)} {interval(found.low, found.high, share=True)}".strip()
    return with_interval(found.value, found.low, found.high)


def cost_table(comparison: ModelComparison) -> Table:
    """Return what the audit of each model took, over all its arms, and what its gates say."""
    verdicts = {model.name: model.verdict for model in comparison.models}
    rows = tuple(
        (
            cost.model,
            f"{cost.images:,}",
            "–" if cost.seconds_per_image is None else f"{number(cost.seconds_per_image)} s",
            f"{cost.failed:,}",
            "–" if cost.unclassified is None else _share_cell_of(cost.unclassified.value, cost.unclassified),
            {"none": "no gates"}.get(verdicts[cost.model], verdicts[cost.model]),
        )
        for cost in comparison.costs
    )
    columns = ("Model", "Images", "Time of a worker per image", "Failed images", "Without a group", "Gates")
    return Table("Cost and failures over all arms", columns, rows)


def _share_cell_of(value: float, found: object) -> str:
    low, high = getattr(found, "low", None), getattr(found, "high", None)
    return f"{percent(value, 1)} {interval(low, high, share=True)}"


def _decision(found: Difference) -> str:
    if not found.established:
        return "no"
    return f"yes: {found.first if found.difference.value > 0 else found.second} is more skewed"


def _points(value: float) -> str:
    rounded = round(100 * value)
    return f"{rounded:+d}".replace("-", "−") if rounded else "0"
