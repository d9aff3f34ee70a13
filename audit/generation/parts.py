"""Loads what a worker uses for every shard: generator, judges, embedders, lens, interventions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from audit.analyses.analysis import Observe
from audit.analyses.registry import ready_observers
from audit.config.fields import CLOSED, IMAGES
from audit.config.mitigations.arms import ArmConfig, sections_of
from audit.config.sections import ModelConfig
from audit.config.slices import MeasurementRequest
from audit.dissect.lens import Lens, check_fits
from audit.dissect.strengths import Strengths
from audit.generation.baselines import BaselineCache
from audit.mitigate.method import Intervene
from audit.mitigate.registry import ready_interventions
from audit.models.closed.api import HostedPictures
from audit.models.closed.images import PictureFiles
from audit.models.closed.interface import PictureSource
from audit.models.device import device_here
from audit.models.generator import DiffusionGenerator, Generator, load_generator
from audit.models.liveness import require_live
from audit.perception.embedders.clip import ClipEmbedder, load_clip
from audit.perception.embedders.features import FeatureEmbedder, load_features
from audit.perception.embedders.pairs import PairInstruments, load_pair_instruments
from audit.perception.group_texts import GroupDirections, group_texts
from audit.perception.judges.interface import Judge
from audit.perception.judges.registry import load_judge, load_second_judges
from audit.perception.segmenters.outside import Outside, load_outside
from audit.planning.plan import prompts_of_model
from audit.preflight.prompt_lengths import clip_texts, keeping_texts, mitigation_texts
from audit.records.work import Prompt
from audit.storage.files import Storage


@dataclass(frozen=True)
class ShardParts:
    """What a worker loads once and uses for every shard.

    Attributes:
        generator: Makes the images, or gives pictures that a closed model made.
        judge: Perceives groups in them.
        clip: Embeds images and prompts, None if the config names no CLIP model.
        features: Embeds images for the distances between arms, None if the config names no network.
        lens: Lens of the model, None if nothing is edited or attributed.
        analyses: What observes the baseline images, by the name of the analysis.
        interventions: What makes the intervention of a batch, by the name of the mitigation.
        second: Further judges by name; no result depends on them.
        pairs: Compares an image with its baseline image.
        outside: Finds what an image shows outside the face; None if the config does not ask for it.
        baselines: Baseline images of earlier audits, None if none are kept.
        searched: Mitigation → prompt id → group → strength that was searched for this audit.
        directions: Texts of the groups as ``clip`` embeds them, None without a CLIP model.
    """

    generator: Generator | PictureSource
    judge: Judge
    clip: ClipEmbedder | None
    features: FeatureEmbedder | None
    lens: Lens | None
    analyses: Mapping[str, Observe]
    interventions: Mapping[str, Intervene] = field(default_factory=dict)
    second: Mapping[str, Judge] = field(default_factory=dict)
    pairs: PairInstruments = field(default_factory=PairInstruments)
    outside: Outside | None = None
    baselines: BaselineCache | None = None
    searched: Strengths = field(default_factory=dict)
    directions: GroupDirections | None = None

    def strengths_for(self, mitigation: str, prompt: Prompt, assigned: Sequence[str]) -> tuple[float, ...] | None:
        """Return the strength of each image of a prompt as it was searched; None if none was."""
        found = self.searched.get(mitigation, {}).get(prompt.id)
        return None if found is None else tuple(found[group].strength for group in assigned)

    @property
    def signatures(self) -> dict[str, str]:
        """Signatures of the networks that measure, by role; empty for a role without a network."""
        return {
            "judge": self.judge.signature,
            "clip": "" if self.clip is None else self.clip.signature,
            "features": "" if self.features is None else self.features.signature,
            **self.pairs.signatures,
            **({} if self.outside is None else {"outside": self.outside.signature}),
            **{f"second_opinion {name}": judge.signature for name, judge in self.second.items()},
        }


def load_parts(
    request: MeasurementRequest,
    lens_path: Path | None,
    strengths: Strengths | None = None,
    fits: Mapping[str, Path] | None = None,
    storage: Storage | None = None,
) -> ShardParts:
    """Load everything that the shards of an audit need.

    Args:
        request: How the images are made and measured.
        lens_path: Directory of the lens, None if the audit needs none.
        strengths: Strengths of the audit's prompts; they replace those of the lens. None keeps those of the lens.
        fits: Directory of the finished fit, by the name of the mitigation.
        storage: Files of the run directory, where the pictures of an endpoint are kept.

    Raises:
        ValueError: If a mitigation lacks its lens or its fit, or the lens belongs to another model.
        UnfitModelError: If the model or CLIP would cut off one of the texts, or the model cannot be run as published.
    """
    prompts = prompts_of_model(request.model, request.prompts)
    generator: Generator | PictureSource
    if request.model.source in CLOSED:
        generator, fingerprint, steps = _closed(request.model, prompts, storage), "", 0
    else:
        generator = _checked(load_generator(request.model, request.sampling, request.hookpoint), request, prompts)
        fingerprint, steps = generator.fingerprint, generator.steps
    lens = None if lens_path is None else Lens.load(lens_path).to(device_here())
    if lens is not None:
        lens = replace(lens, strengths=lens.strengths | (strengths or {}))
        steered = {mitigation.attribute for mitigation in request.sections if mitigation.uses_lens}
        needed = {name: tuple(g) for name, g in request.attributes.items() if name in lens.groups or name in steered}
        check_fits(lens, fingerprint, steps, needed, generator.sampling)
    _require_live(generator, request.mitigations, lens, prompts)
    clip = load_clip(request.quality, request.model)
    if clip is not None:
        clip.reader.check(clip_texts(request, prompts))
    features = load_features(request.quality, request.model)
    return ShardParts(
        generator=generator,
        judge=load_judge(request.judge, request.model, request.attributes, clip),
        clip=clip,
        features=features,
        pairs=load_pair_instruments(request.quality, features),
        outside=load_outside(request.quality.outside, request.model),
        lens=lens,
        analyses=ready_observers(lens),
        interventions=ready_interventions(request.sections, lens, fits or {}),
        second=load_second_judges(request.second_opinions, request.model, request.attributes, clip),
        directions=None if clip is None else GroupDirections.of(clip, group_texts(request.attributes, request.judges)),
    )


def _checked(generator: Generator, request: MeasurementRequest, prompts: Sequence[Prompt]) -> Generator:
    """Return a generator that reads every text of the audit to its end.

    Raises:
        UnfitModelError: If it would cut off one of them.
    """
    if generator.reader is not None:
        generator.reader.check(prompt.text for prompt in prompts)
        generator.reader.check(text for one in request.sections for text in mitigation_texts(request, one, prompts))
        for arm in request.mitigations:
            generator.reader.check(keeping_texts(request, arm, prompts, generator.reader))
    return generator


def _closed(model: ModelConfig, prompts: Sequence[Prompt], storage: Storage | None) -> PictureSource:
    if model.source == IMAGES:
        return PictureFiles(model)
    if storage is None:
        raise ValueError("expected a run directory for the pictures of an endpoint, found none; run the audit")
    return HostedPictures(model, [prompt.id for prompt in prompts], storage)


def _require_live(
    generator: Generator | PictureSource,
    mitigations: Sequence[ArmConfig],
    lens: Lens | None,
    prompts: Sequence[Prompt],
) -> None:
    """Try every hookpoint that is observed or edited, before any shard.

    Raises:
        UnfitModelError: One has no effect, or another than an edit must have.
    """
    sections = (*sections_of(mitigations), *(arm.if_needed for arm in mitigations if arm.if_needed is not None))
    paths = [path for one in sections for path in one.edited_modules]
    if isinstance(generator, DiffusionGenerator):
        require_live(generator, [*([] if lens is None else [lens.hookpoint]), *paths], prompts[0].text)
