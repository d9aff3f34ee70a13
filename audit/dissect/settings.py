"""Settings of a lens: the part of a config that determines it, and the names of its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from audit.calibration.bundle import bundle_of, world_table
from audit.calibration.world import World
from audit.config.mitigations.arms import ArmConfig, sections_of
from audit.config.sections import Dictionaries, LensConfig, PromptsConfig
from audit.config.slices import Attributes, DissectionRequest
from audit.dissect.strengths import LADDER
from audit.models.families.registry import scheduler_here
from audit.perception.judges.registry import judge_name
from audit.planning.plan import prompts_of
from audit.records.work import Prompt
from audit.storage.provenance import content_name

LENS_FORMAT = 2
RECORDING_FORMAT = 1
BLOCK_BYTES = 1 << 28
"""Memory of one block of a computation. What needs more is computed block by block, on a CPU and a GPU alike."""
_OF_LENS = {
    "hookpoint", "whole_map", "expansion", "k", "sae_steps", "features_per_group", "baseline", "edit",
    "strength_images", "side_effect_budget", "watched", "dictionary", "temperature", "shared_features",
}  # fmt: skip
"""Settings of a lens that do not change the images that it is made from."""
Dictionary = Dictionaries
TOP_K: Final = "top_k"
BATCH_TOP_K: Final = "batch_top_k"
MATRYOSHKA: Final = "matryoshka"
CHANNELS: Final = "channels"
_USUAL = {"dictionary": TOP_K, "temperature": 1.0, "shared_features": False}
"""Later settings with the value that older lenses were made with."""
SEED = 0
"""Seed of all random draws; it is independent of the audit's seed, so that audits of one model share a lens."""

LENS_FILE = "lens.json"
"""Card, features and strengths; written last, so a directory with this file is a complete lens."""

CARD_FILE = "card.md"
"""The card in Markdown."""

HONESTY_FILE = "honesty.json"
"""How far the features can be trusted. Lenses of older releases have none."""

SHAPE_FILE = "sae.json"
"""The autoencoder's shape."""

EXAMPLES = "examples"
"""Folder of the pictures with the highest activation of a feature."""

STEERING_FILE = "steering.json"
"""File in a run, next to its copy of the lens: the strengths of the audit's own prompts, with their sources."""


@dataclass(frozen=True)
class Dissection:
    """Settings for building a lens; the part of a config that determines its name.

    Attributes:
        hookpoint: Module whose output is read.
        whole_map: One code for the whole map.
        expansion: Latents for each input dimension.
        k: Largest number of active latents; of ``batch_top_k`` their mean number.
        trajectories: Sampled images.
        recorded: Most images whose whole maps are recorded, for heads, attribution and examples.
        sae_steps: Optimiser steps of the autoencoder.
        features_per_group: Bias features kept for each group.
        baseline: Baseline of the attribution: all latents zero, or the codes of the same noise with other groups named.
        steps: Sampler steps.
        guidance: Guidance scale of the trajectories.
        batch: Images per batch.
        seed: Seed of all random draws.
        dictionary: How active latents are chosen and trained.
        temperature: T of the softmax whose probabilities are attributed.
        shared_features: Whether a latent can be a feature of several groups.
    """

    hookpoint: str
    whole_map: bool
    expansion: int
    k: int
    trajectories: int
    recorded: int
    sae_steps: int
    features_per_group: int
    baseline: Literal["zero", "counterfactual"]
    steps: int
    guidance: float
    batch: int
    seed: int
    dictionary: Dictionary = TOP_K
    temperature: float = 1.0
    shared_features: bool = False


def block_bytes() -> int:
    """Return the memory of one block of a computation."""
    return BLOCK_BYTES


