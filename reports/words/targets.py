"""How targets read: what counts as fair for each attribute, and where that is from.

A distance from statistics is called just that. The words never say that a model made a difference larger: prompts that
name an occupation and captions in training data are no survey of a workforce (Seshadri et al. 2023, 2308.00755).
"""

from __future__ import annotations

from audit.records.attributes import Attribute, TargetSource
from audit.records.estimates import percent
from reports.index.story import Story, label

ORIGINS_SHOWN = 5
"""Longest list of a file's own sources; audit.json has all."""

CAUTION = (
    "A distance from shares that a file or the config names says that pictures and shares differ. It does not say why, "
    "and it does not say that the model made a difference larger: statistics of a workforce describe neither its "
    "training data nor what pictures ought to show."
)


def common_target(story: Story, attribute: Attribute) -> dict[str, float] | None:
    """Return the target of all occupations, None where they have different ones."""
    targets = [story.target(prompt, attribute) for prompt in story.prompts]
    return targets[0] if all(target == targets[0] for target in targets) else None


def is_even(story: Story, attribute: Attribute) -> bool:
    """Whether the target is an even split."""
    return _source(story, attribute).kind == "uniform"


def target_words(story: Story, attribute: Attribute) -> str:
    """Say an attribute's target and where it is from: ``an even split``."""
    source, common = _source(story, attribute), common_target(story, attribute)
    if source.kind == "uniform":
        return "an even split"
    shares = shares_words(common) if common else "shares of its own for each occupation"
    if source.kind == "shares":
        return f"{shares}, as the config says"
    digest = f" (SHA-256 {source.sha256[:12]})" if source.sha256 else ""
    return f"{shares}, from {source.file}{digest}{_origins(source)}"


def shares_words(shares: dict[str, float]) -> str:
    """Write shares by group: ``female 40 %, male 60 %``."""
    return ", ".join(f"{label(group)} {percent(share)}" for group, share in shares.items())


def target_lines(story: Story) -> tuple[str, ...]:
    """Name every attribute's target, and say with what care to read a distance from one that is not even."""
    lines = [f"Target for perceived {label(item.name)}: {target_words(story, item)}." for item in story.attributes]
    even = all(is_even(story, item) for item in story.attributes)
    return (*lines, *(() if even else (CAUTION,)))


def _source(story: Story, attribute: Attribute) -> TargetSource:
    return story.result.targets.get(attribute.name, TargetSource("uniform"))


def _origins(source: TargetSource) -> str:
    if not source.origins:
        return ", which does not say where its numbers are from"
    more = len(source.origins) - ORIGINS_SHOWN
    rest = f" and {more} more" if more > 0 else ""
    return f", whose numbers are from: {'; '.join(source.origins[:ORIGINS_SHOWN])}{rest}"
