"""Sentences about the sampler and the number of images (fixed, or determined in two stages)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from audit.records.result import TwoStageSampling
from reports.index.settings import setting
from reports.index.story import Story, label
from reports.words.closed_models import pictures_by_prompt, shows_pictures
from reports.words.formats import number


def images_words(story: Story) -> str:
    """Return how many images of each prompt an arm has: ``64``, or ``64 to 402``."""
    staged = story.result.two_stage
    if staged is None and not shows_pictures(story.result.config):
        return setting(story.result.config, "prompts", "images_per_prompt")
    images = pictures_by_prompt(story) if staged is None else staged.images
    low, high = min(images.values()), max(images.values())
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def sampling_words(staged: TwoStageSampling) -> str:
    """Return sentences on two-stage sampling: images made, images of a single stage, and the affected intervals."""
    made, single = sum(staged.images.values()), staged.single_stage * len(staged.images)
    widest = f"; the widest is ± {number(staged.widest)}" if staged.widest is not None else ""
    half, group = number(staged.half_width), label(staged.group)
    return (
        f"Images were made in two stages: a pilot of {staged.pilot:,} per occupation and arm, then as many as the "
        f"share of {group} needs for an interval of ± {half} in the baseline{widest}. This took {made:,} images per "
        f"arm. A single stage of {staged.single_stage:,} per occupation takes {single:,}, {staged.saving:.2f} times as "
        "many. The intervals of these shares are exact for two stages; the other intervals assume a fixed number of "
        "images. An occupation with more images has more weight in pooled shares, but not in means over occupations."
    )


def sampler_words(provenance: Mapping[str, Any]) -> str:
    """Name the sampler that drew the images and the published one, and state that no safety filter was on.

    Empty if nothing was sampled, or for a run of an older release that did not record it.
    """
    sampling = provenance.get("sampling")
    if not isinstance(sampling, Mapping):
        return ""
    spacing = f" ({sampling['timestep_spacing']})" if "timestep_spacing" in sampling else ""
    guidance = f", guidance {sampling['guidance']}" if "guidance" in sampling else ""
    size = "".join(f", {side} {sampling[side]} pixels" for side in ("height", "width") if side in sampling)
    negative = f", negative prompt “{sampling['negative_prompt']}”" if "negative_prompt" in sampling else ""
    used = f"{scheduler_name(sampling)}, {sampling.get('steps')} steps{spacing}{guidance}{size}{negative}"
    rest = f"{_inside_words(sampling)}{_compiled_words(sampling)}{_checker_words(sampling)}"
    return f"The sampler is {used}. {published_words(sampling)}{rest}"


def scheduler_name(sampling: Mapping[str, Any]) -> str:
    """Name the scheduler; a run of an earlier release always had DDIM and calls it the sampler."""
    return str(sampling.get("scheduler") or sampling.get("sampler") or sampling.get("pipeline"))


def published_words(sampling: Mapping[str, Any]) -> str:
    """Say whether the scheduler is the published one."""
    if "scheduler" not in sampling and "sampler" not in sampling:
        return "The pipeline's own code runs it."
    published = str(sampling.get("published_scheduler", "an unknown scheduler"))
    used = sampling.get("scheduler", "DDIMScheduler")
    if used == published:
        return "It is the published one, and the pipeline's own code runs it."
    return f"The model is published with {published}, with which users get other images from the same noise."


def _inside_words(sampling: Mapping[str, Any]) -> str:
    """Say that nothing inside the model was read or changed; empty if its modules can be reached."""
    if "inside" not in sampling:
        return ""
    return " The model is a black box: its modules are not reached, so nothing in it was analysed or edited."


def _compiled_words(sampling: Mapping[str, Any]) -> str:
    """Say that the denoiser ran with compiled blocks; empty if it ran as published."""
    if "compiled" not in sampling:
        return ""
    compiled = sampling["compiled"]
    return f" The denoiser is compiled ({compiled}): its images differ from those of the plain one by rounding."


def _checker_words(sampling: Mapping[str, Any]) -> str:
    """Say that the safety checker is off; empty if models of this kind have none."""
    if "safety_checker" not in sampling:
        return ""
    return (
        f" The safety checker is {sampling['safety_checker']}, because it would silently replace images by blank ones."
    )
