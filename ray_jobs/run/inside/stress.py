"""Prompt stress on the workers: the prompts under descriptors, phrasings and guidance scales, sampled and judged."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit.analyses.perceived import PerceivedRequest
from audit.config.optional.stress import StressConfig
from audit.config.slices import DissectionRequest
from audit.planning.plan import named_text, prompt_text
from audit.records.inside.stress import Condition, Stress
from audit.records.work import Prompt, derive_seed
from audit.results.exploration.stress import stress_of
from ray_jobs.run.inside.analyse import AnalysisSettings, run_analysis
from ray_jobs.run.network import NetworkSettings
from ray_jobs.run.parts import WorkerPool

LOG = logging.getLogger(__name__)

LEAST_IMAGES = 4
"""Least images of a prompt under a condition, in two halves."""


@dataclass(frozen=True)
class StressRequest:
    """What is sampled.

    Attributes:
        section: The section of the config.
        modifiers: Words that are put before what a prompt is about.
        dissection: Model, sampling, prompts, attributes and judge.
        prompts: The prompts.
        hookpoint: A module of the model.
        rate: Rate of false discoveries.
        seed: Seed of the audit.
    """

    section: StressConfig
    modifiers: tuple[str, ...]
    dissection: DissectionRequest
    prompts: tuple[Prompt, ...]
    hookpoint: str
    rate: float
    seed: int

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The conditions, the plain one first."""
        found = [Condition("plain", "")]
        found += [Condition("descriptor", word) for word in self.modifiers]
        found += [Condition("phrasing", template) for template in self.section.phrasings]
        found += [Condition("guidance", f"{scale:.15g}") for scale in self.section.guidance]
        return tuple(found)

    def under(self, condition: Condition) -> tuple[Prompt, ...]:
        """Return the prompts under a condition; they keep their ids, so that they have equal noise."""
        template = self.dissection.prompts.template
        return tuple(replace(prompt, text=_text(condition, template, prompt)) for prompt in self.prompts)


def find_stress(request: StressRequest, output: str, pool: WorkerPool) -> Stress | None:
    """Sample all conditions, or resume with the parts that are missing; None if no images are asked for.

    Args:
        request: What is sampled.
        output: Path or address of the directory that holds parts.
        pool: Where the tasks run.

    Raises:
        AnalysisError: A task failed.
    """
    images = max(LEAST_IMAGES, request.section.images) if request.section.images else 0
    if not images:
        return None
    LOG.info("Stress: %d conditions, %d images of each prompt", len(request.conditions), images)
    sizes = (images - images // 2, images // 2)
    halves = [[dict(one) for one in _counts(request, half, size, output, pool)] for half, size in enumerate(sizes)]
    counts = {
        name: np.stack([np.stack([one[name] for one in half]) for half in halves])
        for name in request.dissection.attributes
    }
    names = [prompt.id for prompt in request.prompts]
    return stress_of(counts, request.dissection.attributes, names, request.conditions, images, request.rate)


def _counts(
    request: StressRequest, half: int, images: int, output: str, pool: WorkerPool
) -> Iterator[dict[str, NDArray[Any]]]:
    """Yield, for each condition, the counts (P, K) of each attribute."""
    same = [one for one in request.conditions if one.kind != "guidance"]
    for conditions in (same, *([one] for one in request.conditions if one.kind == "guidance")):
        found = _sampled(request, conditions, half, images, output, pool)
        for place in range(len(conditions)):
            own = slice(place * len(request.prompts), (place + 1) * len(request.prompts))
            yield {name: counts[own] for name, counts in found.items()}


def _sampled(
    request: StressRequest, conditions: Sequence[Condition], half: int, images: int, output: str, pool: WorkerPool
) -> Mapping[str, NDArray[Any]]:
    """Return the counts of conditions with one sampler, by attribute; their prompts are one analysis."""
    dissection, sampling = request.dissection, request.dissection.sampling
    if conditions[0].kind == "guidance":
        sampling = sampling.model_copy(update={"guidance": float(conditions[0].name)})
    asked = PerceivedRequest(
        prompts=tuple(prompt for condition in conditions for prompt in request.under(condition)),
        attributes={name: tuple(groups) for name, groups in dissection.attributes.items()},
        images=images,
        batch=sampling.batch,
        seed=derive_seed(request.seed, "stress", half),
    )
    network = NetworkSettings(dissection.model, sampling, request.hookpoint)
    settings = AnalysisSettings("perceived", asked, network, dissection.judge, dissection.attributes)
    found: Mapping[str, NDArray[Any]] = run_analysis(settings, output, pool)
    return found


def _text(condition: Condition, template: str, prompt: Prompt) -> str:
    if condition.kind == "descriptor":
        return named_text(template, prompt.occupation, condition.name)
    if condition.kind == "phrasing":
        return prompt_text(condition.name, prompt.occupation)
    return prompt.text
