"""Explores a model on the workers: directions of prompts, then images of some of them to check the scores."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from audit.analyses.directions import Directions, DirectionsRequest
from audit.analyses.feature_names import NamesRequest
from audit.analyses.perceived import PerceivedRequest
from audit.config.optional.exploration import ExploreConfig
from audit.config.sections import QualityConfig
from audit.config.slices import Attributes, DissectionRequest
from audit.dissect.settings import LENS_FILE, lens_name
from audit.models.families.registry import blocks_of, family_here
from audit.models.source import model_fingerprint
from audit.perception.judges.registry import judge_name
from audit.planning.plan import group_phrase, named_text, prompt_text
from audit.records.inside.exploration import Axis, Checked, Exploration, FeatureName, Score
from audit.records.work import Prompt
from audit.results.exploration.check import check, prompts_to_check
from audit.results.exploration.names import Feature, names_of
from audit.results.exploration.scores import Modified, moves_of, neutral_scores, scores_of
from audit.results.exploration.similarity import clusters_of, similarities_of
from audit.storage.files import storage_of
from ray_jobs.run.inside.analyse import AnalysisSettings, Request, run_analysis
from ray_jobs.run.inside.open_set import OpenSetRequest, find_open_set, networks_name
from ray_jobs.run.inside.read_pictures import ReadPicturesRequest, find_pictures
from ray_jobs.run.inside.stress import StressRequest, find_stress
from ray_jobs.run.network import NetworkSettings
from ray_jobs.run.parts import WorkerPool
from ray_jobs.run.prepare.lens import find_lens

LOG = logging.getLogger(__name__)

_UNET_HOOKPOINT = "up_blocks.0"
"""Where one call ranks prompts best on the calibration model, for all three attributes (docs/decisions/0058)."""


@dataclass(frozen=True)
class ExploreRequest:
    """What is explored.

    Attributes:
        name: Name of the audit.
        explore: The section of the config.
        dissection: Model, sampling, prompts, attributes and judge.
        prompts: The prompts.
        seed: Seed of the noise of the checked images.
        quality: Networks that embed images, for open-set findings.
    """

    name: str
    explore: ExploreConfig
    dissection: DissectionRequest
    prompts: tuple[Prompt, ...]
    seed: int
    quality: QualityConfig = field(default_factory=QualityConfig)

    @property
    def open_set(self) -> OpenSetRequest:
        """What is looked for in images of every prompt."""
        return OpenSetRequest(
            section=self.explore.open_set,
            dissection=self.dissection,
            quality=self.quality,
            prompts=self.prompts,
            neutral=self.explore.neutral,
            hookpoint=self.hookpoint,
            rate=self.explore.false_discovery_rate,
            seed=self.seed,
        )

    @property
    def stress(self) -> StressRequest:
        """What is sampled under other conditions."""
        return StressRequest(
            section=self.explore.stress,
            modifiers=self.explore.modifiers,
            dissection=self.dissection,
            prompts=self.prompts,
            hookpoint=self.hookpoint,
            rate=self.explore.false_discovery_rate,
            seed=self.seed,
        )

    @property
    def pictures(self) -> ReadPicturesRequest:
        """Which pictures are read."""
        return ReadPicturesRequest(
            section=self.explore.pictures,
            dissection=self.dissection,
            directions=self.directions,
            prompts=tuple((prompt.id, prompt.text) for prompt in self.prompts),
            descriptors=self.descriptors,
            seed=self.seed,
        )

    @property
    def attributes(self) -> Attributes:
        """Audited attributes and their groups."""
        return self.dissection.attributes

    @property
    def hookpoint(self) -> str:
        """Module whose output is read."""
        model = self.dissection.model
        known = family_here(model) is not None and _UNET_HOOKPOINT.split(".")[0] in blocks_of(model)
        return self.explore.hookpoint or (_UNET_HOOKPOINT if known else self.dissection.lens.hookpoint)

    @property
    def axes(self) -> tuple[Axis, ...]:
        """An axis for each attribute, from its first to its last group, then those of the config."""
        ends = {
            name: (group_phrase(name, groups[0]), group_phrase(name, groups[-1]))
            for name, groups in self.attributes.items()
        }
        ends |= {name: (axis.low, axis.high) for name, axis in self.explore.axes.items()}
        return tuple(Axis(name, self._about(low), self._about(high)) for name, (low, high) in ends.items())

    @property
    def descriptors(self) -> tuple[tuple[str, str], ...]:
        """Words with their texts: all audited groups, then the descriptors of the config."""
        groups = [group_phrase(name, group) for name, of in self.attributes.items() for group in of]
        return tuple((word, self._about(word)) for word in dict.fromkeys((*groups, *self.explore.descriptors)))

    @property
    def modified(self) -> tuple[Modified, ...]:
        """Every prompt with every modifier."""
        template = self.dissection.prompts.template
        return tuple(
            Modified(prompt.id, prompt.text, word, named_text(template, prompt.occupation, word))
            for prompt in self.prompts
            for word in self.explore.modifiers
        )

    @property
    def directions(self) -> DirectionsRequest:
        """What is read from the model."""
        texts = [prompt.text for prompt in self.prompts] + [text for _, text in self.descriptors]
        texts += [one.modified for one in self.modified]
        return DirectionsRequest(
            hookpoint=self.hookpoint,
            step=self.explore.step,
            seeds=self.explore.seeds,
            batch=self.dissection.sampling.batch,
            neutral=prompt_text(self.dissection.prompts.template, self.explore.neutral),
            axes=self.axes,
            texts=tuple(dict.fromkeys(texts)),
        )

    def as_data(self) -> dict[str, Any]:
        """Return what names its result besides the model, as plain data."""
        return {
            "explore": self.explore.model_dump(mode="json"),
            "directions": asdict(self.directions),
            "sampling": self.dissection.sampling.model_dump(mode="json"),
            "judge": judge_name(self.dissection.judge, self.dissection.model),
            "seed": self.seed,
            **(self._open_set_data() if self.explore.open_set.images else {}),
            **({"pictures": self.pictures.as_data()} if self.explore.pictures.folder else {}),
        }

    def _open_set_data(self) -> dict[str, Any]:
        """Return what open-set findings depend on besides: the networks, and the words, since a file may change."""
        open_set = self.open_set
        return {
            "networks": networks_name(self.quality, self.dissection.model),
            "words": [[word.source, word.text] for word in open_set.words],
        }

    def _about(self, words: str) -> str:
        return named_text(self.dissection.prompts.template, self.explore.neutral, words)


def explore(request: ExploreRequest, output: str, pool: WorkerPool) -> Exploration:
    """Explore a model, or resume with the parts that are missing.

    Args:
        request: What is explored.
        output: Path or address of the directory that holds parts.
        pool: Where the tasks run.

    Raises:
        AnalysisError: If a task failed.
    """
    LOG.info(
        "Directions: %d texts at %s, step %d", len(request.directions.texts), request.hookpoint, request.explore.step
    )
    directions: Directions = run_analysis(_settings(request, "directions", request.directions), output, pool)
    prompts = [(prompt.id, prompt.text) for prompt in request.prompts]
    scores = scores_of(directions, prompts, request.explore.false_discovery_rate)
    return Exploration(
        name=request.name,
        model=model_fingerprint(request.dissection.model),
        hookpoint=request.hookpoint,
        step=request.explore.step,
        seeds=request.explore.seeds,
        width=directions.width,
        neutral=request.directions.neutral,
        texts=dict(prompts),
        axes=request.axes,
        neutral_scores=neutral_scores(directions),
        scores=scores,
        moves=moves_of(directions, request.modified, request.explore.false_discovery_rate),
        similarities=similarities_of(directions, prompts, request.descriptors),
        clusters=clusters_of(directions, prompts),
        names=_names(request, output, pool),
        checked=_checked(request, scores, output, pool),
        open_set=find_open_set(request.open_set, output, pool),
        stress=find_stress(request.stress, output, pool),
        pictures=find_pictures(request.pictures, output, pool),
    )


def _names(request: ExploreRequest, output: str, pool: WorkerPool) -> tuple[FeatureName, ...]:
    """Name the strongest bias features of the lens that exists; none is made for it."""
    dissection, most = request.dissection, request.explore.names
    lens = find_lens(dissection, output) if most else None
    if lens is None:
        if most:
            LOG.warning("explore.names: found no lens; make one with difflens-audit dissect")
        return ()
    card = json.loads(storage_of(lens).read(LENS_FILE))
    features = [
        Feature(attribute, group, row["latent"])
        for attribute, by_group in card["features"].items()
        for group, rows in by_group.items()
        for row in rows[:most]
    ]
    words = dict(request.descriptors) | {prompt.occupation: prompt.text for prompt in request.prompts}
    asked = NamesRequest(
        lens=str(lens),
        lens_name=lens_name(card["model_fingerprint"], card["settings"]),
        hookpoint=card["hookpoint"],
        step=card["steps"] // 3,
        seeds=max(2, request.explore.seeds),
        batch=dissection.sampling.batch,
        latents=tuple(sorted({feature.latent for feature in features})),
        texts=tuple(words.values()),
    )
    activity = run_analysis(_settings(request, "names", asked), output, pool)
    return names_of(activity, tuple(words), features, asked.latents)


def _checked(request: ExploreRequest, scores: Sequence[Score], output: str, pool: WorkerPool) -> tuple[Checked, ...]:
    """Sample and judge images of some prompts, and compare their shares with the scores."""
    names = prompts_to_check(scores, tuple(request.attributes), request.explore.check_prompts)
    if not names:
        return ()
    by_id = {prompt.id: prompt for prompt in request.prompts}
    images = request.explore.check_images
    LOG.info("Check: %d images of each of %d prompts", images, len(names))
    sampled = PerceivedRequest(
        prompts=tuple(by_id[name] for name in names),
        attributes={name: tuple(groups) for name, groups in request.attributes.items()},
        images=images,
        batch=request.dissection.sampling.batch,
        seed=request.seed,
    )
    counts: Mapping[str, Any] = run_analysis(_settings(request, "perceived", sampled), output, pool)
    return tuple(
        check(name, scores, names, np.asarray(counts[name], dtype=float), images) for name in request.attributes
    )


def _settings(request: ExploreRequest, name: str, asked: Request) -> AnalysisSettings:
    dissection = request.dissection
    network = NetworkSettings(dissection.model, dissection.sampling, request.hookpoint)
    return AnalysisSettings(name, asked, network, dissection.judge, dissection.attributes)
