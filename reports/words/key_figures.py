"""The large numbers of the first screen, each with a note."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from audit.records.estimates import NBSP, OverPrompts, percent
from audit.records.quality import QualityResult
from reports.index.lookups import edited_arm, mean_over_prompts, primary_attribute, worst_prompt
from reports.index.story import Story, label
from reports.words.formats import interval, number
from reports.words.side_effects import side_effects


@dataclass(frozen=True)
class KeyFigure:
    """One large number of the first screen; ``before`` is empty if there is no baseline value to compare with."""

    label: str
    before: str
    after: str
    note: str


@dataclass(frozen=True)
class StatusGap:
    """An arm whose share of unclassified images differs from the baseline's."""

    arm: str
    share: str
    baseline: str


def sample_size(story: Story, attribute: str) -> str:
    """Return how many images per prompt and arm were classified, as ``n = 64`` or ``n = 60 to 64``."""
    counts = [story.rows[key].n for key in story.rows if key[0] is not None and key[2] == attribute]
    low, high = min(counts), max(counts)
    return f"n{NBSP}={NBSP}{low}" if low == high else f"n{NBSP}={NBSP}{low} to {high}"


def key_figures(story: Story) -> tuple[KeyFigure, ...]:
    """Return the figures of the first screen, before and after if there is an intervention."""
    attribute = primary_attribute(story)
    arm = edited_arm(story, attribute.name)
    return tuple(
        figure
        for figure in (
            _mean_figure(story, attribute.name, arm),
            _worst_figure(story, attribute.name, arm),
            _shown_figure(story, arm) or _face_figure(story, arm),
            _side_figure(story, attribute.name, arm) if arm else None,
            _clip_figure(story, arm) if arm else _classified_figure(story, attribute.name),
        )
        if figure
    )


def _mean_figure(story: Story, attribute: str, arm: str | None) -> KeyFigure:
    arms = (story.arms[0], arm) if arm else story.arms[:1]
    means = [mean_over_prompts(story, attribute, name) for name in arms]
    *before, after = (number(mean.value if mean else None) for mean in means)
    soft = " → ".join(number(mean.soft if mean else None) for mean in means)
    last = means[-1]
    counted = "occupation" if last and last.n == 1 else "occupations"
    note = f"{_sized(last.n, last.low, last.high, of=counted)}; soft discrepancy {soft}" if last else ""
    return KeyFigure(f"Mean fairness discrepancy, {label(attribute)}", "".join(before), after, note)


def _worst_figure(story: Story, attribute: str, arm: str | None) -> KeyFigure | None:
    before = worst_prompt(story, attribute, story.arms[0])
    after = worst_prompt(story, attribute, arm) if arm else before
    if before is None or after is None:
        return None
    names = ", then ".join(dict.fromkeys(map(story.occupation, (before.prompt_id, after.prompt_id))))
    note = f"{names}; {interval(after.low, after.high)}, accounts for the selection from {after.prompts}"
    return KeyFigure("Worst occupation", number(before.value) if arm else "", number(after.value), note)


def _shown_figure(story: Story, arm: str | None) -> KeyFigure | None:
    label = "Occupation still shown" if arm else "Occupation shown"
    return _share_figure(story, arm, label, lambda quality: quality.prompt_shown)


def _face_figure(story: Story, arm: str | None) -> KeyFigure | None:
    return _share_figure(story, arm, "Face found", lambda quality: quality.face_found)


def _share_figure(
    story: Story, arm: str | None, label: str, measured: Callable[[QualityResult], OverPrompts | None]
) -> KeyFigure | None:
    """Return a share of the baseline images, or of both arms; None if it was not measured."""
    values = {name: measured(quality) for name, quality in story.quality.items()}
    first, last = values.get(story.arms[0]), values.get(arm or story.arms[0])
    if last is None:
        return None
    before = percent(first.value) if arm and first else ""
    return KeyFigure(label, before, percent(last.value), _sized(last.n, last.low, last.high, share=True))


def _clip_figure(story: Story, arm: str) -> KeyFigure | None:
    quality = story.quality.get(arm)
    if quality is None or quality.clip_i is None:
        return None
    figure = quality.clip_i
    note = _sized(figure.n, figure.low, figure.high)
    return KeyFigure("CLIP-I, cosine to the original", "", number(figure.value), note)


def _side_figure(story: Story, attribute: str, arm: str) -> KeyFigure | None:
    """Return the largest shift of an attribute that the arm does not edit; the note counts the others that moved."""
    effects = side_effects(story, attribute, arm)
    if not effects:
        return None
    first, moved = effects[0], sum(effect.moved for effect in effects)
    others = f"; {moved - 1}{NBSP}more moved" if moved > 1 else ""
    name = f"Side effect, shift of {first.attribute}" if first.moved else f"Largest other shift, {first.attribute}"
    verdict = "more" if first.moved else "no more"
    return KeyFigure(name, "", number(first.shift.value), f"{verdict} than chance: {first.by_chance}{others}")


def _classified_figure(story: Story, attribute: str) -> KeyFigure:
    row = story.rows.get((None, story.arms[0], attribute))
    counts = [row] if row else [story.rows[key] for key in story.rows if key[1:] == (story.arms[0], attribute)]
    classified, total = sum(item.n for item in counts), sum(sum(item.statuses.values()) for item in counts)
    return KeyFigure("Images classified", "", percent(classified / total if total else 0.0), f"{classified} of {total}")


def _sized(n: int, low: float | None, high: float | None, *, share: bool = False, of: str = "") -> str:
    size = f"{n}{NBSP}{of}" if of else f"n{NBSP}={NBSP}{n}"
    return ", ".join(part for part in (interval(low, high, share=share), size) if part)


def status_gaps(story: Story) -> tuple[StatusGap, ...]:
    """Return every arm whose unclassified share differs significantly from the baseline's."""
    return tuple(
        StatusGap(arm, percent(missing.after.value), percent(missing.before.value))
        for arm, missing in story.result.missing.items()
        if missing.differs
    )
