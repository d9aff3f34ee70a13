"""Descriptions of targets: the target of each attribute, and its source.

The texts never claim that a model amplified a difference: prompts that name an occupation and training captions are not
a survey of a workforce (Seshadri et al. 2023, 2308.00755).
"""

from __future__ import annotations

from audit.records.attributes import Attribute, TargetSource
from audit.records.estimates import percent
from reports.index.story import Story, label

ORIGINS_SHOWN = 5
"""Largest number of a file's own sources to list; audit.json has all."""

CAUTION = (
    "A distance from shares that a file or the config names shows that pictures and shares differ. It does not show "
    "why, and it does not show that the model made a difference larger: statistics of a workforce describe neither the "
    "training data nor what pictures ought to show."
)


def common_target(story: Story, attribute: Attribute) -> dict[str, float] | None:
    """Return the target that all occupations share, None if they differ."""
    targets = [story.target(prompt, attribute) for prompt in story.prompts]
    return targets[0] if all(target == targets[0] for target in targets) else None


def is_even(story: Story, attribute: Attribute) -> bool:
    """Return whether the target is an even split."""
    return _source(story, attribute).kind == "uniform"


def target_words(story: Story, attribute: Attribute) -> str:
    """Return an attribute's target and its source, for example ``an even split``."""
    source, common = _source(story, attribute), common_target(story, attribute)
    if source.kind == "uniform":
        return "an even split"
    shares = shares_words(common) if common else "shares set for each occupation"
    if source.kind == "shares":
        return f"{shares}, as set in the config"
    digest = f" (SHA-256 {source.sha256[:12]})" if source.sha256 else ""
    return f"{shares}, from {source.file}{digest}{_origins(source)}"


def shares_words(shares: dict[str, float]) -> str:
    """Format shares by group: ``female 40 %, male 60 %``."""
    return ", ".join(f"{label(group)} {percent(share)}" for group, share in shares.items())


def target_lines(story: Story) -> tuple[str, ...]:
    """Describe every attribute's target, with a caution if one is not an even split."""
    lines = [f"Target for perceived {label(item.name)}: {target_words(story, item)}." for item in story.attributes]
    even = all(is_even(story, item) for item in story.attributes)
    return (*lines, *(() if even else (CAUTION,)))


def _source(story: Story, attribute: Attribute) -> TargetSource:
    return story.result.targets.get(attribute.name, TargetSource("uniform"))


def _origins(source: TargetSource) -> str:
    if not source.origins:
        return ", which names no source for its numbers"
    more = len(source.origins) - ORIGINS_SHOWN
    rest = f" and {more} more" if more > 0 else ""
    return f". The file names these sources: {'; '.join(source.origins[:ORIGINS_SHOWN])}{rest}"
