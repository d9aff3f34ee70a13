"""The page of an exploration as one HTML file, which needs neither network nor script."""

from __future__ import annotations

from audit.records.inside.exploration import Checked, Exploration, FeatureName
from audit.records.inside.open_set import OpenSet
from audit.records.inside.read_pictures import ReadPictures
from audit.records.inside.stress import Stress
from reports.environment import environment
from reports.exploration.charts import (
    map_figure,
    move_figures,
    score_figures,
    similarity_figure,
    strongest_descriptors,
    tree_figure,
)
from reports.exploration.open_set import (
    FINDING_COLUMNS,
    RARE_COLUMNS,
    WORD_COLUMNS,
    finding_rows,
    open_set_lead,
    rare_rows,
    word_lead,
    word_rows,
)
from reports.exploration.pictures import (
    axes_table,
    nearest_table,
    picture_figures,
    picture_lead,
    picture_warnings,
)
from reports.exploration.stress import conditions_table, shifts_table, stress_figures_table
from reports.figures.charts import Table
from reports.words.formats import interval, number

NAMED_FROM = 0.8
"""Least area under the curve of a name that is shown without brackets."""


def render(found: Exploration) -> str:
    """Return the page as one HTML document."""
    clusters = found.clusters
    context = {
        "found": found,
        "lead": lead(found),
        "defaults": defaults_table(found),
        "scores": tuple(score_figures(found)),
        "moves": tuple(move_figures(found)),
        "similarity": similarity_figure(found),
        "strongest": descriptor_table(found),
        "clusters": () if clusters is None else (tree_figure(clusters), map_figure(clusters)),
        "names": names_table(found.names),
        "checked": checked_table(found.checked),
        "open_set": None if found.open_set is None else _open_set(found.open_set),
        "stress": None if found.stress is None else _stress(found.stress),
        "pictures": None if found.pictures is None else _pictures(found, found.pictures),
        "warnings": warnings(found),
    }
    return environment().get_template("exploration.html.j2").render(context)


def _open_set(found: OpenSet) -> dict[str, object]:
    return {
        "lead": open_set_lead(found),
        "margin": f"{100 * found.margin:g}",
        "findings": (FINDING_COLUMNS, tuple(finding_rows(found))),
        "word_lead": word_lead(found),
        "words": (WORD_COLUMNS, tuple(word_rows(found))),
        "rare": (RARE_COLUMNS, tuple(rare_rows(found))),
    }


def _pictures(found: Exploration, given: ReadPictures) -> dict[str, object]:
    return {
        "lead": picture_lead(given),
        "axes": axes_table(given),
        "figures": tuple(picture_figures(found, given)),
        "nearest": nearest_table(given),
    }


def _stress(found: Stress) -> dict[str, object]:
    return {
        "images": found.images,
        "figures": stress_figures_table(found),
        "conditions": conditions_table(found),
        "shifts": shifts_table(found),
    }


def lead(found: Exploration) -> str:
    """Say what was read, in one sentence."""
    seeds = f"{found.seeds} noise seed{'s' * (found.seeds != 1)}"
    return (
        f"{len(found.texts)} prompts, {seeds}: the output of {found.hookpoint} at step {found.step}. "
        f"Every prompt is compared with “{found.neutral}” at the same noise."
    )


def warnings(found: Exploration) -> tuple[str, ...]:
    """Say where scores should not be relied on."""
    notes = [
        f"On {one.axis}, scores may not predict what the judge perceives (Spearman's correlation {number(one.rho)}, "
        f"95 % interval {number(one.low)} to {number(one.high)}). Read another hookpoint or step, or count images."
        for one in found.checked
        if one.rho is not None and one.low is not None and one.high is not None and one.low <= 0
    ]
    notes += [
        f"On {one.axis}, the check says nothing: the judge perceived the same in all prompts, or in too few of them."
        for one in found.checked
        if one.rho is None
    ]
    if not found.checked:
        notes.append("Scores were not compared with images (explore.check_prompts: 0).")
    return (*notes, *picture_warnings(found.pictures))


def defaults_table(found: Exploration) -> Table:
    """Return what the neutral prompt leans to."""
    ends = {axis.name: axis for axis in found.axes}
    rows = tuple(
        (
            score.axis,
            ends[score.axis].low,
            ends[score.axis].high,
            number(score.value),
            interval(score.low, score.high),
        )
        for score in found.neutral_scores
    )
    columns = ("axis", "−1 is", "+1 is", "score", "95 % interval")
    return Table(f"What “{found.neutral}” leans to", columns, rows, names=3)


def descriptor_table(found: Exploration) -> Table | None:
    """Return the descriptors that each prompt is relatively most similar to; None without descriptors."""
    given = found.similarities
    if given is None:
        return None
    strongest = strongest_descriptors(given)
    rows = tuple((prompt, ", ".join(words), number(given.agreement[prompt])) for prompt, words in strongest.items())
    columns = ("prompt", "relatively most similar to", "agreement of halves of the seeds")
    return Table("Descriptors of each prompt", columns, rows[:200], names=2)


def names_table(names: tuple[FeatureName, ...]) -> Table | None:
    """Return the names of bias features; None without a lens."""
    if not names:
        return None
    rows = tuple(
        (
            f"{one.attribute}: {one.group}",
            f"feature {one.latent}",
            one.word if one.area >= NAMED_FROM else f"({one.word})",
            number(one.area),
        )
        for one in names
    )
    good = sum(one.area >= NAMED_FROM for one in names)
    caption = f"Names of the strongest bias features: {good} of {len(names)} hold at other noise"
    return Table(caption, ("group", "feature", "fires most for", "area under the curve, held-out noise"), rows, names=3)


def checked_table(checked: tuple[Checked, ...]) -> Table | None:
    """Return the comparison with images; None if there was none."""
    if not checked:
        return None
    rows = tuple(
        (
            one.axis,
            "not defined" if one.rho is None else number(one.rho),
            interval(one.low, one.high),
            "not defined" if one.text_rho is None else number(one.text_rho),
            str(len(one.perceived)),
            f"{one.classified} of {len(one.prompts) * one.images}",
        )
        for one in checked
    )
    columns = ("axis", "directions", "95 % interval", "text encoder alone", "prompts", "classified images")
    return Table("Spearman's correlation of scores with perceived shares", columns, rows)
