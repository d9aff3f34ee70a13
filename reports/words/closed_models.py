"""Words about models without weights: what was audited, and what such an audit cannot show."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from audit.config.fields import API, CLOSED, IMAGES
from audit.planning.plan import prompt_text
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
    """Return a name of the audited model.

    It is its source, for pictures the name of their folder or manifest, and for an endpoint the name of the model.
    """
    model, source = config.get("model") or {}, setting(config, "model", "source")
    if source == IMAGES:
        return PurePath(str(model.get("folder") or model.get("manifest"))).name
    return setting(config, "model", "model") if source == API else source


def audited(story: Story) -> str:
    """Return what was audited: ``94 pictures of the folder pics, sha256:0a1b2c3d4e5f``, or endpoint and requests."""
    if not shows_pictures(story.result.config):
        return f"Endpoint {_sampled(story, 'endpoint')}, model {_sampled(story, 'model')}, {_requests(story)}"
    pictures = sum(pictures_by_prompt(story).values())
    return f"{pictures:,} pictures of {_place(story)}, {_hash(story)}"


def limits(story: Story) -> str:
    """Return what the figures cannot show."""
    if shows_pictures(story.result.config):
        return (
            "The figures hold for these pictures. The audit cannot check which model made them, with which settings, "
            "or whether they were selected."
        )
    return (
        "The figures hold for the pictures that this endpoint sent at that time. Which weights made them is unknown, "
        f"and the provider may change weights, filters and prompts.{_changes_of_endpoint(story)}"
    )


def how_read(story: Story) -> tuple[str, str]:
    """Return how the pictures were made or read, and what follows from it."""
    longest = setting(story.result.config, "model", "longest_side")
    resized = f"Pictures with a side above {longest} pixels were scaled down (Lanczos); others kept their size."
    if shows_pictures(story.result.config):
        return "None; pictures were read from files", f"{resized}{_unknown_texts(story)}"
    parameters = (story.result.config.get("model") or {}).get("parameters") or {}
    asked = "".join(f", {name}: {value}" for name, value in parameters.items())
    size = setting(story.result.config, "model", "size")
    return f"Unknown; requested size {size}{asked}, one image per request", f"No seed is sent. {resized}"


def method_sentence(story: Story) -> str:
    """Return one sentence on the images of the audit, for the section on method."""
    counts = pictures_by_prompt(story).values()
    low, high = min(counts), max(counts)
    each = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    facts = f"{audited(story)}: {len(counts):,} prompts with {each} images each. {how_read(story)[1]}"
    if shows_pictures(story.result.config):
        return facts
    template = setting(story.result.config, "prompts", "template")
    prompt = prompt_text(template, story.occupation(story.prompts[0]))
    return f"{facts} Prompts are sent like “{prompt}”.{_cost(story)}{_unanswered(story)}"


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


def _counts(story: Story) -> Mapping[str, Any]:
    counts = story.result.provenance.get("requests")
    return counts if isinstance(counts, Mapping) else {}


def _sampled(story: Story, name: str) -> str:
    return setting(story.result.provenance, "sampling", name)


def _requests(story: Story) -> str:
    """Return the requests and their outcomes: ``94 requests, 3 refused, 1 failed``."""
    counts = _counts(story)
    if not counts:
        return "requests not recorded"
    failed = f", {counts['failed']:,} failed" if counts.get("failed") else ""
    return f"{counts['requests']:,} request{'s' * (counts['requests'] != 1)}, {counts['refused']:,} refused{failed}"


def _changes_of_endpoint(story: Story) -> str:
    counts = _counts(story)
    refused, revised = counts.get("refused", 0), counts.get("revised", 0)
    words = [f" It refused {refused:,} images, which count as failed and belong to no share."] if refused else []
    if revised:
        words.append(f" It drew {revised:,} images from another prompt than the one that was sent.")
    return "".join(words)


def _cost(story: Story) -> str:
    cost = _counts(story).get("cost")
    if not isinstance(cost, Mapping):
        return ""
    least, most = f"{cost['least']:,.2f}", f"{cost['most']:,.2f}"
    return f" Cost by model.limits.price_per_image: {least if least == most else f'{least} to {most}'}."


def _unanswered(story: Story) -> str:
    unanswered = _counts(story).get("unanswered", 0)
    if not unanswered:
        return ""
    return f" {unanswered:,} request{'s' * (unanswered != 1)} had no answer and may have been charged."
