"""The section ``explore.stress``: perceived shares under descriptors, other phrasings and other guidance scales."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from audit.config.fields import EachOnce, Section, Text


def _names_occupation(text: str) -> str:
    if "{occupation}" not in text:
        raise ValueError(f"expected a phrasing with {{occupation}}, found {text!r}; write where the occupation goes")
    return text


Phrasing = Annotated[Text, AfterValidator(_names_occupation)]
Guidance = Annotated[float, Field(ge=0, le=100)]


class StressConfig(Section):
    """Conditions under which every prompt is sampled and judged again."""

    images: int = Field(0, ge=0, le=100_000)
    """Images of each prompt under each condition, at least 4 since there are two halves; 0 samples none.
    ``explore.modifiers`` are conditions too."""
    phrasings: Annotated[tuple[Phrasing, ...], Field(strict=False, max_length=50), EachOnce] = ()
    """Other templates: ``a portrait of {a} {occupation}``."""
    guidance: Annotated[tuple[Guidance, ...], Field(strict=False, max_length=20), EachOnce] = ()
    """Other guidance scales."""
