"""What a zero-shot judge asks CLIP about each group."""

from __future__ import annotations

from collections.abc import Sequence

from audit.planning.plan import group_phrase, prompt_text

TEMPLATE = "a face photo of {a} {occupation}"
"""Each group is asked for as a person of no occupation: ``a face photo of an old person``."""


def group_captions(attribute: str, groups: Sequence[str]) -> list[str]:
    """Return what CLIP is asked about each group: ``a face photo of a tan skinned person``.

    Raises:
        ValueError: There are fewer than two groups to choose from.
    """
    if len(groups) < 2:
        raise ValueError(
            f"a zero-shot judge needs at least 2 groups of {attribute!r} to choose from, got {list(groups)}"
        )
    phrases = (group_phrase(attribute, group.replace("_", " ")) for group in groups)
    return [prompt_text(TEMPLATE, f"{phrase} person") for phrase in phrases]
