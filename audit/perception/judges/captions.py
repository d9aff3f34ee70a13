"""Captions of a zero-shot judge: a text for each group, to which CLIP compares an image."""

from __future__ import annotations

from collections.abc import Sequence

from audit.config.judges import ZeroShotConfig
from audit.planning.plan import group_phrase, prompt_text

TEMPLATE = "a face photo of {a} {occupation}"
"""Template of captions; a caption names a group without an occupation: ``a face photo of an old person``."""


def group_captions(attribute: str, groups: Sequence[str]) -> list[str]:
    """Return the caption of each group: ``a face photo of a tan skinned person``.

    Raises:
        ValueError: There are fewer than two groups to choose from.
    """
    if len(groups) < 2:
        raise ValueError(
            f"expected at least 2 groups of {attribute!r} for a zero-shot judge, found {list(groups)}; add a group"
        )
    phrases = (group_phrase(attribute, group.replace("_", " ")) for group in groups)
    return [prompt_text(TEMPLATE, f"{phrase} person") for phrase in phrases]


def captions_of(
    attribute: str, groups: Sequence[str], settings: ZeroShotConfig | None = None
) -> dict[str, tuple[str, ...]]:
    """Return the captions of every group that a zero-shot judge can name for an attribute.

    Args:
        attribute: The attribute.
        groups: Its audited groups.
        settings: Captions from the config. A group without captions keeps its default caption; one that is not audited
            is a further answer of the judge.

    Raises:
        ValueError: There are fewer than two groups to choose from.
    """
    own = settings.captions.get(attribute, {}) if settings is not None else {}
    named = tuple(dict.fromkeys((*groups, *own)))
    captions = {
        group: own.get(group, text) for group, text in zip(named, group_captions(attribute, named), strict=True)
    }
    return {group: (texts,) if isinstance(texts, str) else tuple(texts) for group, texts in captions.items()}
