"""The result of ``explore``: scores of prompts on axes, similarities to descriptors, and a check against images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

EXPLORATION_FORMAT = 1


@dataclass(frozen=True)
class AxisEnds:
    """An axis.

    Attributes:
        name: Its name; that of an attribute for an audited one.
        low: Text of the end with score −1.
        high: Text of the end with score +1.
    """

    name: str
    low: str
    high: str


@dataclass(frozen=True)
class Score:
    """The score of one prompt on one axis: −1 like the low end, +1 like the high end.

    Attributes:
        prompt: Id of the prompt.
        axis: Name of the axis.
        value: Mean over seeds.
        low: Lower end of the 95 % interval over seeds; None for one seed.
        high: Upper end.
        change: Mean difference from the neutral prompt.
        p: p-value of this difference, by sign flips over seeds; None for one seed.
        differs: Whether the difference is found at the rate of false discoveries, among all prompts and axes.
        text_score: Score of the text encoder's vector alone.
    """

    prompt: str
    axis: str
    value: float
    low: float | None
    high: float | None
    change: float
    p: float | None
    differs: bool
    text_score: float


@dataclass(frozen=True)
class Similarities:
    """How similar the directions of prompts are to those of descriptors.

    Attributes:
        descriptors: The descriptors.
        cosines: Prompt → a cosine for each descriptor.
        agreement: Prompt → cosine of its direction from the even seeds with that from the odd ones; None for one seed.
    """

    descriptors: tuple[str, ...]
    cosines: Mapping[str, tuple[float, ...]]
    agreement: Mapping[str, float | None]


@dataclass(frozen=True)
class Clusters:
    """Prompts that are read alike, by average linkage of the cosine distance between directions.

    Attributes:
        order: Prompts in the order of the tree.
        members: Prompt → number of its cluster, from 1.
        heights: Merges of the tree from the lowest, as scipy counts nodes: (node, node, distance, prompts).
        stability: Adjusted Rand index between the clusters from even and from odd seeds; None for one seed.
        places: Prompt → its place in two dimensions, which keep ``kept`` of the directions' variance.
        kept: Share of the variance that two dimensions keep.
    """

    order: tuple[str, ...]
    members: Mapping[str, int]
    heights: tuple[tuple[int, int, float, int], ...]
    stability: float | None
    places: Mapping[str, tuple[float, float]]
    kept: float


@dataclass(frozen=True)
class Checked:
    """How well the scores of one axis predict what a judge perceives.

    Attributes:
        axis: The axis, an audited attribute.
        prompts: Ids of the prompts of which images were sampled.
        images: Images of each prompt.
        perceived: Prompt → perceived mean place from the first group (0) to the last (1).
        rho: Spearman's correlation of the score with it; None if it is not defined.
        low: Lower end of its 95 % interval over prompts.
        high: Upper end.
        text_rho: The same for the text encoder's vector alone.
    """

    axis: str
    prompts: tuple[str, ...]
    images: int
    perceived: Mapping[str, float]
    rho: float | None
    low: float | None
    high: float | None
    text_rho: float | None


@dataclass(frozen=True)
class Exploration:
    """The result.

    Attributes:
        name: Name of the audit.
        model: Fingerprint of the model.
        hookpoint: Module whose output was read.
        step: Step that was read.
        seeds: Number of noise seeds.
        width: Numbers of a map, before it is shortened.
        neutral: Text of the neutral prompt.
        texts: Prompt → its text.
        axes: The axes.
        neutral_scores: Scores of the neutral prompt: what it leans to.
        scores: Scores of all prompts.
        similarities: Similarities; None if there are no descriptors.
        clusters: Clusters; None for fewer than three prompts, or more than can be shown.
        checked: The check against images, one for each audited attribute; empty if none were sampled.
    """

    name: str
    model: str
    hookpoint: str
    step: int
    seeds: int
    width: int
    neutral: str
    texts: Mapping[str, str]
    axes: tuple[AxisEnds, ...]
    neutral_scores: tuple[Score, ...]
    scores: tuple[Score, ...]
    similarities: Similarities | None
    clusters: Clusters | None
    checked: tuple[Checked, ...]

    def of_axis(self, axis: str) -> tuple[Score, ...]:
        """Return the scores on one axis, from the low end to the high end."""
        return tuple(sorted((score for score in self.scores if score.axis == axis), key=lambda score: score.value))

    def as_data(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {"format_version": EXPLORATION_FORMAT, **asdict(self)}
