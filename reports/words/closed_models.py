"""Words about models that nobody can open: what was audited, and what such an audit cannot show."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from audit.config.fields import CLOSED, IMAGES
from audit.storage.run_directory import MODEL_FINGERPRINT
from reports.index.settings import setting
from reports.index.story import Story

_DIGITS = 12
"""Hexadecimal digits of a hash in a sentence; the provenance has all of them."""


def is_closed(config: Mapping[str, Any]) -> bool:
    """Return whether an audit's images come from a model without a network to look into."""
    return setting(config, "model", "source") in CLOSED


def shows_pictures(config: Mapping[str, Any]) -> bool:
    """Return whether an audit measured pictures that existed already."""
    return setting(config, "model", "source") == IMAGES


def pictures_by_prompt(story: Story) -> dict[str, int]:
    """Return the images of each prompt in the baseline."""
    arm, attribute = story.arms[0], story.attributes[0].name
    rows = [row for row in story.result.results if (row.arm, row.attribute) == (arm, attribute)]
    return {row.prompt_id: sum(row.statuses.values()) for row in rows if row.prompt_id is not None}


def model_name(config: Mapping[str, Any]) -> str:
    """Return a name of the audited model: its source, or for pictures the name of their folder or manifest."""
    model = config.get("model") or {}
    return (
        PurePath(str(model.get("folder") or model.get("manifest"))).name
        if shows_pictures(config)
        else setting(config, "model", "source")
    )


def audited(story: Story) -> str:
    """Return what was audited: ``94 pictures of the folder pics, sha256:0a1b2c3d4e5f``."""
    pictures = sum(pictures_by_prompt(story).values())
    return f"{pictures:,} pictures of {_place(story)}, {_hash(story)}"


def limits(story: Story) -> str:
    """Return what the figures cannot show."""
    return (
        "The figures hold for these pictures. The audit cannot check which model made them, with which settings, or "
        "whether they were selected."
    )


def how_read(story: Story) -> tuple[str, str]:
    """Return how the pictures were made or read, and what follows from it."""
    longest = setting(story.result.config, "model", "longest_side")
    resized = f"Pictures with a side above {longest} pixels were scaled down (Lanczos); others kept their size."
    return "None; pictures were read from files", f"{resized}{_unknown_texts(story)}"


def method_sentence(story: Story) -> str:
    """Return one sentence on the images of the audit, for the section on method."""
    counts = pictures_by_prompt(story).values()
    low, high = min(counts), max(counts)
    each = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    return f"{audited(story)}: {len(counts):,} prompts with {each} images each. {how_read(story)[1]}"


def _unknown_texts(story: Story) -> str:
    if (story.result.config.get("model") or {}).get("manifest"):
        return ""
    return (
        " Folders name occupations but no prompts: the cosine to the prompt (CLIP-T) assumes the text "
        f"“{setting(story.result.config, 'prompts', 'template')}”."
    )


def _place(story: Story) -> str:
    model = story.result.config.get("model") or {}
    kind = "folder" if model.get("folder") else "manifest"
    return f"the {kind} {PurePath(str(model.get(kind))).name}"


def _hash(story: Story) -> str:
    kind, _, digits = str(story.result.provenance.get(MODEL_FINGERPRINT, "hash not recorded")).partition(":")
    return f"{kind}:{digits[:_DIGITS]}" if digits else kind
