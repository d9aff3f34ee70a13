"""The differences between models, each with intervals, a p-value and a decision by Holm's procedure.

Two models are two independent samples. Images of two models with the same key have the same seed, but the noise that
it gives means nothing to another network, and a judge can fail on an image of only one of them. Pairs would therefore
drop images for no gain, and the figures would not be those of the models' own reports. If the images of two models
agree more often than chance, as those of two checkpoints of one architecture do, the intervals are too wide and never
too narrow; ``difflens-audit compare`` compares two such runs in pairs.

There are two families of tests, each with half of the error rate, and each decided by Holm's procedure (1979), which
is valid for any dependence between the tests. The first has the mean squared discrepancy of each pair of models, arm
and attribute, over the prompts that all models have. The second has the share of each group of each prompt that both
models have; with two groups one share determines the other and is the only one tested. The probability that a
comparison establishes any difference that does not exist is therefore at most the error rate, whatever other
differences exist. Benjamini and Hochberg's procedure limits the share of wrong ones among those found, which is less.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from audit.measure.discrepancy.changes import two_sample_discrepancy_changes
from audit.measure.discrepancy.estimate import debiased_squares
from audit.measure.discrepancy.samples import Samples
from audit.measure.inference.multiplicity import HolmStep, holm_steps
from audit.measure.prompts.over_prompts import change_of_these_prompts
from audit.measure.shares.changes import fisher_p_value, two_sample_share_difference
from audit.records.estimates import Change, Estimate
from audit.results.models.places import (
    ModelRun,
    common_arms,
    common_attributes,
    common_prompts,
    having,
    stacked,
    targets_of,
)
from audit.results.models.records import ERROR_RATE, Difference

FAMILIES = 2
"""Families of tests, which have equal parts of the error rate."""


@dataclass(frozen=True)
class Compared:
    """What a test compares: two models, an arm and an attribute, and the prompt and group of a share."""

    first: str
    second: str
    arm: str
    attribute: str
    prompt_id: str | None = None
    group: str | None = None


class ModelTest(Protocol):
    """A test of no difference between two models."""

    @property
    def compared(self) -> Compared: ...  # noqa: D102
    @property
    def values(self) -> tuple[float, float]: ...  # noqa: D102
    @property
    def p_value(self) -> float: ...  # noqa: D102
    def interval(self, confidence: float) -> Estimate: ...  # noqa: D102
    def could_reject(self, level: float) -> bool: ...  # noqa: D102


@dataclass(frozen=True)
class ShareTest:
    """Fisher's exact test of two shares, with the score interval of their difference.

    Attributes:
        compared: What it compares.
        counts: Images of the group of the first and of the second model.
        images: Classified images of both.
    """

    compared: Compared
    counts: tuple[int, int]
    images: tuple[int, int]

    @property
    def values(self) -> tuple[float, float]:
        """The share of each model."""
        return self.counts[0] / self.images[0], self.counts[1] / self.images[1]

    @cached_property
    def p_value(self) -> float:
        """The exact p-value."""
        return _fisher(self.counts[0], self.images[0], self.counts[1], self.images[1])

    def could_reject(self, level: float) -> bool:
        """Return whether the exact test rejects at a level."""
        return self.p_value <= level

    def interval(self, confidence: float) -> Estimate:
        """Return first − second with its interval."""
        (first, second), (n_first, n_second) = self.counts, self.images
        return two_sample_share_difference(second, n_second, first, n_first, confidence)


@dataclass(frozen=True)
class Pairs:
    """All pairs of models in one arm and attribute, whose intervals are computed together, which is much faster.

    Attributes:
        samples: Name of the model → its images, one sample for each of P prompts.
        targets: The distributions that count as fair, shape (P, K).
    """

    samples: Mapping[str, Samples]
    targets: NDArray[np.float64]

    @cached_property
    def names(self) -> tuple[tuple[str, str], ...]:
        """The first and the second model of each pair."""
        return tuple(itertools.combinations(self.samples, 2))

    @cached_property
    def squares(self) -> dict[str, float]:
        """The mean squared discrepancy of each model, debiased."""
        return {name: float(debiased_squares(own, self.targets).mean()) for name, own in self.samples.items()}

    @cached_property
    def _changes(self) -> dict[float, tuple[Change, ...]]:
        return {}

    def changes(self, confidence: float) -> tuple[Change, ...]:
        """Return first − second of each pair: the mean over the prompts, or the change of a single prompt."""
        if confidence not in self._changes:
            self._changes[confidence] = tuple(self._computed(confidence))
        return self._changes[confidence]

    def _computed(self, confidence: float) -> Iterator[Change]:
        size = len(self.targets)
        first, second = (stacked([self.samples[pair[side]] for pair in self.names]) for side in (0, 1))
        goals = np.tile(self.targets, (len(self.names), 1))
        every = two_sample_discrepancy_changes(second, first, goals, confidence)
        for start in range(0, len(every), size):
            own = every[start : start + size]
            yield change_of_these_prompts(own, confidence) if size > 1 else own[0]


@dataclass(frozen=True)
class DiscrepancyTest:
    """The difference of the mean squared discrepancies over some prompts.

    Attributes:
        compared: What it compares.
        pairs: All pairs of models.
        number: The pair among them.
    """

    compared: Compared
    pairs: Pairs
    number: int

    @property
    def values(self) -> tuple[float, float]:
        """The mean squared discrepancy of each model."""
        return self.pairs.squares[self.compared.first], self.pairs.squares[self.compared.second]

    @property
    def p_value(self) -> float:
        """The p-value of the 95 % interval."""
        return self.pairs.changes(0.95)[self.number].p_value

    def could_reject(self, level: float) -> bool:
        """Return whether the 95 % interval excludes 0, without which no smaller level rejects."""
        return level > 0.05 or _excludes_zero(self.interval(0.95))

    def interval(self, confidence: float) -> Estimate:
        """Return first − second with its interval; its n counts prompts, or images if there is one prompt."""
        found = self.pairs.changes(confidence)[self.number]
        return Estimate(found.value, found.low, found.high, found.n)


def model_differences(models: Sequence[ModelRun], error_rate: float = ERROR_RATE) -> tuple[Difference, ...]:
    """Test all differences between models: first those of discrepancies, then those of shares.

    Args:
        models: At least two models.
        error_rate: Largest probability of any wrong statement, in (0, 1).

    Raises:
        ValueError: If the error rate is not in (0, 1).
    """
    families = (tuple(discrepancy_tests(models)), tuple(share_tests(models)))
    return tuple(difference for tests in families if tests for difference in decided(tests, error_rate / FAMILIES))


def decided(tests: Sequence[ModelTest], level: float) -> Iterator[Difference]:
    """Decide one family of tests by Holm's procedure; an interval decides together with a test's p-value.

    Args:
        tests: The tests, at least one.
        level: Largest probability of any wrong statement, in (0, 1).
    """
    steps = holm_steps([_rejects(test) for test in tests], level)
    for test, step in zip(tests, steps, strict=True):
        yield _difference(test, step)


def _rejects(test: ModelTest) -> Callable[[float], bool]:
    def rejects(level: float) -> bool:
        return test.could_reject(level) and _excludes_zero(test.interval(1 - level))

    return rejects


_fisher = lru_cache(maxsize=65_536)(fisher_p_value)
"""Many prompts of an audit have equal counts."""


def _excludes_zero(found: Estimate) -> bool:
    return found.low > 0 or found.high < 0


def _difference(test: ModelTest, step: HolmStep) -> Difference:
    together, what = test.interval(1 - step.level), test.compared
    return Difference(
        first=what.first,
        second=what.second,
        arm=what.arm,
        attribute=what.attribute,
        prompt_id=what.prompt_id,
        group=what.group,
        first_value=test.values[0],
        second_value=test.values[1],
        difference=test.interval(0.95),
        low=together.low,
        high=together.high,
        level=step.level,
        p_value=test.p_value,
        established=step.rejected,
    )


def discrepancy_tests(models: Sequence[ModelRun]) -> Iterator[DiscrepancyTest]:
    """Yield a test for each arm, attribute and pair of models, over the prompts that all models with the arm have."""
    for arm in common_arms(models):
        own = having(models, arm)
        for attribute in common_attributes(models):
            prompts = common_prompts(own, arm, attribute)
            if not prompts:
                continue
            samples = {model.name: model.samples(arm, prompts, attribute) for model in own}
            pairs = Pairs(samples, targets_of(own, prompts, attribute))
            for number, (first, second) in enumerate(pairs.names):
                yield DiscrepancyTest(Compared(first, second, arm, attribute.name), pairs, number)


def share_tests(models: Sequence[ModelRun]) -> Iterator[ShareTest]:
    """Yield a test for each arm, attribute, pair of models, common prompt and group."""
    for arm in common_arms(models):
        for attribute in common_attributes(models):
            for first, second in itertools.combinations(having(models, arm), 2):
                prompts = [prompt for prompt in first.prompts(arm) if (arm, prompt) in second.run.images]
                for prompt in prompts:
                    what = Compared(first.name, second.name, arm, attribute.name, prompt)
                    old, new = (model.labels(arm, prompt, attribute) for model in (first, second))
                    if len(old) and len(new):
                        yield from _of_groups(what, attribute.groups, old, new)


def _of_groups(
    what: Compared, groups: Sequence[str], old: NDArray[np.float64], new: NDArray[np.float64]
) -> Iterator[ShareTest]:
    tested = 1 if len(groups) == 2 else len(groups)
    counts = old.sum(axis=0).astype(int).tolist(), new.sum(axis=0).astype(int).tolist()
    for number, group in enumerate(groups[:tested]):
        own = Compared(what.first, what.second, what.arm, what.attribute, what.prompt_id, group)
        yield ShareTest(own, (counts[0][number], counts[1][number]), (len(old), len(new)))
