"""What a method costs: images and time of its fit, images of its search, calls of the denoiser per image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from audit.config.mitigations.arms import ArmConfig, parts_of
from audit.config.mitigations.joint import JointConfig
from audit.config.slices import DissectionRequest, MeasurementRequest
from audit.dissect.settings import STEERING_FILE, images_of_dissection
from audit.dissect.strengths import Strengths, strengths_of_data
from audit.planning.plan import steps_of_arms, window_of
from audit.results.run_strengths import rungs_drawn, searched_of
from audit.storage.run_directory import FIT_COSTS, LENS, RunDirectory


@dataclass(frozen=True)
class Cost:
    """What a method costs.

    Attributes:
        calls: Calls of the denoiser for one image as deployed, relative to plain sampling: exact, from the plan; of an
            arm with ``if_needed``, those of an image that has to be changed.
        fit_images: Images that the fit samples, without those of a lens; 0 if nothing is fitted.
        fit_steps: Steps of its training.
        fit_seconds: Time of the fit on the workers that made it; None if nothing is fitted, or nobody recorded it.
        search_images: Images that the search of its strengths drew for these prompts.
        lens_images: Most images that a lens needs, which is made once for a model; 0 for a method without a lens.
    """

    calls: float
    fit_images: int
    fit_steps: int
    fit_seconds: float | None
    search_images: int
    lens_images: int


def costs_of(
    request: MeasurementRequest, dissection: DissectionRequest, run: RunDirectory, steps: int
) -> dict[str, Cost]:
    """Return what every arm of a run costs.

    Args:
        request: How the images were made, with the mitigations.
        dissection: How strengths of edits through a lens are searched.
        run: The run.
        steps: Denoising steps of an image.
    """
    fits: Mapping[str, Mapping[str, Any]] = run.read_json(FIT_COSTS) if run.has(FIT_COSTS) else {}
    searched, steered = searched_of(run), _steered(run)
    found: dict[str, Cost] = {}
    for one in request.sections:
        fit = fits.get(one.name, {})
        images = rungs_drawn(searched, one.name) * int(getattr(one, "trial_images", 0))
        if one.uses_lens and one.searches_strength:
            images = rungs_drawn(steered, one.attribute) * dissection.lens.strength_images
        found[one.name] = Cost(
            calls=calls_alone(one, steps, request.attributes) / steps,
            fit_images=int(fit.get("images", 0)),
            fit_steps=int(fit.get("training_steps", 0)),
            fit_seconds=fit.get("seconds"),
            search_images=images,
            lens_images=images_of_dissection(dissection, searched=one.searches_strength) if one.uses_lens else 0,
        )
    for arm in (arm for arm in request.mitigations if isinstance(arm, JointConfig)):
        found[arm.name] = _together(found, arm, calls_alone(arm, steps, request.attributes) / steps)
    return found


def calls_alone(arm: ArmConfig, steps: int, attributes: Mapping[str, tuple[str, ...]]) -> int:
    """Return the calls of the denoiser for one image of an arm without a baseline to share steps with.

    An arm that looks at each image first makes that image, and from it, at most, the edited one.
    """
    if arm.if_needed is not None:
        return steps_of_arms([arm], steps, attributes)
    shared = min(window_of(part.acting_window, steps).start for part in parts_of(arm))
    return steps_of_arms([arm], steps, attributes) - steps + shared


def _together(found: Mapping[str, Cost], arm: JointConfig, calls: float) -> Cost:
    """Return the cost of an arm with several parts: the sum of theirs, and of one lens if several share it."""
    own = [found[part.name] for part in arm.parts]
    seconds = [one.fit_seconds for one in own if one.fit_seconds is not None]
    return Cost(
        calls=calls,
        fit_images=sum(one.fit_images for one in own),
        fit_steps=sum(one.fit_steps for one in own),
        fit_seconds=sum(seconds) if seconds else None,
        search_images=sum(one.search_images for one in own),
        lens_images=max(one.lens_images for one in own),
    )


def _steered(run: RunDirectory) -> Strengths:
    name = f"{LENS}/{STEERING_FILE}"
    return strengths_of_data(run.read_json(name)) if run.has(name) else {}
