"""Compositions on the workers: pictures of pairs and of each occupation alone, then who is perceived as which group."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit.analyses.composed.persons import Persons, PersonsRequest
from audit.analyses.pictures import TextsRequest
from audit.config.optional.compositions import CompositionsConfig
from audit.config.sections import ModelConfig, QualityConfig
from audit.config.slices import DissectionRequest
from audit.models.source import model_fingerprint
from audit.perception.judges.registry import judge_name
from audit.perception.persons.finder import faces_of, finder_name
from audit.planning.compositions import alone_prompts, matching_texts, pair_prompts
from audit.records.inside.compositions import Compositions
from audit.records.work import PairPrompt, Prompt
from audit.results.compositions.matching import balanced_text
from audit.results.compositions.summary import SeenPersons, Setting, compositions_of
from ray_jobs.run.inside.analyse import AnalysisError, AnalysisSettings, Request, run_analysis
from ray_jobs.run.inside.open_set import networks_name
from ray_jobs.run.network import NetworkSettings
from ray_jobs.run.parts import WorkerPool

LOG = logging.getLogger(__name__)

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class ComposeRequest:
    """What is composed.

    Attributes:
        name: Name of the audit.
        section: The section of the config.
        dissection: Model, sampling, attributes and judge.
        quality: Names the CLIP model.
        seed: Seed of the audit.
    """

    name: str
    section: CompositionsConfig
    dissection: DissectionRequest
    quality: QualityConfig
    seed: int

    @property
    def pairs(self) -> tuple[PairPrompt, ...]:
        """Prompts that name two occupations."""
        return pair_prompts(self.section)

    @property
    def alone(self) -> tuple[Prompt, ...]:
        """Prompts that name one of them."""
        return alone_prompts(self.section)

    @property
    def attributes(self) -> Mapping[str, tuple[str, ...]]:
        """Audited attributes and their groups."""
        return {name: tuple(groups) for name, groups in self.dissection.attributes.items()}

    @property
    def instruments(self) -> dict[str, str]:
        """Names of the judge, of the finder of persons and of the CLIP model, which change with their weights."""
        judge, model = self.dissection.judge, self.dissection.model
        return {
            "judge": judge_name(judge, model),
            "persons": finder_name(judge, model),
            "clip": _clip_name(self._only_clip, model),
        }

    @property
    def persons(self) -> PersonsRequest:
        """What is sampled, and looked at, on the workers."""
        named = self.instruments
        return PersonsRequest(
            prompts=(*self.alone, *self.pairs),
            attributes=self.attributes,
            images=self.section.images,
            batch=self.dissection.sampling.batch,
            seed=self.seed,
            model=self.dissection.model,
            faces=faces_of(self.dissection.judge, self.section.landmarks),
            quality=self._only_clip,
            signature=f"{named['persons']} {named['clip']}",
        )

    @property
    def texts(self) -> Mapping[str, tuple[str, ...]]:
        """Occupation → the texts whose mean stands for it."""
        names = [prompt.occupation for prompt in self.alone]
        return {name: matching_texts(self.section, name, self.attributes) for name in names}

    @property
    def embedded(self) -> TextsRequest:
        """All these texts."""
        texts = tuple(text for of in self.texts.values() for text in of)
        return TextsRequest(texts, self.dissection.model, self._only_clip, self.instruments["clip"])

    def settings(self, name: str, asked: Request) -> AnalysisSettings:
        """Return what a worker needs."""
        dissection = self.dissection
        network = NetworkSettings(dissection.model, dissection.sampling, dissection.lens.hookpoint)
        return AnalysisSettings(name, asked, network, dissection.judge, dissection.attributes)

    def as_data(self) -> dict[str, Any]:
        """Return everything that determines the result, besides the model, as plain data."""
        section = self.section.model_copy(update={"landmarks": None})  # a path; only the published file is accepted
        sections = {"section": section, "sampling": self.dissection.sampling, "judge": self.dissection.judge}
        return {
            **{name: section.model_dump(mode="json") for name, section in sections.items()},
            "attributes": {name: list(groups) for name, groups in self.attributes.items()},
            "instruments": self.instruments,
            "seed": self.seed,
            "dtype": self.dissection.model.dtype,
            **({"compile": True} if self.dissection.model.compile else {}),
        }

    @property
    def _only_clip(self) -> QualityConfig:
        """The quality section without other networks, so that these do not name what is sampled here."""
        return QualityConfig(clip=self.quality.clip, features="none")


def _clip_name(quality: QualityConfig, model: ModelConfig) -> str:
    """Return the source of the CLIP model, and the hash of its weights if they are on this machine."""
    weights = json.loads(networks_name(quality, model))["weights"].get("clip")
    return quality.clip if weights is None else f"{quality.clip}:{weights}"


def compose(request: ComposeRequest, output: str, pool: WorkerPool) -> Compositions:
    """Sample and look at all pictures, or resume with the parts that are missing, and summarise them.

    Args:
        request: What is composed.
        output: Path or address of the directory that holds parts.
        pool: Where the tasks run.

    Raises:
        AnalysisError: If a task failed.
    """
    pairs, alone, images = request.pairs, request.alone, request.section.images
    texts = _texts(request, output, pool)  # first, since a text that is too long stops everything
    LOG.info("Compositions: %d pairs and %d occupations alone, %d images of each", len(pairs), len(alone), images)
    found: Mapping[tuple[str, bool], Persons] = run_analysis(request.settings("persons", request.persons), output, pool)
    setting = Setting(
        name=request.name,
        model=model_fingerprint(request.dissection.model),
        instruments=request.instruments,
        attributes=request.attributes,
        certainty=request.section.certainty,
        rate=request.section.false_discovery_rate,
        scale=next(iter(found.values())).scale,
        texts=texts,
    )
    return compositions_of(
        {pair: _seen(found[pair.id, True]) for pair in pairs},
        {prompt: _seen(found[prompt.id, False]) for prompt in alone},
        setting,
    )


def _seen(found: Persons) -> SeenPersons:
    return SeenPersons(found.people, found.vectors, found.codes, found.webp)


def _texts(request: ComposeRequest, output: str, pool: WorkerPool) -> dict[str, Floats]:
    """Embed the texts of each occupation, and return their balanced means.

    Raises:
        AnalysisError: A text is too long for CLIP or the model. Checked before where their tokenizers are on this
            machine; otherwise a worker finds it.
    """
    vectors: Floats = run_analysis(request.settings("texts", request.embedded), output, pool)
    if not np.isfinite(vectors).all():
        [row, *_] = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        raise AnalysisError(
            "compositions.alone: expected texts that CLIP and the model read to their end, found "
            f"{request.embedded.texts[row]!r}, which is too long for one of them; shorten it",
            of_input=True,
        )
    ends = np.cumsum([len(of) for of in request.texts.values()])[:-1]
    return {name: balanced_text(own) for name, own in zip(request.texts, np.split(vectors, ends), strict=True)}
