"""What to dissect and how: the part of a config that names a lens, and the names of a lens's files."""

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
"""Seed of every draw of a dissection: not the audit's, so that audits of one model share a lens."""
WORD_ORDER = ("age", "gender", "skin_tone")
"""Order of the groups in a prompt; attributes that are not listed come after these."""

LENS_FILE = "lens.json"
"""Card, features and strengths; written last, so that a directory with it is a whole lens."""

CARD_FILE = "card.md"
"""The same for people."""

SHAPE_FILE = "sae.json"
"""The autoencoder's shape."""

EXAMPLES = "examples"
"""Folder of the pictures that make a feature fire most."""

STEERING_FILE = "steering.json"
"""In a run, beside what it keeps of its lens: the strengths of the audit's own prompts, and where they come from."""


@dataclass(frozen=True)
class Dissection:
    """How a model is dissected; the part of a config that names a lens.

    Attributes:
        hookpoint: Module whose output is read.
        whole_map: One code for the whole map.
        expansion: Latents for each input dimension.
        k: Latents active at once.
        trajectories: Sampled images.
        sae_steps: Optimiser steps of the autoencoder.
        features_per_group: Bias features kept for each group.
        baseline: Where attribution starts: all latents off, or the codes of the same noise under other groups' names.
        steps: Sampler steps.
        guidance: Guidance scale of the trajectories.
        batch: Images in a batch.
        seed: Of every draw.
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
    """Whether an audit looks into its model: it edits it, names a lens, or asks for attribution."""
    through_lens = any(mitigation.uses_lens for mitigation in config.mitigations)
    return bool(through_lens or config.lens.path is not None or config.prompts.attribution)


def images_of_dissection(config: AuditConfig) -> int:
    """Most images that making a lens takes: its trajectories, and every strength of every prompt and group."""
    groups = sum(len(names) for names in dissected_groups(config).values())
    searched = len(dissected_prompts(config)) * groups * config.lens.strength_images * len(LADDER)
    return config.lens.trajectories + searched


def dissected_groups(config: AuditConfig) -> dict[str, tuple[str, ...]]:
    """Groups of the attributes that a config's lens knows."""
    return {attribute: tuple(config.attributes[attribute]) for attribute in config.lens.attributes}


def dissected_prompts(config: AuditConfig) -> tuple[Prompt, ...]:
    """Prompts that a lens is made from: a calibration model's whole world, so that its audits share one lens."""
    if bundle_of(config.model) is None or config.prompts.occupations == "none":
        return prompts_of(config, ())
    occupations = World.load(world_table(config.model)).occupations
    everything = config.prompts.model_copy(update={"occupations": "all"})
    return prompts_of(config.model_copy(update={"prompts": everything}), occupations)


def name_groups(template: str, prompt: Prompt, groups: Mapping[str, str]) -> str:
    """Text of a prompt with groups named before the occupation: ``… of an old female tan skinned doctor``."""
    order = sorted(groups, key=lambda a: WORD_ORDER.index(a) if a in WORD_ORDER else len(WORD_ORDER))
    words = [group_phrase(attribute, groups[attribute]) for attribute in order]
    return named_text(template, prompt.occupation, " ".join(words))


def lens_settings(config: AuditConfig) -> dict[str, Any]:
    """All that decides a lens beside the model, as plain data."""
    return {
        **asdict(dissection_of(config)),
        "groups": {attribute: list(names) for attribute, names in dissected_groups(config).items()},
        "prompts": [prompt.text for prompt in dissected_prompts(config)],
        "strength_images": config.lens.strength_images,
        "side_effect_budget": config.lens.side_effect_budget,
        "judge": _judge(config),
    }


def _judge(config: AuditConfig) -> str:
    """Name the judge that labels the trajectories, and its weights: another one's labels make another lens."""
    source = Path(config.judge.source)
    bundle = bundle_of(config.model) if config.judge.source == "bundled" else None
    weights = short_fingerprint(bundle.judge, NETWORK_FILES) if bundle else short_fingerprint(source)
    return f"{source.name}:{weights}"


def lens_name(model_fingerprint: str, settings: Mapping[str, Any]) -> str:
    """Name a lens by content: the same model and settings are dissected once."""
    return content_name("lens", LENS_FORMAT, model_fingerprint, settings)
