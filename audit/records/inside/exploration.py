"""The result of ``explore``: scores of prompts on axes, similarities to descriptors, and a check against images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from audit.records.inside.open_set import OpenSet
from audit.records.inside.read_pictures import ReadPictures
from audit.records.inside.stress import Stress

EXPLORATION_FORMAT = 1


@dataclass(frozen=True)
class Axis:
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
class Move:
    """How far a word moves a prompt on an axis.

    Attributes:
        prompt: Id of the prompt.
        modifier: The word that is put before what the prompt is about.
        axis: Name of the axis.
        change: Mean difference of the scores with and without the word, at equal noise.
        low: Lower end of its 95 % interval over seeds; None for one seed.
        high: Upper end.
        p: p-value of the difference, by sign flips over seeds; None for one seed.
        differs: Whether it is found at the rate of false discoveries, among all prompts, words and axes.
    """

    prompt: str
    modifier: str
    axis: str
    change: float
    low: float | None
    high: float | None
    p: float | None
    differs: bool


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
class FeatureName:
    """A name of a bias feature.

    Attributes:
        attribute: Attribute of the feature.
        group: Its group.
        latent: Index in the autoencoder.
        word: The word for which it fires most, among all that were read.
        area: Probability that it fires more for this word than for another one, at held-out noise; 0.5 is chance.
    """

    attribute: str
    group: str
    latent: int
    word: str
    area: float


@dataclass(frozen=True)
class Checked:
    """How well the scores of one axis predict what a judge perceives.

    Attributes:
        axis: The axis, an audited attribute.
        prompts: Ids of the prompts of which images were sampled.
        images: Images of each prompt.
        classified: Images in which the judge perceived a group, over all prompts.
        perceived: Prompt → perceived mean place from the first group (0) to the last (1).
        rho: Spearman's correlation of the score with it; None if it is not defined.
        low: Lower end of its 95 % interval over prompts.
        high: Upper end.
        text_rho: The same for the text encoder's vector alone.
    """

    axis: str
    prompts: tuple[str, ...]
    images: int
    classified: int
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
        moves: What modifiers change; empty without modifiers.
        similarities: Similarities; None if there are no descriptors.
        clusters: Clusters; None for fewer than three prompts, or more than can be shown.
        names: Names of the strongest bias features; empty without a lens.
        checked: The check against images, one for each audited attribute; empty if none were sampled.
        open_set: Findings that no attribute names; None if they were not looked for.
        stress: Perceived shares under other conditions; None if none were sampled.
        pictures: Scores of pictures on disk; None if none were read.
    """

    name: str
    model: str
    hookpoint: str
    step: int
    seeds: int
    width: int
    neutral: str
    texts: Mapping[str, str]
    axes: tuple[Axis, ...]
    neutral_scores: tuple[Score, ...]
    scores: tuple[Score, ...]
    moves: tuple[Move, ...]
    similarities: Similarities | None
    clusters: Clusters | None
    names: tuple[FeatureName, ...]
    checked: tuple[Checked, ...]
    open_set: OpenSet | None = None
    stress: Stress | None = None
    pictures: ReadPictures | None = None

    def of_axis(self, axis: str) -> tuple[Score, ...]:
        """Return the scores on one axis, from the low end to the high end."""
        return tuple(sorted((score for score in self.scores if score.axis == axis), key=lambda score: score.value))

    def as_data(self) -> dict[str, Any]:
        """Return it as plain data."""
        later = {name for name in ("open_set", "stress", "pictures") if getattr(self, name) is None}
        plain = {name: value for name, value in asdict(self).items() if name not in later}
        return {"format_version": EXPLORATION_FORMAT, **plain}

    @classmethod
    def of_data(cls, data: Mapping[str, Any]) -> Exploration:
        """Read plain data back.

        Raises:
            ValueError: It is of another format.
            KeyError: A field is missing.
            TypeError: A field has another form.
        """
        version = data.get("format_version")
        if version != EXPLORATION_FORMAT:
            raise ValueError(f"expected format {EXPLORATION_FORMAT} of an exploration, found {version}; explore again")
        plain = {name: value for name, value in data.items() if name != "format_version"}
        similarities, clusters = plain.pop("similarities"), plain.pop("clusters")
        open_set, stress, pictures = (plain.pop(name, None) for name in ("open_set", "stress", "pictures"))
        return cls(
            axes=tuple(Axis(**one) for one in plain.pop("axes")),
            neutral_scores=tuple(Score(**one) for one in plain.pop("neutral_scores")),
            scores=tuple(Score(**one) for one in plain.pop("scores")),
            moves=tuple(Move(**one) for one in plain.pop("moves")),
            similarities=None if similarities is None else _similarities(similarities),
            clusters=None if clusters is None else _clusters(clusters),
            names=tuple(FeatureName(**one) for one in plain.pop("names")),
            checked=tuple(Checked(**{**one, "prompts": tuple(one["prompts"])}) for one in plain.pop("checked")),
            open_set=None if open_set is None else OpenSet.of_data(open_set),
            stress=None if stress is None else Stress.of_data(stress),
            pictures=None if pictures is None else ReadPictures.of_data(pictures),
            **plain,
        )


def _similarities(data: Mapping[str, Any]) -> Similarities:
    cosines = {prompt: tuple(values) for prompt, values in data["cosines"].items()}
    return Similarities(tuple(data["descriptors"]), cosines, data["agreement"])


def _clusters(data: Mapping[str, Any]) -> Clusters:
    places = {prompt: (x, y) for prompt, (x, y) in data["places"].items()}
    merges = tuple((first, second, distance, size) for first, second, distance, size in data["heights"])
    rest = {name: data[name] for name in ("members", "stability", "kept")}
    return Clusters(order=tuple(data["order"]), heights=merges, places=places, **rest)
