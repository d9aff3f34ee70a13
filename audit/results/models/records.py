"""Records of a comparison of models; ``models.json`` holds them."""

from __future__ import annotations

from dataclasses import dataclass

from audit.records.estimates import Estimate

ERROR_RATE = 0.05
"""Largest probability that a comparison establishes any difference that does not exist."""

VERSION = 1
"""Version of ``models.json``."""


@dataclass(frozen=True)
class ComparedModel:
    """One model of a comparison.

    Attributes:
        name: Its name in the comparison.
        run_id: Its run directory.
        source: Its source in the config.
        fingerprint: Fingerprint of its weights.
        verdict: All gates of its audit together; ``incomplete`` if shards are missing.
    """

    name: str
    run_id: str
    source: str
    fingerprint: str
    verdict: str


@dataclass(frozen=True)
class ModelDiscrepancy:
    """The fairness discrepancy of one attribute in one arm of one model, over the prompts that all models have.

    Attributes:
        model: The model.
        arm: The arm.
        attribute: The attribute.
        mean: Root mean square over the prompts, with its own 95 % interval; its n counts prompts.
        worst: The largest of a prompt, with an interval that accounts for the selection; its n counts images.
        worst_prompt: The prompt of ``worst``.
        best_place: Smallest place that the established differences allow; 1 is the least skewed model.
        last_place: Largest place that they allow; equal to ``best_place`` if the place is established.
    """

    model: str
    arm: str
    attribute: str
    mean: Estimate
    worst: Estimate
    worst_prompt: str
    best_place: int
    last_place: int


@dataclass(frozen=True)
class ModelShare:
    """The share of one group among the classified images of one prompt, with its own 95 % interval."""

    model: str
    arm: str
    prompt_id: str
    attribute: str
    group: str
    share: Estimate
    target: float


@dataclass(frozen=True)
class ModelFigure:
    """A figure of image quality of one arm of one model, with its interval if it has one.

    Attributes:
        model: The model.
        arm: The arm.
        figure: Its name in ``audit.json``: ``clip_t``, ``prompt_shown``, …
        value: Its value.
        low: Lower end of its 95 % interval.
        high: Upper end.
        n: Images or prompts that it is based on.
        signature: How it was computed; empty for a share.
    """

    model: str
    arm: str
    figure: str
    value: float
    low: float | None
    high: float | None
    n: int
    signature: str = ""


@dataclass(frozen=True)
class ModelCost:
    """What the audit of one model took, over all its arms.

    Attributes:
        model: The model.
        images: Images.
        failed: Images that could not be made.
        unclassified: Share of the other images without a group of at least one attribute.
        seconds_per_image: Time of a worker for one image, with judges and quality figures, as the workers recorded it.
            None for runs of older releases. Images from the cache of baselines are fast.
    """

    model: str
    images: int
    failed: int
    unclassified: Estimate | None
    seconds_per_image: float | None


@dataclass(frozen=True)
class Difference:
    """One figure of two models, and the difference first − second.

    Attributes:
        first: Name of the first model.
        second: Name of the second model.
        arm: The arm.
        attribute: The attribute.
        prompt_id: The prompt of a share; None for the mean squared discrepancy over the prompts of all models.
        group: The group of a share; None for a discrepancy.
        first_value: The figure of the first model.
        second_value: The figure of the second model.
        difference: first − second, with a 95 % interval for this figure alone; its n counts images, or prompts for a
            mean.
        low: Lower end of the interval at the level at which Holm's procedure decided.
        high: Upper end.
        level: That level: the error probability of this one decision.
        p_value: p-value of no difference, for this figure alone.
        established: Whether the difference exists, where the probability of any wrong statement in the whole
            comparison is at most ``ERROR_RATE``. The interval from ``low`` to ``high`` then excludes 0.
    """

    first: str
    second: str
    arm: str
    attribute: str
    prompt_id: str | None
    group: str | None
    first_value: float
    second_value: float
    difference: Estimate
    low: float
    high: float
    level: float
    p_value: float
    established: bool


@dataclass(frozen=True)
class ModelComparison:
    """A comparison of models.

    Attributes:
        name: Its name.
        models: The models.
        attributes: Attribute → groups, for the attributes that all models have.
        arms: Arms that at least two models have.
        prompts: Prompts that all models have.
        discrepancies: Discrepancy and place of every model, arm and attribute.
        shares: Shares of every model, arm, prompt and group.
        figures: Quality figures of every model and arm.
        costs: Cost of every model.
        differences: All tested differences: first those of discrepancies, then those of shares.
        missing: What only some of the models have, in words.
        notices: Differences of judge, prompts or targets, which can explain a difference of figures, in words.
        waiting: Models without a finished audit.
        error_rate: Probability of any wrong statement among ``differences``.
        version: Version of the file.
    """

    name: str
    models: tuple[ComparedModel, ...]
    attributes: dict[str, tuple[str, ...]]
    arms: tuple[str, ...]
    prompts: tuple[str, ...]
    discrepancies: tuple[ModelDiscrepancy, ...]
    shares: tuple[ModelShare, ...]
    figures: tuple[ModelFigure, ...]
    costs: tuple[ModelCost, ...]
    differences: tuple[Difference, ...]
    missing: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    error_rate: float = ERROR_RATE
    version: int = VERSION

    def between(self, first: str, second: str, arm: str, attribute: str) -> Difference | None:
        """Return the difference of the mean discrepancies of two models; None if it was not tested."""
        wanted = (first, second, arm, attribute)
        found = (d for d in self.differences if (d.first, d.second, d.arm, d.attribute) == wanted and d.group is None)
        return next(found, None)