def rows_per_block(bytes_per_row: int) -> int:
    """Return how many rows of a computation fit in one block, at least 1."""
    return max(1, block_bytes() // bytes_per_row)


def dissection_of(request: DissectionRequest) -> Dissection:
    """Return how the model of a request is dissected."""
    lens, sampling = request.lens, request.sampling
    return Dissection(
        hookpoint=lens.hookpoint,
        whole_map=lens.whole_map,
        expansion=lens.expansion,
        k=lens.k,
        trajectories=lens.trajectories,
        recorded=lens.recorded_trajectories,
        sae_steps=lens.sae_steps,
        features_per_group=lens.features_per_group,
        baseline=lens.baseline,
        steps=sampling.steps,
        guidance=sampling.guidance,
        batch=sampling.batch,
        seed=SEED,
        dictionary=lens.dictionary,
        temperature=lens.temperature,
        shared_features=lens.shared_features,
    )


def needs_lens(lens: LensConfig, prompts: PromptsConfig, mitigations: Sequence[ArmConfig]) -> bool:
    """Whether an audit needs a lens: a mitigation uses it, the config names one, or it asks for attribution."""
    used = any(section.uses_lens for section in sections_of(mitigations))
    return bool(used or lens.path is not None or prompts.attribution)


def searched_attributes(mitigations: Sequence[ArmConfig]) -> tuple[str, ...]:
    """Return the attributes whose edits take their strengths from a lens, each once."""
    edits = [section for section in sections_of(mitigations) if section.uses_lens and section.searches_strength]
    return tuple(dict.fromkeys(edit.attribute for edit in edits))


def images_of_dissection(request: DissectionRequest, *, searched: bool) -> int:
    """Return the most images that a lens takes: its trajectories and, if strengths are searched, every strength.

    Args:
        request: What the lens is made from.
        searched: Whether an edit takes its strengths from the lens.
    """
    if not searched:
        return request.lens.trajectories
    groups = sum(len(names) for names in dissected_groups(request.lens, request.attributes).values())
    trials = len(dissected_prompts(request)) * groups * request.lens.strength_images * len(LADDER)
    return request.lens.trajectories + trials


def dissected_groups(lens: LensConfig, attributes: Attributes) -> dict[str, tuple[str, ...]]:
    """Return the groups of the attributes that a lens knows."""
    return {attribute: tuple(attributes[attribute]) for attribute in lens.attributes}


def dissected_prompts(request: DissectionRequest) -> tuple[Prompt, ...]:
    """Return the prompts that a lens is made from.

    For a calibration model these are all occupations of its world, so that its audits share one lens.
    """
    if bundle_of(request.model) is None or request.prompts.occupations == "none":
        return prompts_of(request.prompts, ())
    occupations = World.load(world_table(request.model)).occupations
    return prompts_of(request.prompts.model_copy(update={"occupations": "all"}), occupations)


def lens_settings(request: DissectionRequest) -> dict[str, Any]:
    """Return everything besides the model that determines a lens, as plain data."""
    groups = dissected_groups(request.lens, request.attributes)
    dissection = asdict(dissection_of(request))
    if dissection["recorded"] >= dissection["trajectories"]:  # all are recorded, so the limit changes nothing
        dissection.pop("recorded")
    for name, usual in _USUAL.items():  # as older lenses, which do not name them
        if dissection[name] == usual:
            dissection.pop(name)
    return {
        **dissection,
        "groups": {attribute: list(names) for attribute, names in groups.items()},
        "prompts": [prompt.text for prompt in dissected_prompts(request)],
        **({} if request.lens.edit == "add" else {"edit": request.lens.edit}),
        **_also_watched(request),
        "strength_images": request.lens.strength_images,
        "side_effect_budget": request.lens.side_effect_budget,
        "judge": judge_name(request.judge, request.model),
        **_sampled_by(request),
    }


def _also_watched(request: DissectionRequest) -> dict[str, Any]:
    """Return the attributes without features in which the search for strengths looks for side effects, if any."""
    others = {name: list(of) for name, of in request.attributes.items() if name not in request.lens.attributes}
    return {"watched": others} if others else {}


def _sampled_by(request: DissectionRequest) -> dict[str, Any]:
    """Return what else determines the trajectories; nothing for DDIM, with which the first lenses were made."""
    scheduler = scheduler_here(request.model, request.sampling)
    return request.sampling.departures | ({} if scheduler in (None, "DDIMScheduler") else {"scheduler": scheduler})


def lens_name(model_fingerprint: str, settings: Mapping[str, Any]) -> str:
    """Return the name of a lens by content, so that a lens for the same model and settings is built only once."""
    return content_name("lens", LENS_FORMAT, model_fingerprint, settings)


def recording_name(model_fingerprint: str, settings: Mapping[str, Any]) -> str:
    """Return the name of a recording by content, for all lenses that are made from the same images.

    Args:
        model_fingerprint: Fingerprint of the model.
        settings: Settings of one of the lenses.
    """
    of_images = {key: value for key, value in settings.items() if key not in _OF_LENS}
    return content_name("recording", RECORDING_FORMAT, model_fingerprint, of_images)
