"""Checks the model that a config names: whether it exists and can be sampled as published."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from audit.config.fields import API, CLOSED, GENERATED_HERE, IMAGES
from audit.config.kinds.known_models import usual_sampling
from audit.config.mitigations.registry import MitigationConfig
from audit.config.mitigations.section import EditSection
from audit.config.problems import MODEL_KEYS, Location, Problem, listing, suggestion
from audit.config.sections import ModelConfig, SamplingConfig
from audit.preflight.pictures import check_endpoint, check_pictures

_TRAINED = 1000
"""Timesteps of the bundled models; a divisor of them is a number of steps that can be taken."""

Hookpoints = Mapping[Location, str]
"""Place in the config → module of the denoiser."""


def check_model(model: ModelConfig, sampling: SamplingConfig, hookpoints: Hookpoints) -> Iterator[Problem]:
    """Find a model that does not exist, or that cannot be sampled as published.

    Args:
        model: Section ``model`` of the config.
        sampling: How the model is sampled.
        hookpoints: Place in the config → module whose output is read or edited.

    Yields:
        Problems, each with its place in the config.
    """
    problems = tuple(_source_problems(model, sampling, hookpoints))
    yield from problems or _unknown_sampling(model, sampling)
    if model.world is not None and model.source not in (*GENERATED_HERE, *CLOSED):
        message = f"expected no world beside a model from outside, found {model.world!r}; remove it"
        yield Problem(("model", "world"), message, reads=(("model", "source"),))


def check_reverse_steps(
    model: ModelConfig, sampling: SamplingConfig, mitigations: Sequence[MitigationConfig]
) -> Iterator[Problem]:
    """Find asymmetric steps of a scheduler other than DDIM, for which alone they are defined (Kwon et al. 2023, eq. 6).

    Yields:
        Problems, each with its place in the config.
    """
    asymmetric = [
        index
        for index, one in enumerate(mitigations)
        if isinstance(one, EditSection) and one.reverse_step == "asymmetric"
    ]
    if not asymmetric:
        return
    from audit.models.families.registry import scheduler_here

    scheduler = scheduler_here(model, sampling)
    for index in asymmetric if scheduler not in (None, "DDIMScheduler") else ():
        message = f"expected symmetric with {scheduler}, found asymmetric, which is a step of DDIM"
        remedy = "remove it, or set sampling.scheduler: DDIMScheduler"
        yield Problem(("mitigations", index, "reverse_step"), f"{message}; {remedy}", reads=(("model", "source"),))


def check_training(model: ModelConfig, mitigations: Sequence[MitigationConfig]) -> Iterator[Problem]:
    """Find methods that train through a U-Net, for a model that has none or is trained for flow matching.

    Yields:
        Problems, each with its place in the config.
    """
    trained = [index for index, one in enumerate(mitigations) if one.trains_through_unet]
    if not trained:
        return
    from audit.models.families.registry import family_here

    family = family_here(model)
    if family is None or not family.denoiser or (family.denoiser == "unet" and not family.flow):
        return
    for index in trained:
        message = f"expected a method that trains through no U-Net, found {mitigations[index].method!r}"
        remedy = f"{family.name} has another denoiser; choose h_distribution or mean_difference"
        yield Problem(("mitigations", index, "method"), f"{message}; {remedy}", reads=(("model", "source"),))


def _source_problems(model: ModelConfig, sampling: SamplingConfig, hookpoints: Hookpoints) -> Iterator[Problem]:
    if model.source in GENERATED_HERE:
        yield from _calibration_model(model, sampling, hookpoints)
    elif model.source == IMAGES:
        yield from check_pictures(model)
    elif model.source == API:
        yield from check_endpoint(model)
    elif Path(model.source).is_dir():
        yield from _pipeline_directory(Path(model.source), model, sampling, hookpoints)
    elif _is_path(model.source):
        yield _at_source(f"expected a directory with model_index.json, found none at {model.source}; check the path")
    elif not re.fullmatch(r"[\w.-]+/[\w.-]+", model.source):
        words = (*GENERATED_HERE, *CLOSED)
        message = f"expected {listing(words)}, a directory or a hub id (owner/name), found {model.source!r}"
        yield _at_source(message + suggestion(model.source, words))


def _unknown_sampling(model: ModelConfig, sampling: SamplingConfig) -> Iterator[Problem]:
    """Ask how a model is sampled, if its page is not known: steps and guidance change the shares."""
    if model.source in CLOSED or usual_sampling(model.source) is not None:
        return
    for key, example in (("steps", "50"), ("guidance", "7.5")):
        if key not in sampling.model_fields_set:
            message = (
                f"expected {key}, as the model is used, found none for {model.source!r}, whose settings are not known; "
                f"set sampling.{key} ({example} is usual for Stable Diffusion)"
            )
            yield Problem(("sampling", key), message, reads=(("model", "source"),))


def _at_source(message: str) -> Problem:
    return Problem(("model", "source"), message)


def _calibration_model(model: ModelConfig, sampling: SamplingConfig, hookpoints: Hookpoints) -> Iterator[Problem]:
    if model.source == "rendered":
        return
    if model.world is not None and Path(model.world).is_file():
        message = f"expected the directory of a trained world, found the file {model.world}; train it: make calibration"
        yield Problem(("model", "world"), message, reads=MODEL_KEYS)
        return
    from audit.calibration.bundle import BUNDLED, bundle_of

    bundle = bundle_of(model)
    if bundle is None:
        return
    place: Location = ("model", "world") if model.world else ("model", "source")
    if not (bundle.pipeline / "model_index.json").is_file():
        message = (
            f"expected a trained model, found no model_index.json in {bundle.pipeline}; train it: make calibration"
        )
        yield Problem(place, message, reads=MODEL_KEYS)
    elif not (bundle.path.is_relative_to(BUNDLED) and _is_known(sampling, hookpoints)):
        for problem in _problems_of(bundle.pipeline, model, sampling, hookpoints):
            yield replace(problem, location=place) if problem.location[0] == "model" else problem


def _is_known(sampling: SamplingConfig, hookpoints: Hookpoints) -> bool:
    """Return whether a bundled model is known to load and to be sampled so; a dry run would take seconds."""
    usual = {"steps", "guidance", "batch"}
    unset = all(value is None for key, value in sampling if key not in usual)
    return unset and _TRAINED % sampling.steps == 0 and set(hookpoints.values()) <= {"mid_block"}


def _problems_of(
    directory: Path, model: ModelConfig, sampling: SamplingConfig, hookpoints: Hookpoints
) -> tuple[Problem, ...]:
    from audit.models.check import Sampled, model_problems

    return model_problems(directory, model, Sampled(sampling, hookpoints))


def _pipeline_directory(
    directory: Path, model: ModelConfig, sampling: SamplingConfig, hookpoints: Hookpoints
) -> Iterator[Problem]:
    if (directory / "pipeline" / "model_index.json").is_file():
        remedy = f"set source: calibration and world: {directory}"
        yield _at_source(f"expected a pipeline, found a trained world in {directory}; {remedy}")
    elif not (directory / "model_index.json").is_file():
        yield _at_source(f"expected a diffusers pipeline, found no model_index.json in {directory}; check the path")
    else:
        yield from _problems_of(directory, model, sampling, hookpoints)


def _is_path(text: str) -> bool:
    return text.startswith((".", "/", "~"))
