"""Sentences about arms that look at each image first: how many images they changed, and what captions kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from audit.config.mitigations.if_needed import kept_of
from reports.index.lookups import status_counts
from reports.index.story import Story, label


def if_needed_notes(story: Story) -> tuple[str, ...]:
    """Return a sentence for each arm with ``if_needed``."""
    return tuple(_notes(story))


def _notes(story: Story) -> Iterator[str]:
    for arm in story.result.config.get("mitigations") or ():
        section = arm.get("if_needed")
        if section is not None:
            yield _changed(story, arm["name"]) + _kept(story, arm, section)


def _changed(story: Story, arm: str) -> str:
    images = sum(status_counts(story, story.attributes[0].name, arm).values())
    found = next((row.psnr for row in story.result.quality if row.arm == arm), None)
    return (
        f"“{arm}” leaves images as they are that show their assigned group without it, as the judge sees them. "
        f"{0 if found is None else found.n} of {images} images differ from those of the baseline."
    )


def _kept(story: Story, arm: Mapping[str, Any], section: Mapping[str, Any]) -> str:
    steered = [part["attribute"] for part in arm.get("parts", (arm,))]
    names = kept_of(section["keep"], [one.name for one in story.attributes], steered)
    if not names:
        return ""
    return f" Captions of changed images name what the first image shows in {', '.join(label(name) for name in names)}."
