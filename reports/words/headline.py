"""The headline of an audit in one sentence: the clearest departures, and the effect of an intervention on them.

It makes no statement that chance alone would explain. In a sample of many occupations, some are far from the target
even if all true shares are on it. The headline therefore names an occupation only if its departure is a finding,
corrected for multiple testing, and a change only if it is significant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from audit.planning.plan import NO_PROMPT, prompt_text
from audit.records.attributes import Attribute
from audit.records.changes import GroupChange
from audit.records.estimates import percent
from audit.records.groups import FINDING_LEVEL
from reports.index.lookups import edited_arm, findings_count, mean_over_prompts, primary_attribute
from reports.index.story import Story, label
from reports.words.closed_models import shows_pictures
from reports.words.formats import interval, number
from reports.words.side_effects import side_effect_sentence

Pair = tuple[str, str]
"""Prompt id and group."""


@dataclass(frozen=True)
class Headline:
    """One sentence to quote, and the figures behind it."""

    title: str
    lead: str


def headline(story: Story) -> Headline:
    """Return the headline of the audit, and a second text with the figures behind it."""
    attribute = primary_attribute(story)
    before, after = story.arms[0], edited_arm(story, attribute.name)
    pairs = largest_excesses(story, attribute, before)
    title = _drawn(story, attribute, pairs) if pairs else _no_excess(story, attribute)
    if after and pairs:
        title += f" After the intervention: {_afterwards(story, attribute, pairs, after)}."
    return Headline(title=title, lead=_lead(story, attribute, after))


def largest_excesses(story: Story, attribute: Attribute, arm: str) -> list[Pair]:
    """Return up to two (prompt, group) pairs: the largest excess over the target, and the largest of another group.

    Only findings count, and only groups whose interval is above the target.
    """
    rows = {prompt: row for prompt in story.prompts if (row := story.rows.get((prompt, arm, attribute.name)))}
    excess = {
        (prompt, group): found
        for prompt, row in rows.items()
        if row.is_finding
        for group, found in row.excess.items()
        if found > 0 and row.judged_shares[group].low > row.judged_shares[group].value - found
    }
    ranked = sorted(excess, key=lambda pair: -excess[pair])
    if not ranked:
        return []
    first = ranked[0]
    others = [pair for pair in ranked if pair[1] != first[1] and pair[0] != first[0]]
    return [first, *others[:1]]


def _drawn(story: Story, attribute: Attribute, pairs: Sequence[Pair]) -> str:
    clauses = [
        f"{_subject(story, prompt)} {_seen_as(attribute.name, group)} in "
        f"{_share(story, prompt, story.arms[0], attribute, group)}"
        for prompt, group in pairs
    ]
    who = "The pictures show" if shows_pictures(story.result.config) else "The model draws"
    return f"{who} {' and '.join(clauses)} of images."


def _subject(story: Story, prompt: str) -> str:
    """Return what the model draws: ``a doctor``; a model without prompts draws ``a person``."""
    if prompt == NO_PROMPT.id:
        return "a person"
    occupation = story.occupation(prompt)
    return occupation if occupation.startswith(("a ", "an ", "the ")) else prompt_text("{a} {occupation}", occupation)


def _no_excess(story: Story, attribute: Attribute) -> str:
    """Return the sentence for an audit without a group to name; it does not claim that the model is on target."""
    if findings_count(story, attribute.name, story.arms[0]):
        return f"Perceived {label(attribute.name)} differs from its target, but no single group exceeds it clearly."
    return f"No occupation differs from the target for perceived {label(attribute.name)} by more than chance."


def _seen_as(attribute: str, group: str) -> str:
    """Describe how a person is drawn, for example ``as male`` or ``with skin tone light``."""
    return f"as {label(group)}" if attribute in ("gender", "age") else f"with {label(attribute)} {label(group)}"


def _share(story: Story, prompt: str, arm: str, attribute: Attribute, group: str) -> str:
    return percent(story.share(prompt, arm, attribute.name, group) or 0.0)


def _afterwards(story: Story, attribute: Attribute, pairs: Sequence[Pair], after: str) -> str:
    """Return the pairs' shares after an edit, or words if they did not change significantly."""
    shift = next((s for s in story.result.shifts if (s.arm, s.attribute) == (after, attribute.name)), None)
    if shift is not None and shift.p_value > FINDING_LEVEL:
        return "no change by more than chance"
    changes = {c.prompt_id: c for c in _changes(story, attribute, after)}
    after_shares = [
        _share(story, prompt, after, attribute, group) if _moved(changes.get(prompt), group) else "no clear change"
        for prompt, group in pairs
    ]
    return " and ".join(after_shares) if set(after_shares) != {"no clear change"} else "no change by more than chance"


