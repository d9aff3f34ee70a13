"""Open-set findings on the workers: images of every prompt, what sets them apart, and images of words to check them."""

from __future__ import annotations

import base64
import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from audit.analyses.pictures import Pictures, PicturesRequest, TextsRequest
from audit.calibration.bundle import bundle_of
from audit.config.optional.open_set import OpenSetConfig
from audit.config.sections import ModelConfig, QualityConfig
from audit.config.slices import DissectionRequest
from audit.planning.plan import prompt_ids, prompt_text
from audit.records.inside.open_set import OpenSet
from audit.records.work import Prompt, derive_seed
from audit.results.open_set.attributes import unnamed_attributes
from audit.results.open_set.findings import Limits, differences_of
from audit.results.open_set.rare import rare_features
from audit.results.open_set.sample import Sample
from audit.results.open_set.vocabulary import Word, words_of
from audit.results.open_set.words import WordTests, area_above, directions, with_words, word_findings, word_tests
from audit.storage.provenance import short_fingerprint
from ray_jobs.run.inside.analyse import AnalysisSettings, Request, run_analysis
from ray_jobs.run.network import NetworkSettings
from ray_jobs.run.parts import WorkerPool

LOG = logging.getLogger(__name__)

Floats = NDArray[np.floating[Any]]

LEAST_PROMPTS, LEAST_IMAGES = 3, 16
"""Least prompts, and images of each, half of them held out: two others show how much prompts differ."""


@dataclass(frozen=True)
class OpenSetRequest:
    """What is looked for.

    Attributes:
        section: The section of the config.
        dissection: Model, sampling, attributes and judge.
        quality: Networks that embed images.
        prompts: The prompts.
        neutral: Noun of the neutral prompt.
        hookpoint: A module of the model.
        rate: Rate of false discoveries.
        seed: Seed of the audit; open sets have noise of their own.
    """

    section: OpenSetConfig
    dissection: DissectionRequest
    quality: QualityConfig
    prompts: tuple[Prompt, ...]
    neutral: str
    hookpoint: str
    rate: float
    seed: int

    @property
    def problem(self) -> str | None:
        """Why nothing can be found with these settings; None if it can."""
        section, few = self.section, len(self.prompts) < LEAST_PROMPTS or self.section.images < LEAST_IMAGES
        if not section.images:
            return None
        if few:
            return (
                f"explore.open_set: expected at least {LEAST_PROMPTS} prompts and {LEAST_IMAGES} images of each, found "
                f"{len(self.prompts)} and {section.images}; a prompt is compared with the others, on two halves"
            )
        if self._networks == ():
            keys = ("features", "clip") if section.embedder == "auto" else (section.embedder,)
            found = " and ".join(f"quality.{key}: none" for key in keys)
            return (
                f"explore.open_set: expected a network that embeds images, found {found}; name one under "
                f"{' or '.join(f'quality.{key}' for key in keys)}, or set explore.open_set.images to 0"
            )
        try:
            words_of(section.lists, section.vocabulary)
        except ValueError as error:
            return str(error)
        return None

    @property
    def embedder(self) -> Literal["features", "clip"]:
        """The network whose embeddings are compared."""
        return self._networks[0]

    @property
    def _networks(self) -> tuple[Literal["features", "clip"], ...]:
        named = {"features": self.quality.features != "none", "clip": self.quality.clip != "none"}
        choices: tuple[Literal["features", "clip"], ...] = ("features", "clip")
        return tuple(one for one in choices if named[one] and self.section.embedder in ("auto", one))

    @property
    def words(self) -> tuple[Word, ...]:
        """The vocabulary; empty without a CLIP model."""
        found = words_of(self.section.lists, self.section.vocabulary)
        return found if self.quality.clip != "none" else ()

    def pictures(self, prompts: Sequence[Prompt], images: int, of: str) -> PicturesRequest:
        """Return a request for images, with noise of its own for each purpose."""
        return PicturesRequest(
            prompts=tuple(prompts),
            attributes={name: tuple(groups) for name, groups in self.dissection.attributes.items()},
            images=images,
            batch=self.dissection.sampling.batch,
            seed=derive_seed(self.seed, of),
            model=self.dissection.model,
            quality=self.quality,
            embedder=self.embedder,
            signature=networks_name(self.quality, self.dissection.model),
            clip=bool(self.words),
        )

    def settings(self, name: str, asked: Request) -> AnalysisSettings:
        """Return what a worker needs."""
        dissection = self.dissection
        network = NetworkSettings(dissection.model, dissection.sampling, self.hookpoint)
        return AnalysisSettings(name, asked, network, dissection.judge, dissection.attributes)


