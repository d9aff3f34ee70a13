"""Settings of a lens: the part of a config that determines it, and the names of its files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from audit.calibration.bundle import NETWORK_FILES, bundle_of, world_table
from audit.calibration.world import World
from audit.config.settings import AuditConfig
from audit.dissect.strengths import LADDER
from audit.planning.plan import group_phrase, named_text, prompts_of
from audit.records.work import Prompt
from audit.storage.provenance import content_name, short_fingerprint

LENS_FORMAT = 2
SEED = 0
"""Seed of all random draws; it is independent of the audit's seed, so that audits of one model share a lens."""
WORD_ORDER = ("age", "gender", "skin_tone")
"""Order of the groups in a prompt; attributes that are not listed come after these."""

LENS_FILE = "lens.json"
"""Card, features and strengths; written last, so a directory with this file is a complete lens."""

CARD_FILE = "card.md"
"""The card in Markdown."""

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
        k: Largest number of active latents.
        trajectories: Sampled images.
        sae_steps: Optimiser steps of the autoencoder.
        features_per_group: Bias features kept for each group.
        baseline: Baseline of the attribution: all latents zero, or the codes of the same noise with other groups named.
        steps: Sampler steps.
        guidance: Guidance scale of the trajectories.
        batch: Images per batch.
        seed: Seed of all random draws.
    """

    hookpoint: str
    whole_map: bool
    expansion: int
    k: int
    trajectories: int
    sae_steps: int
    features_per_group: int
    baseline: Literal["zero", "counterfactual"]
    steps: int
    guidance: float
    batch: int
    seed: int


def dissection_of(config: AuditConfig) -> Dissection:
    """Read the dissection from a config."""
    lens, sampling = config.lens, config.sampling
    return Dissection(
        hookpoint=lens.hookpoint,
        whole_map=lens.whole_map,
        expansion=lens.expansion,
        k=lens.k,
        trajectories=lens.trajectories,
        sae_steps=lens.sae_steps,
        features_per_group=lens.features_per_group,
        baseline=lens.baseline,
        steps=sampling.steps,
        guidance=sampling.guidance,
        batch=sampling.batch,
        seed=SEED,
    )


def needs_lens(config: AuditConfig) -> bool:
    """Return whether an audit needs a lens: a mitigation uses it, the config names one, or attribution is on."""
    through_lens = any(mitigation.uses_lens for mitigation in config.mitigations)
    return bool(through_lens or config.lens.path is not None or config.prompts.attribution)


def images_of_dissection(config: AuditConfig) -> int:
    """Return the largest number of images for a lens: its trajectories, and all strengths of all prompts and groups."""
    groups = sum(len(names) for names in dissected_groups(config).values())
    searched = len(dissected_prompts(config)) * groups * config.lens.strength_images * len(LADDER)
    return config.lens.trajectories + searched


def dissected_groups(config: AuditConfig) -> dict[str, tuple[str, ...]]:
    """Return the groups of the lens's attributes."""
    return {attribute: tuple(config.attributes[attribute]) for attribute in config.lens.attributes}


def dissected_prompts(config: AuditConfig) -> tuple[Prompt, ...]:
    """Return the prompts of a lens; for a calibration model, its whole world, so that its audits share one lens."""
    if bundle_of(config.model) is None or config.prompts.occupations == "none":
        return prompts_of(config, ())
    occupations = World.load(world_table(config.model)).occupations
    everything = config.prompts.model_copy(update={"occupations": "all"})
    return prompts_of(config.model_copy(update={"prompts": everything}), occupations)


def name_groups(template: str, prompt: Prompt, groups: Mapping[str, str]) -> str:
    """Return a prompt's text with groups named before the occupation: ``… of an old female tan skinned doctor``."""
    order = sorted(groups, key=lambda a: WORD_ORDER.index(a) if a in WORD_ORDER else len(WORD_ORDER))
    words = [group_phrase(attribute, groups[attribute]) for attribute in order]
    return named_text(template, prompt.occupation, " ".join(words))


def lens_settings(config: AuditConfig) -> dict[str, Any]:
    """Return all settings that determine a lens, except the model, as plain data."""
    return {
        **asdict(dissection_of(config)),
        "groups": {attribute: list(names) for attribute, names in dissected_groups(config).items()},
        "prompts": [prompt.text for prompt in dissected_prompts(config)],
        "strength_images": config.lens.strength_images,
        "side_effect_budget": config.lens.side_effect_budget,
        "judge": _judge(config),
    }


def _judge(config: AuditConfig) -> str:
    """Return the name and weights of the judge that labels the trajectories, because its labels influence the lens."""
    source = Path(config.judge.source)
    bundle = bundle_of(config.model) if config.judge.source == "bundled" else None
    weights = short_fingerprint(bundle.judge, NETWORK_FILES) if bundle else short_fingerprint(source)
    return f"{source.name}:{weights}"


def lens_name(model_fingerprint: str, settings: Mapping[str, Any]) -> str:
    """Return the name of a lens by content, so that a lens for the same model and settings is built only once."""
    return content_name("lens", LENS_FORMAT, model_fingerprint, settings)
