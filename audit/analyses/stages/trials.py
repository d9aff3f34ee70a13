"""Edits some images in some windows of steps, and measures what they show.

A part has, for each arm and the n images of a task: ``<arm>/success`` (n,) 1 or 0, -1 for an image that showed the
concept before; ``<arm>/clip``, ``<arm>/similarity`` and ``<arm>/distance`` (n,), NaN without an instrument.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from audit.analyses.analysis import Instruments, Part, present
from audit.analyses.concepts.recorded import loaded_segmenter, seed_of
from audit.analyses.concepts.stored_recording import stage_window
from audit.analyses.stages.request import BY_TEXT, Arm, AskedStyle, TrialsRequest
from audit.config.sections import ModelConfig, QualityConfig
from audit.records.work import Prompt

if TYPE_CHECKING:
    from torch import Tensor

    from audit.analyses.stages.concepts import StageConcepts
    from audit.models.intervention import Edit, Intervention
    from audit.perception.embedders.clip import ClipEmbedder

MEASURES = ("success", "clip", "similarity", "distance")
NOT_COUNTED = -1

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class TrialTask:
    """Some images of any prompts.

    Attributes:
        number: Number of the task.
        keys: Prompt and index of each image.
    """

    number: int
    keys: tuple[tuple[Prompt, int], ...]

    @property
    def id(self) -> str:
        """Name of the task."""
        return f"images{self.number}"


class StageTrials:
    """The analysis, see :class:`audit.analyses.analysis.SamplingAnalysis`."""

    name = "stage-trials"
    section = "concepts"

    def tasks(self, request: TrialsRequest) -> tuple[TrialTask, ...]:
        """Return one task for each batch of images."""
        keys = [(prompt, index) for index in range(request.images) for prompt in request.prompts]
        batches = [tuple(keys[first : first + request.batch]) for first in range(0, len(keys), request.batch)]
        return tuple(TrialTask(number, batch) for number, batch in enumerate(batches))

    def part(self, instruments: Instruments, request: TrialsRequest, task: TrialTask) -> Arrays:
        """Sample the images of a task without an edit and with each, and measure them."""
        from audit.analyses.stages.concepts import stage_concepts
        from audit.models.replay import SharedSteps

        generator = instruments.generator
        concepts = stage_concepts(generator, request)
        interventions = [_intervention(concepts, arm, task, request, generator.steps) for arm in request.arms]
        shared = SharedSteps.of(interventions, generator.steps)
        texts = [prompt.text for prompt, _ in task.keys]
        seeds = [seed_of(request.seed, "stages", request.role, prompt.id, index) for prompt, index in task.keys]
        meter = _Meter(instruments, request, task, generator.sample(texts, seeds, shared=shared))
        found: Arrays = {}
        for arm, intervention in zip(request.arms, interventions, strict=True):
            measured = meter.measure(arm, generator.sample(texts, seeds, intervention, shared=shared))
            found |= {f"{arm.id}/{name}": value for name, value in measured.items()}
        return found

    def combine(self, request: TrialsRequest, parts: Iterable[Part | None]) -> dict[Arm, dict[str, NDArray[Any]]]:
        """Return by arm what was measured, all images one after another."""
        kept = list(present(self.tasks(request), parts))
        return {
            arm: {name: np.concatenate([part[f"{arm.id}/{name}"] for part in kept]) for name in MEASURES}
            for arm in request.arms
        }


def quadrant_of(prompt: int, index: int) -> int:
    """Return the quadrant that an image gets, so that each prompt has all of them in turn."""
    return (prompt + index) % 4


def _quadrants(task: TrialTask, request: TrialsRequest) -> list[int]:
    numbers = {prompt.id: number for number, prompt in enumerate(request.prompts)}
    return [quadrant_of(numbers[prompt.id], index) for prompt, index in task.keys]


def _intervention(
    concepts: StageConcepts, arm: Arm, task: TrialTask, request: TrialsRequest, steps: int
) -> Intervention:
    from audit.models.intervention import Intervention

    if arm.kind in BY_TEXT.values():
        return Intervention((None,) * len(task.keys), range(steps), texts=_texts_of(arm, task, request))
    edit: Edit = concepts.edit(arm, _quadrants(task, request))
    return Intervention(
        (None,) * len(task.keys), stage_window(arm.stage, steps), edits={f"update:{request.block[1]}": edit}
    )


def _texts_of(arm: Arm, task: TrialTask, request: TrialsRequest) -> tuple[str, ...]:
    """Return the prompts of the images, with what an arm asks for; a part is not named."""
    asked = request.asked.get(arm.concept)
    return tuple(prompt.text if asked is None else asked.text(request.template, prompt) for prompt, _ in task.keys)


class _Meter:
    """Compares edited images of one task with the unedited ones."""

    def __init__(self, instruments: Instruments, request: TrialsRequest, task: TrialTask, baseline: Tensor) -> None:
        self._judge, self._request, self._task, self._baseline = instruments.judge, request, task, baseline
        self._segmenter = loaded_segmenter(request.segmenter, request.model)
        self._tools = _tools(request.quality.model_dump_json(), request.model.model_dump_json())
        self._labels = self._segmenter.labels(baseline).numpy()
        self._shown = self._perceived(baseline)
        clip = self._tools.clip
        self._embedded = None if clip is None else clip.images(baseline)

    def measure(self, arm: Arm, images: Tensor) -> Arrays:
        """Return success, change of the CLIP similarity, similarity and distance of each image, (n,) each."""
        spatial = arm.kind == "spatial"
        embedded = None if self._tools.clip is None else self._tools.clip.images(images)
        success = self._moved(arm.concept, images) if spatial else self._changed(arm, images, embedded)
        clip, similarity = self._clip(arm, embedded, len(images))
        return {
            "success": success,
            "clip": clip,
            "similarity": similarity,
            "distance": self._tools.distance(images, self._baseline),
        }

    def _moved(self, part: str, images: Tensor) -> NDArray[np.int8]:
        """Return whether a part grows most in the quadrant that was asked for."""
        number = self._segmenter.parts.index(part)
        gain = _in_quadrants(self._segmenter.labels(images).numpy() == number)
        gain -= _in_quadrants(self._labels == number)
        asked = np.array(_quadrants(self._task, self._request))
        own = gain[np.arange(len(gain)), asked]
        found: NDArray[np.bool_] = (gain.argmax(1) == asked) & (own > 0)
        return found.astype(np.int8)

    def _changed(self, arm: Arm, images: Tensor, embedded: NDArray[np.float32] | None) -> NDArray[np.int8]:
        """Return whether an image shows a group or a style, if it did not do so before."""
        asked = self._request.asked[arm.concept]
        if isinstance(asked, AskedStyle):
            before, after = self._styled(arm, self._embedded), self._styled(arm, embedded)
        else:
            shown, seen = self._shown[asked.attribute], self._perceived(images)[asked.attribute]
            before, after = shown == asked.code, seen == asked.code
        return np.where(before, NOT_COUNTED, after).astype(np.int8)

    def _styled(self, arm: Arm, embedded: NDArray[np.float32] | None) -> NDArray[np.bool_]:
        """Return whether CLIP finds an image nearer to its prompt with the style than to its prompt.

        Raises:
            ValueError: There is no CLIP.
        """
        if embedded is None:
            raise ValueError("expected CLIP, which recognises styles, found quality.clip: none")
        named, own = self._asked_texts(arm), self._text_vectors(prompt.text for prompt, _ in self._task.keys)
        found: NDArray[np.bool_] = (embedded * (named - own)).sum(1) > 0
        return found

    def _asked_texts(self, arm: Arm) -> NDArray[np.float32]:
        return self._text_vectors(_texts_of(arm, self._task, self._request))

    def _text_vectors(self, texts: Iterable[str]) -> NDArray[np.float32]:
        clip = self._tools.clip
        if clip is None:
            raise ValueError("expected CLIP, found none")
        return np.stack([clip.text(text) for text in texts])

    def _perceived(self, images: Tensor) -> dict[str, NDArray[np.int64]]:
        """Return the number of the perceived group of each image by attribute."""
        wanted = {asked.attribute for asked in self._request.groups.values()}
        found = {attribute: np.zeros(len(images), np.int64) for attribute in wanted}
        prompts = [prompt for prompt, _ in self._task.keys]
        for prompt in dict.fromkeys(prompts):
            rows = [row for row, own in enumerate(prompts) if own == prompt]
            seen = self._judge.perceive(images[rows], prompt.occupation)
            for attribute in wanted:
                found[attribute][rows] = seen.codes(attribute)
        return found

    def _clip(
        self, arm: Arm, after: NDArray[np.float32] | None, count: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the change of the similarity to the text that was asked for, and the similarity to the baseline."""
        before = self._embedded
        if before is None or after is None:
            missing = np.full(count, np.nan, np.float32)
            return missing, missing
        return ((after - before) * self._asked_texts(arm)).sum(1), (after * before).sum(1)


