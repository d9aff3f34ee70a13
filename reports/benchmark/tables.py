"""Tables of a benchmark: effect and side effects, quality and cost of each method, and agreement of rankings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from audit.records.estimates import NBSP, percent
from audit.results.benchmark.rankings import Agreement, Better, best_of
from audit.results.benchmark.rows import MethodRow
from audit.results.benchmark.steered import Figure
from reports.benchmark.findings import Findings, Part
from reports.figures.charts import Table
from reports.index.distances import DistanceNames
from reports.index.story import label
from reports.words.formats import figure_text, interval, number, p_value

BEST = "★"
"""Mark of the best figure of a column."""


@dataclass(frozen=True)
class Column:
    """One column of figures.

    Attributes:
        title: Its title.
        of: The figure of a row.
        better: Whether a low or a high figure is better; None for a column without a best.
        share: Whether figures are shares, printed in percent.
        baseline: Text in the row of the baseline.
    """

    title: str
    of: Callable[[MethodRow], Figure | None]
    better: Better | None
    share: bool = False
    baseline: Callable[[MethodRow], str] = lambda _row: "–"

    def cells(self, rows: Sequence[MethodRow]) -> list[str]:
        """Return the texts of all rows, the best one marked if its interval is separate from all others.

        A method that changes no image has no side effects, and is not compared.
        """
        figures = [self.of(row) for row in rows]
        compared = [None if row.changes_no_image else figure for row, figure in zip(rows, figures, strict=True)]
        best = best_of(compared, self.better) if self.better else None
        return [f"{_text(f, share=self.share)}{f' {BEST}' if place == best else ''}" for place, f in enumerate(figures)]


def effect_columns() -> tuple[Column, ...]:
    """Return what a method does to its attribute, and to the others."""
    return (
        Column("Discrepancy, mean", lambda row: row.after, "low", baseline=lambda row: figure_text(row.before)),
        Column("Worst occupation", lambda row: row.worst, "low", baseline=lambda row: figure_text(row.worst_before)),
        Column("Largest shift of another attribute", lambda row: row.shift, "low"),
        Column("Another group in other attributes", lambda row: row.flips, "low", share=True),
    )


def quality_columns(rows: Sequence[MethodRow]) -> tuple[Column, ...]:
    """Return how the images differ from those of the baseline."""
    names = DistanceNames.of_signature(next((row.network for row in rows if row.network), ""))
    apart = (
        Column("PSNR outside the hidden parts, dB", lambda row: row.psnr_outside, "high"),
        Column("LPIPS outside the hidden parts", lambda row: row.lpips_outside, "low"),
        Column("DINO-I outside the hidden parts", lambda row: row.dino_outside, "high"),
    )
    return (
        Column("CLIP-I", lambda row: row.clip_i, "high"),
        Column("CLIP-T", lambda row: row.clip_t, "high"),
        Column(f"{names.kernel} to baseline", lambda row: row.kid, "low"),
        Column(f"{names.frechet} to baseline", lambda row: row.fid, "low"),
        Column("Occupation shown", lambda row: row.shown, "high", share=True),
        *(column for column in apart if any(column.of(row) is not None for row in rows)),
    )


def path_columns() -> tuple[Column, ...]:
    """Return how far a method leaves what the model makes without it."""
    return (
        Column("Distance of activations, change", lambda row: row.distance, "low"),
        Column("Energy outside the components, change", lambda row: row.outside, "low"),
        Column("Unlike the prompt's images, change", lambda row: row.unlike_prompt, "low", share=True),
        Column("Unlike all images, change", lambda row: row.unlike_all, "low", share=True),
        Column("Faces lost", lambda row: row.faces_lost, "low", share=True),
    )


def path_table(part: Part) -> Table:
    """Return how far every method leaves what the model makes without it."""
    caption = f"{part.title}: distance from unedited activations and images (95{NBSP}% intervals)"
    return _table(caption, part.rows, path_columns(), baseline=False)


def control_columns(attribute: str) -> tuple[Column, ...]:
    """Return what a method does to prompts that it should leave as they are."""
    name = label(attribute)
    return (
        Column(f"Shift of {name}", lambda row: row.own_shift, "low"),
        Column(f"Images whose {name} changes", lambda row: row.own_flips, "low", share=True),
        Column("Largest shift of another attribute", lambda row: row.shift, "low"),
        Column("Another group in other attributes", lambda row: row.flips, "low", share=True),
    )


def effect_table(part: Part) -> Table:
    """Return fairness and side effects of every method, the baseline first; for control prompts what must not move."""
    prompts = part.rows[0].prompts
    if part.control:
        caption = f"{part.title}: what must stay, over {prompts} prompt{'s' * (prompts != 1)} (95{NBSP}% intervals)"
        return _table(caption, part.rows, control_columns(part.attribute), baseline=False)
    caption = (
        f"{part.title}: effect and side effects over {prompts} occupation{'s' * (prompts != 1)} (95{NBSP}% intervals)"
    )
    return _table(caption, part.rows, effect_columns(), baseline=True)


def quality_table(part: Part) -> Table:
    """Return the quality figures of every method."""
    return _table(f"{part.title}: quality (95{NBSP}% intervals)", part.rows, quality_columns(part.rows), baseline=False)


def cost_table(part: Part) -> Table:
    """Return what every method costs: exact counts, and the time of the fits as it was recorded."""
    columns = (
        "Method", "Calls per image", "Images for the fit", "Training steps", "Time of the fit", "Images for the search",
        "Images for a lens, once",
    )  # fmt: skip
    rows = tuple(
        (
            numbered(place, row.arm),
            f"×{NBSP}{number(row.cost.calls)}",
            f"{row.cost.fit_images:,}",
            f"{row.cost.fit_steps:,}",
            "–" if row.cost.fit_seconds is None else f"{row.cost.fit_seconds:,.1f} s",
            f"{row.cost.search_images:,}",
            f"{row.cost.lens_images:,}",
        )
        for place, row in enumerate(part.rows, start=1)
    )
    return Table(f"{part.title}: cost; calls of the denoiser are relative to plain sampling", columns, rows)


def model_tables(findings: Findings) -> tuple[Table, ...]:
    """Return the discrepancy of each attribute by method and model; empty for a benchmark of one model.

    Models can be one model at several settings, such as scales of guidance.
    """
    main = [row for row in findings.rows if row.is_main]
    models = tuple(dict.fromkeys(row.model for row in main))
    found = []
    for attribute in dict.fromkeys(row.attribute for row in main) if len(models) > 1 else ():
        own = [row for row in main if row.attribute == attribute]
        before = {row.model: row.before for row in own}
        lines = [("baseline", *(figure_text(before.get(model)) for model in models))]
        for arm in dict.fromkeys(row.arm for row in own):
            after = {row.model: row.after for row in own if row.arm == arm}
            lines.append((arm, *(figure_text(after.get(model)) for model in models)))
        caption = f"Discrepancy of {label(attribute)} by model, mean over occupations (95{NBSP}% intervals)"
        found.append(Table(caption, ("Method", *models), tuple(lines)))
    return tuple(found)


def agreement_table(agreements: Sequence[Agreement]) -> Table:
    """Return whether rankings of the methods by discrepancy agree."""
    rows = tuple(
        (
            f"{found.model}: {label(found.attribute)}",
            found.compared,
            "all methods tie" if found.tau is None else number(found.tau),
            p_value(found.p_value),
            str(found.n),
        )
        for found in agreements
    )
    return Table(
        "Kendall's τ of the methods' discrepancies: 1 is the same order, 0 no relation, −1 the opposite order",
        ("Ranking", "Compared with", "τ", "p", "Methods"), rows, names=2,
    )  # fmt: skip


def numbered(place: int, arm: str) -> str:
    """Return the name of a method with its number in the charts."""
    return f"{place} {arm}"


def _named(place: int, row: MethodRow) -> str:
    return numbered(place, row.arm) + (" (changes no image)" if row.changes_no_image else "")


def _table(caption: str, rows: Sequence[MethodRow], columns: Sequence[Column], *, baseline: bool) -> Table:
    cells = [column.cells(rows) for column in columns]
    own = [(_named(place, row), *(texts[place - 1] for texts in cells)) for place, row in enumerate(rows, start=1)]
    first = [("baseline", *(column.baseline(rows[0]) for column in columns))] if baseline else []
    return Table(caption, ("Method", *(column.title for column in columns)), (*first, *own))


def _text(figure: Figure | None, *, share: bool) -> str:
    if figure is None or not share:
        return figure_text(figure)
    return f"{percent(figure.value)} {interval(figure.low, figure.high, share=True)}".strip()
