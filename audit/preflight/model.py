"""Checks the model that a config names: whether it exists and can be sampled as published."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from audit.config.fields import API, CLOSED, GENERATED_HERE, IMAGES, WIDE
from audit.config.kinds.known_models import usual_sampling
from audit.config.mitigations.arms import ArmConfig, located, sections_of
from audit.config.mitigations.registry import MitigationConfig
from audit.config.mitigations.section import EditSection, chosen_by_method
from audit.config.mitigations.weights import FinetuningConfig
from audit.config.problems import MODEL_KEYS, Location, Problem, listing, suggestion
from audit.config.sections import ModelConfig, SamplingConfig
from audit.models.families.interface import Family
from audit.models.files.single_file import CONFIG_REMEDY, names_single_file
from audit.models.files.untrusted_model import PICKLED
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
    if model.config is not None and not names_single_file(model.source):
        message = (
            f"expected none beside {model.source!r}, which is no .safetensors file, found {model.config!r}; remove it"
        )
        yield Problem(("model", "config"), message, reads=(("model", "source"),))
    if model.world is not None and model.source not in (*GENERATED_HERE, *CLOSED):
        message = f"expected no world beside a model from outside, found {model.world!r}; remove it"
        yield Problem(("model", "world"), message, reads=(("model", "source"),))


def check_reverse_steps(
    model: ModelConfig, sampling: SamplingConfig, mitigations: Sequence[ArmConfig]
) -> Iterator[Problem]:
    """Find asymmetric steps of a scheduler other than DDIM, for which alone they are defined (Kwon et al. 2023, eq. 6).

    Yields:
        Problems, each with its place in the config.
    """
    asymmetric = [
        place
        for place, one in located(mitigations)
        if isinstance(one, EditSection) and one.reverse_step == "asymmetric"
    ]
    if not asymmetric:
        return
    from audit.models.families.registry import scheduler_here

    scheduler = scheduler_here(model, sampling)
    for at in asymmetric if scheduler not in (None, "DDIMScheduler") else ():
        message = f"expected symmetric with {scheduler}, found asymmetric, which is a step of DDIM"
        remedy = "set reverse_step: symmetric or, for a model of diffusion, sampling.scheduler: DDIMScheduler"
        yield Problem((*at, "reverse_step"), f"{message}; {remedy}", reads=(("model", "source"),))


def check_methods(model: ModelConfig, sampling: SamplingConfig, mitigations: Sequence[ArmConfig]) -> Iterator[Problem]:
    """Find methods that need something of the model that it does not have.

    These are guidance in one batch, cross-attention, prompts, a sampler whose steps a training can follow, a U-Net that
    is named, or blocks that are not compiled.

    Yields:
        Problems, each with its place in the config.
    """
    sections = sections_of(mitigations)
    if all(one.changes_prompts_alone for one in sections):
        return
    from audit.models.families.registry import family_here, rows_here

    family = family_here(model)
    found = repr(model.source) if family is None else family.name
    unguided = rows_here(model, sampling) == 1 or (family is not None and not family.guided_in_one_batch)
    reads: tuple[Location, ...] = (("model", "source"), ("sampling", "guidance"))
    for at, one in located(mitigations):
        place: Location = (*at, "method")
        reaches_inside = not (
            one.changes_prompts_alone or one.uses_lens or one.edited_modules
        )  # else its place is refused
        if family is not None and not family.denoiser and reaches_inside:
            message = f"expected a method that changes prompts alone, because {found} is not reached inside"
            remedy = "use method: prompt with its default strength"
            yield Problem(place, f"{message}, found {one.method!r}; {remedy}", reads=reads)
            continue
        if one.needs_guidance and unguided:
            message = f"expected a model with classifier-free guidance in one batch for {one.method}, found {found}"
            remedy = "set sampling.guidance above 1 if the model has it, or use another method"
            yield Problem(place, f"{message}, sampled without; {remedy}", reads=reads)
        obstacle = None if family is None else (_without_cross_attention(one, family) or _untrainable(one, family))
        if obstacle is not None:
            yield Problem(place, obstacle, reads=(("model", "source"),))
            continue
        yield from _unfit_settings(place, one, model, sampling)
        if family is not None and isinstance(one, FinetuningConfig):
            yield from _no_unet(at, one, family)


def _unfit_settings(
    place: Location, section: MitigationConfig, model: ModelConfig, sampling: SamplingConfig
) -> Iterator[Problem]:
    """Find settings of the model and the sampling that a method cannot have."""
    if section.follows_sampler and sampling.true_guidance is not None:
        yield Problem(place, _guided_twice(section, sampling), reads=(("sampling", "true_guidance"),))
    if model.compile and section.hooks_inside_blocks:
        yield Problem(place, _compiled(section), reads=(("model", "compile"),))


def _compiled(section: MitigationConfig) -> str:
    """Return the message about a method whose hooks a compiled block would not call."""
    trained = isinstance(section, FinetuningConfig)
    other, reads = (" networks: [text_encoder],", "reads or changes") if trained else ("", "reads")
    return (
        f"expected model.compile: false for {section.method}, which {reads} modules inside the blocks that are "
        f"compiled, found true; set model.compile: false,{other} or use another method"
    )


def _without_cross_attention(section: MitigationConfig, family: Family) -> str | None:
    """Return why a method that changes cross-attention cannot change that of a model; None if it can."""
    if not section.needs_cross_attention or family.cross_attention:
        return None
    message = (
        f"expected cross-attention that reads the text's embeddings, as a U-Net or PixArt has, for {section.method}"
    )
    return f"{message}, found {family.name}; use another method"


def _untrainable(section: MitigationConfig, family: Family) -> str | None:
    """Return why the training of a method cannot follow a model; None if it can, or the method has none."""
    if section.needs_text_encoder and not family.read_by_denoiser:
        message = f"expected a denoiser that reads the embeddings of prompts for {section.method}, found {family.name}"
        return f"{message}; use another method"
    if section.follows_sampler and family.redraws_noise:
        message = f"expected a sampler that draws noise once for {section.method}, whose training follows its steps"
        return f"{message}, found that of {family.name}, which draws new noise in each step; use another method"
    return None


def _guided_twice(section: MitigationConfig, sampling: SamplingConfig) -> str:
    """Return the message about a denoiser that is called twice in each step."""
    message = f"expected no sampling.true_guidance for {section.method}, whose training follows one call of the"
    return f"{message} denoiser in each step, found {sampling.true_guidance:g}; remove it, or use another method"


def _no_unet(at: Location, section: FinetuningConfig, family: Family) -> Iterator[Problem]:
    """Find a U-Net that a model does not have among the networks to change."""
    if family.denoiser == "unet" or "unet" not in section.networks:
        return
    message = f"expected text_encoder or denoiser, found unet, which {family.name} does not have; write denoiser"
    yield Problem((*at, "networks", section.networks.index("unet")), message, reads=(("model", "source"),))


def _source_problems(model: ModelConfig, sampling: SamplingConfig, hookpoints: Hookpoints) -> Iterator[Problem]:
    if model.source in GENERATED_HERE:
        yield from _calibration_model(model, sampling, hookpoints)
    elif model.source == IMAGES:
        yield from check_pictures(model)
    elif model.source == API:
        yield from check_endpoint(model)
    elif names_single_file(model.source):
        yield from _single_file(model, sampling, hookpoints)
    else:
        yield from _directory_or_hub_id(model, sampling, hookpoints)


def _directory_or_hub_id(model: ModelConfig, sampling: SamplingConfig, hookpoints: Hookpoints) -> Iterator[Problem]:
    if Path(model.source).suffix in PICKLED:
        found = f"expected a checkpoint in safetensors, found {model.source}, which can run code when it is read"
        yield _at_source(f"{found}; give the .safetensors file of this model")
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
    elif model.source == WIDE or not (bundle.path.is_relative_to(BUNDLED) and _is_known(sampling, hookpoints)):
        for problem in _problems_of(bundle.pipeline, model, sampling, hookpoints):
            yield replace(problem, location=place) if problem.location[0] == "model" else problem


def _is_known(sampling: SamplingConfig, hookpoints: Hookpoints) -> bool:
    """Return whether a bundled model is known to load and to be sampled so; a dry run would take seconds."""
    usual = {"steps", "guidance", "batch"}
    unset = all(value is None for key, value in sampling if key not in usual)
    known = all(
        path == "mid_block" or (path == "up_blocks" and chosen_by_method(place)) for place, path in hookpoints.items()
    )
    return unset and _TRAINED % sampling.steps == 0 and known


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


def _single_file(model: ModelConfig, sampling: SamplingConfig, hookpoints: Hookpoints) -> Iterator[Problem]:
    """Find a checkpoint that is missing, has no configs, or does not fit them."""
    at: Location = ("model", "config")
    if not Path(model.source).is_file():
        yield _at_source(f"expected a checkpoint in one file, found none at {model.source}; check the path")
    elif model.variant is not None:
        message = f"expected none for a checkpoint in one file, found {model.variant!r}; remove it"
        yield Problem(("model", "variant"), message, reads=(("model", "source"),))
    elif model.config is None:
        message = f"expected the directory with the configs of {model.source}, which holds weights alone, found none"
        yield Problem(at, f"{message}; {CONFIG_REMEDY}", reads=(("model", "source"),))
    elif not (Path(model.config) / "model_index.json").is_file():
        message = f"expected the configs of a diffusers pipeline, found no model_index.json in {model.config}"
        yield Problem(at, f"{message}; {CONFIG_REMEDY}")
    else:
        for problem in _problems_of(Path(model.config), model, sampling, hookpoints):
            of_configs = problem.message.startswith(model.config) and problem.location == ("model", "source")
            yield replace(problem, location=at) if of_configs else problem


def _is_path(text: str) -> bool:
    return text.startswith((".", "/", "~"))