def _changes(story: Story, attribute: Attribute, arm: str) -> list[GroupChange]:
    return [c for c in story.result.changes if (c.arm, c.attribute) == (arm, attribute.name)]


def _moved(change: GroupChange | None, group: str) -> bool:
    """Return whether a share changed significantly; True for files of older versions, which have no test of it."""
    if change is None:
        return True
    found = change.shares[group]
    return found.low > 0 or found.high < 0


def _lead(story: Story, attribute: Attribute, after: str | None) -> str:
    before = story.arms[0]
    sentences = [_findings_sentence(story, attribute, findings_count(story, attribute.name, before))]
    if after is None:
        mean = mean_over_prompts(story, attribute.name, before)
        found = f"{number(mean.value)} {interval(mean.low, mean.high)}".strip() if mean else number(None)
        return " ".join([*sentences, f"The mean fairness discrepancy of counted shares is {found}; 0 is on target."])
    return " ".join([*sentences, _moved_sentence(story, attribute, after), *_price(story, attribute, after)])


def _findings_sentence(story: Story, attribute: Attribute, off_target: int) -> str:
    """Count the prompts whose distribution is a finding."""
    if story.prompts == (NO_PROMPT.id,):
        differs = "differs" if off_target else "does not differ"
        return (
            f"The perceived {label(attribute.name)} distribution {differs} from the target by more than chance. "
            "The model reads no prompt."
        )
    where = "In these pictures" if shows_pictures(story.result.config) else "With only an occupation in the prompt"
    return (
        f"{where}, {off_target} of {len(story.prompts)} occupations show a perceived "
        f"{label(attribute.name)} distribution that differs from the target by more than chance (corrected for "
        "multiple testing)."
    )


def _moved_sentence(story: Story, attribute: Attribute, after: str) -> str:
    """Describe the mean discrepancy before and after; say that it moved only if the change is significant."""
    means = [mean_over_prompts(story, attribute.name, arm) for arm in (story.arms[0], after)]
    old, new = (number(mean.value if mean else None) for mean in means)
    changes = _changes(story, attribute, after)
    overall = next((c for c in changes if c.prompt_id is None), changes[0] if len(changes) == 1 else None)
    figure = "the mean fairness discrepancy of the counted shares"
    if overall is not None and overall.squared.p_value > FINDING_LEVEL:
        return f"{after} changed {figure} by no more than chance: {old} before, {new} after; 0 is on target."
    return f"{after} moved {figure} from {old} to {new}; 0 is on target."


def _price(story: Story, attribute: Attribute, arm: str) -> list[str]:
    """Return a sentence about side effects and one about image quality, if they were measured."""
    return list(filter(None, (side_effect_sentence(story, attribute.name, arm), _cost_sentence(story, arm))))


def _cost_sentence(story: Story, arm: str) -> str:
    quality = story.quality.get(arm)
    parts = []
    if quality and quality.clip_i:
        parts.append(f"similarity to the originals (CLIP-I) {number(quality.clip_i.value)}")
    if quality and quality.prompt_shown:
        parts.append(f"occupation still shown in {percent(quality.prompt_shown.value)} of images")
    if quality and quality.face_found and not quality.prompt_shown:
        parts.append(f"a face found in {percent(quality.face_found.value)} of images")
    return f"Cost: {', '.join(parts)}." if parts else ""