@dataclass(frozen=True)
class _Tools:
    clip: ClipEmbedder | None
    distance: Any
    """(images, baseline) → distance of each pair, (n,)."""


@lru_cache(maxsize=1)
def _tools(quality: str, model: str) -> _Tools:
    """Load the networks that compare images, given both sections of the config as JSON."""
    from audit.perception.embedders.clip import load_clip
    from audit.perception.embedders.features import load_features
    from audit.perception.embedders.pairs import cosines, load_pair_instruments

    own, of = QualityConfig.model_validate_json(quality), ModelConfig.model_validate_json(model)
    features = load_features(own, of)
    lpips = load_pair_instruments(own, features).lpips

    def distance(images: Tensor, baseline: Tensor) -> NDArray[np.float32]:
        if lpips is not None:
            return lpips.between(images, baseline)
        if features is not None:
            return (1 - cosines(features.embed(images), features.embed(baseline))).astype(np.float32)
        return np.full(len(images), np.nan, np.float32)

    return _Tools(load_clip(own, of), distance)


def distance_name(quality: QualityConfig) -> str:
    """Return what measures the distance to the unedited image."""
    if quality.lpips is not None:
        return "LPIPS"
    return "none" if quality.features == "none" else "1 − cosine of the feature network"


def _in_quadrants(masks: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the share of each quadrant that a mask (n, H, W) covers, (n, 4)."""
    height, width = masks.shape[-2:]
    rows: Sequence[slice] = (slice(0, height // 2), slice(height // 2, height))
    columns: Sequence[slice] = (slice(0, width // 2), slice(width // 2, width))
    return np.stack([masks[:, row, column].mean((1, 2)) for row in rows for column in columns], 1)
