"""Perceived shares of some prompts: images are sampled and judged, and only their counts are kept."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit.analyses.analysis import Instruments, Part, present
from audit.records.work import ImageKey, Prompt

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class PerceivedRequest:
    """What is sampled.

    Attributes:
        prompts: The prompts.
        attributes: Attribute → its groups, in the order of the judge.
        images: Images of each prompt.
        batch: Images in a batch.
        seed: Seed of the noise.
    """

    prompts: tuple[Prompt, ...]
    attributes: dict[str, tuple[str, ...]]
    images: int
    batch: int
    seed: int

    def as_data(self) -> dict[str, Any]:
        """Return what determines all parts, as plain data; each task names the text of its prompt itself."""
        return {"images": self.images, "batch": self.batch, "seed": self.seed}


@dataclass(frozen=True)
class PerceivedTask:
    """All images of one prompt."""

    prompt: Prompt

    @property
    def id(self) -> str:
        """Name of the task; the text belongs to it, because another template gives a prompt the same id."""
        return f"{self.prompt.id}.{hashlib.sha256(self.prompt.text.encode()).hexdigest()[:10]}"


class PerceivedAnalysis:
    """The analysis, see :class:`audit.analyses.analysis.SamplingAnalysis`."""

    name = "perceived"
    section = "explore"

    def tasks(self, request: PerceivedRequest) -> tuple[PerceivedTask, ...]:
        """Return one task for each prompt."""
        return tuple(PerceivedTask(prompt) for prompt in request.prompts)

    def part(self, instruments: Instruments, request: PerceivedRequest, task: PerceivedTask) -> dict[str, Counts]:
        """Sample and judge the images of a prompt."""
        prompt, counts = task.prompt, {name: np.zeros(len(of), np.int64) for name, of in request.attributes.items()}
        seeds = [ImageKey(prompt.id, index).seed(request.seed) for index in range(request.images)]
        for first in range(0, request.images, request.batch):
            images = instruments.generator.generate(prompt, seeds[first : first + request.batch])
            seen = instruments.judge.perceive(images, prompt.occupation)
            for name, groups in request.attributes.items():
                codes = seen.codes(name)
                counts[name] += np.bincount(codes[codes >= 0], minlength=len(groups))
        return counts

    def combine(self, request: PerceivedRequest, parts: Iterable[Part | None]) -> dict[str, Counts]:
        """Return, by attribute, the counts (prompts, groups) of images in which the judge perceived a group."""
        kept = list(present(self.tasks(request), parts))
        return {name: np.stack([part[name] for part in kept]) for name in request.attributes}
