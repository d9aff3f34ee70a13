"""Which prompts, arms and attributes models have in common, and the classified images of one model there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from audit.measure.discrepancy.samples import Samples
from audit.planning.targets import target_of
from audit.records.attributes import Attribute
from audit.results.comparison.finished_run import FinishedRun

Floats = NDArray[np.float64]

LEAST_IMAGES = 2
"""Smallest number of classified images of a prompt; with fewer a squared discrepancy cannot be debiased."""


@dataclass(frozen=True)
class ModelRun:
    """A model and its finished run.

    Attributes:
        name: Name of the model in the comparison.
        run: The run.
    """

    name: str
    run: FinishedRun

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms of the run."""
        return tuple(dict.fromkeys(arm for arm, _ in self.run.images))

    def prompts(self, arm: str) -> tuple[str, ...]:
        """Return the prompts of an arm."""
        return tuple(prompt for own, prompt in self.run.images if own == arm)

    def labels(self, arm: str, prompt: str, attribute: Attribute) -> Floats:
        """Return the most probable groups of the classified images, one-hot, shape (n, K)."""
        images = self.run.images[arm, prompt]
        return images.where(images.known(attribute)).labels(attribute)

    def samples(self, arm: str, prompts: Sequence[str], attribute: Attribute) -> Samples:
        """Return the classified images of each prompt as one sample; an arm that steers images is stratified."""
        rows = [self.labels(arm, prompt, attribute) for prompt in prompts]
        owners = np.repeat(np.arange(len(rows)), [len(own) for own in rows])
        return Samples.of(np.concatenate(rows), owners, len(rows), self._strata(arm, prompts, attribute))

    def _strata(self, arm: str, prompts: Sequence[str], attribute: Attribute) -> NDArray[np.int64] | None:
        names = []
        for prompt in prompts:
            images = self.run.images[arm, prompt]
            if images.assigned is None:
                return None
            names.append(images.assigned[images.known(attribute)])
        return np.asarray(np.unique(np.concatenate(names), return_inverse=True)[1])

    def measured(self, arm: str, prompt: str, attribute: Attribute) -> bool:
        """Return whether a prompt has enough classified images in an arm."""
        images = self.run.images.get((arm, prompt))
        return images is not None and int(images.known(attribute).sum()) >= LEAST_IMAGES


def common_attributes(models: Sequence[ModelRun]) -> tuple[Attribute, ...]:
    """Return the attributes that all models have with the same groups, in the order of the first model."""
    others = [{a.name: set(a.groups) for a in model.run.attributes} for model in models[1:]]
    return tuple(
        attribute
        for attribute in models[0].run.attributes
        if all(known.get(attribute.name) == set(attribute.groups) for known in others)
    )


def common_arms(models: Sequence[ModelRun]) -> tuple[str, ...]:
    """Return the arms that at least two models have."""
    every = dict.fromkeys(arm for model in models for arm in model.arms)
    return tuple(arm for arm in every if sum(arm in model.arms for model in models) > 1)


def having(models: Sequence[ModelRun], arm: str) -> tuple[ModelRun, ...]:
    """Return the models that have an arm."""
    return tuple(model for model in models if arm in model.arms)


def common_prompts(models: Sequence[ModelRun], arm: str, attribute: Attribute) -> tuple[str, ...]:
    """Return the prompts with enough classified images in an arm of all these models, in the order of the first."""
    prompts = models[0].prompts(arm)
    return tuple(prompt for prompt in prompts if all(model.measured(arm, prompt, attribute) for model in models))


def targets_of(models: Sequence[ModelRun], prompts: Sequence[str], attribute: Attribute) -> Floats:
    """Return the distributions that count as fair, shape (P, K): those of the first model."""
    run = models[0].run
    return np.array([target_of(run.targets, prompt, attribute) for prompt in prompts])


def stacked(parts: Sequence[Samples]) -> Samples:
    """Return samples of several models as one record, one after the other."""
    names = [field.name for field in fields(Samples)]
    return Samples(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def missing_in_some(models: Sequence[ModelRun]) -> Iterator[str]:
    """Describe what only some of the models have: prompts, arms and attributes."""
    arms = {model.name: model.arms for model in models}
    prompts = {model.name: tuple(dict.fromkeys(p for _, p in model.run.images)) for model in models}
    groups = {model.name: tuple(f"{a.name} ({', '.join(a.groups)})" for a in model.run.attributes) for model in models}
    for kind, owned in (("prompt", prompts), ("arm", arms), ("attribute", groups)):
        for item in dict.fromkeys(name for names in owned.values() for name in names):
            without = [model for model, names in owned.items() if item not in names]
            if without:
                yield f"{kind} {item}: not in {' and '.join(without)}"
    for arm in common_arms(models):
        for attribute in common_attributes(models):
            yield from _too_few(having(models, arm), arm, attribute)


def _too_few(models: Sequence[ModelRun], arm: str, attribute: Attribute) -> Iterator[str]:
    for prompt in models[0].prompts(arm):
        if not all((arm, prompt) in model.run.images for model in models):
            continue
        few = [model.name for model in models if not model.measured(arm, prompt, attribute)]
        if few:
            yield (
                f"{attribute.name} of prompt {prompt}, arm {arm}: fewer than {LEAST_IMAGES} classified images of "
                f"{' and '.join(few)}"
            )