def find_open_set(request: OpenSetRequest, output: str, pool: WorkerPool) -> OpenSet | None:
    """Find what sets prompts apart, or resume with the parts that are missing; None if no images are asked for.

    Args:
        request: What is looked for.
        output: Path or address of the directory that holds parts.
        pool: Where the tasks run.

    Raises:
        AnalysisError: A task failed.
    """
    section = request.section
    if not section.images:
        return None
    LOG.info("Open set: %d images of each of %d prompts", section.images, len(request.prompts))
    asked = request.pictures(request.prompts, section.images, "open-set")
    made: Pictures = run_analysis(request.settings("pictures", asked), output, pool)
    sample = _sample(request, made)
    attributes = unnamed_attributes(sample)
    found = differences_of(sample, attributes, Limits(request.rate, section.margin))
    LOG.info("Open set: %d candidates, %d findings", len(found.candidates), len(found.findings))
    vocabulary = _Vocabulary(request, output, pool)
    words, scores, tests, areas = vocabulary.scored(sample, made)
    rare, by_word = rare_features(sample, section.rare), word_findings(sample, scores, words, tests, areas)
    confirmed = {one.word for one in tests.confirmed}
    reported = {one.word for one in by_word}
    known = sorted(place for place in areas if words[place].text in reported)
    result = OpenSet(
        images=section.images,
        embedder=request.embedder,
        rate=request.rate,
        margin=section.margin,
        attributes=len(attributes),
        tests=found.tests,
        candidates=len(found.candidates),
        findings=with_words(sample, found.findings, attributes, scores[:, known], [words[place] for place in known]),
        rare=rare,
        words=len(words),
        cut_words=len(request.words) - len(words),
        word_candidates=tests.candidates,
        unknown_words=tuple(words[place].text for place in sorted(confirmed) if words[place].text not in reported),
        word_findings=by_word,
        pictures={},
    )
    keys = {sample.key(row): row for row in range(len(made.webp))}
    pictures = {key: base64.b64encode(made.webp[keys[key]]).decode("ascii") for key in result.shown}
    return replace(result, pictures=pictures)


_Scored = tuple[tuple[Word, ...], Floats, WordTests, Mapping[int, tuple[float, float]]]


class _Vocabulary:
    """Scores of words in images, and the check that model and CLIP know them."""

    def __init__(self, request: OpenSetRequest, output: str, pool: WorkerPool) -> None:
        self._request, self._output, self._pool = request, output, pool

    def scored(self, sample: Sample, made: Pictures) -> _Scored:
        """Return the words that are read whole, scores (n, W), tests, and how the images of checked words score."""
        request, words = self._request, self._request.words
        if not words:
            return (), np.zeros((len(made.prompts), 0)), WordTests(0, ()), {}
        template, model, quality = request.dissection.prompts.template, request.dissection.model, request.quality
        texts = {word: prompt_text(template, word.about(request.neutral)) for word in words}
        neutral = prompt_text(template, request.neutral)
        asked = TextsRequest((neutral, *texts.values()), model, quality, networks_name(quality, model))
        vectors: Floats = run_analysis(request.settings("texts", asked), self._output, self._pool)
        read = np.isfinite(vectors[1:].sum(1))
        words = tuple(word for word, whole in zip(words, read, strict=True) if whole)
        if not words:
            return (), np.zeros((len(made.prompts), 0)), WordTests(0, ()), {}
        units = directions(vectors[1:][read], vectors[0])
        scores = made.clip @ units.T
        allowed = np.array([[not _says(prompt, word) for word in words] for prompt in request.prompts])
        tests = word_tests(sample, scores, allowed, request.rate)
        chosen = tuple(dict.fromkeys(one.word for one in tests.confirmed))[: request.section.checked_words]
        areas = self._areas(neutral, [(word, texts[words[word]], units[word]) for word in chosen])
        return words, scores, tests, areas

    def _areas(self, neutral: str, chosen: Sequence[tuple[int, str, Floats]]) -> Mapping[int, tuple[float, float]]:
        if not chosen:
            return {}
        ids = prompt_ids(("neutral", *(text for _, text, _ in chosen)))
        texts = (neutral, *(text for _, text, _ in chosen))
        prompts = [Prompt(name, text, self._request.neutral) for name, text in zip(ids, texts, strict=True)]
        LOG.info("Open set: %d words are checked", len(chosen))
        asked = self._request.pictures(prompts, self._request.section.word_images, "open-set words")
        made: Pictures = run_analysis(self._request.settings("pictures", asked), self._output, self._pool)
        return {
            word: area_above(made.clip[made.prompts == place] @ unit, made.clip[made.prompts == 0] @ unit)
            for place, (word, _, unit) in enumerate(chosen, 1)
        }


def _says(prompt: Prompt, word: Word) -> bool:
    """Return whether a prompt names a word itself, alone or in the plural; “captain” does not name a cap."""
    word_itself = rf"(?<!\w){re.escape(word.text.casefold())}(?:e?s)?(?!\w)"
    return re.search(word_itself, prompt.text.casefold()) is not None


def networks_name(quality: QualityConfig, model: ModelConfig) -> str:
    """Return the networks that embed and compare images: their settings, and hashes of local weights."""
    bundle = bundle_of(model)
    files = {name: Path(path) for name, path in quality.network_files.items()}
    if bundle is not None:
        files |= {name: getattr(bundle, name) for name in ("features", "clip") if getattr(quality, name) == "bundled"}
    if Path(quality.clip).is_dir():
        files["clip"] = Path(quality.clip)
    hashes = {name: short_fingerprint(path) for name, path in sorted(files.items()) if path.exists()}
    return json.dumps({"quality": quality.model_dump(mode="json"), "weights": hashes}, sort_keys=True)


def _sample(request: OpenSetRequest, made: Pictures) -> Sample:
    return Sample(
        names=tuple(prompt.id for prompt in request.prompts),
        prompts=made.prompts,
        numbers=made.numbers,
        vectors=made.vectors,
        codes=made.codes,
        groups={name: len(groups) for name, groups in request.dissection.attributes.items()},
    )
