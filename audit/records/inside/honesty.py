"""How far the features of a lens can be trusted: figures of each feature, and the rules by which one fails."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from statistics import fmean
from typing import Any

from audit.records.estimates import Estimate

HONESTY_FORMAT = 1
"""Version of the stored figures."""

CHANCE = 0.5
"""AUC of a feature that says nothing about its group."""

STABLE_FROM = 0.5
"""Least share of the halves that must choose a feature."""


@dataclass(frozen=True)
class Shared:
    """Another attribute for which a feature was chosen as well.

    Attributes:
        attribute: The other attribute.
        group: Its group.
        score: Attribution of the feature to that group's probability.
    """

    attribute: str
    group: str
    score: float


@dataclass(frozen=True)
class FeatureHonesty:
    """Figures of one feature of one group.

    Attributes:
        latent: Index in the autoencoder.
        score: Attribution to the group's probability.
        auc: Probability that its mean activation is higher in an image of the group than in an image of another group,
            on the halves of the images that did not choose it; None if no half chose it.
        chosen: Halves of the images that choose it again.
        halves: All halves.
        shared: Other attributes for which it was chosen.
        map: Mean activation by position over the group's images, rows of the grid; empty if it is not stored.
    """

    latent: int
    score: float
    auc: Estimate | None
    chosen: int
    halves: int
    shared: tuple[Shared, ...] = ()
    map: tuple[tuple[float, ...], ...] = ()

    @property
    def stability(self) -> float:
        """Share of the halves that choose it."""
        return self.chosen / self.halves

    @property
    def stronger_elsewhere(self) -> tuple[Shared, ...]:
        """Other attributes whose group it raises more than its own."""
        return tuple(other for other in self.shared if other.score > self.score)

    @property
    def failures(self) -> tuple[str, ...]:
        """Reasons why it fails, in words; empty if it passes."""
        reasons = []
        if self.auc is not None and self.auc.high < CHANCE:
            reasons.append("less active in its group")
        elif self.auc is not None and self.auc.low <= CHANCE:
            reasons.append("no better than chance")
        if self.stability < STABLE_FROM:
            reasons.append("not stable")
        reasons += [f"stronger for {other.attribute}: {other.group}" for other in self.stronger_elsewhere]
        return tuple(reasons)


@dataclass(frozen=True)
class Curve:
    """Mean probability of a group while its features are deleted or inserted one by one, best first.

    Attributes:
        values: Probability after 0, 1, … features.
        random: Mean of the same over sets of random features of similar activity.
        random_low: Lowest of the random sets at each number of features.
        random_high: Highest.
        random_areas: Smallest and largest area under a random set's curve.
    """

    values: tuple[float, ...]
    random: tuple[float, ...]
    random_low: tuple[float, ...]
    random_high: tuple[float, ...]
    random_areas: tuple[float, float]

    @property
    def area(self) -> float:
        """Area under the curve by the trapezoidal rule, over a width of 1: a mean probability."""
        return area(self.values)

    @property
    def is_below_random(self) -> bool:
        """Whether the area is smaller than those of all random sets, as deletion's should be."""
        return self.area < self.random_areas[0]

    @property
    def is_above_random(self) -> bool:
        """Whether the area is larger than those of all random sets, as insertion's should be."""
        return self.area > self.random_areas[1]


def area(values: tuple[float, ...]) -> float:
    """Return the area under a curve of at least two values, over a width of 1."""
    return (sum(values) - (values[0] + values[-1]) / 2) / (len(values) - 1)


@dataclass(frozen=True)
class GroupHonesty:
    """Figures of the features of one group.

    Attributes:
        attribute: The attribute.
        group: The group.
        images: Images that show it.
        features: Its features, best first.
        kept: For each halving, how many features both halves choose.
        auc_per_step: AUC of the activation at each sampler step, mean over the features that have one.
        deletion: The group's probability while features are set to their mean; None without enough other features.
        insertion: The same while all but these features are at their mean.
        random_activity: Mean activation of the random features as a multiple of the features' own.
    """

    attribute: str
    group: str
    images: int
    features: tuple[FeatureHonesty, ...]
    kept: tuple[int, ...]
    auc_per_step: tuple[float, ...] = ()
    deletion: Curve | None = None
    insertion: Curve | None = None
    random_activity: float | None = None

    @property
    def mean_auc(self) -> float | None:
        """Mean AUC of the features that have one."""
        found = [feature.auc.value for feature in self.features if feature.auc is not None]
        return fmean(found) if found else None

    @property
    def failing(self) -> int:
        """Features that fail."""
        return sum(bool(feature.failures) for feature in self.features)


@dataclass(frozen=True)
class LensHonesty:
    """Figures of all features of a lens.

    Attributes:
        groups: One for each group of each attribute.
        images: Images with recorded maps.
        latents: Latents of the autoencoder.
        halvings: Random halvings of the images; each gives two halves.
        draws: Random sets behind each curve.
        curve_steps: Sampler steps that the curves average over.
        left_out: Attribute → why it has no figures.
    """

    groups: tuple[GroupHonesty, ...]
    images: int
    latents: int
    halvings: int
    draws: int
    curve_steps: int
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def attributes(self) -> tuple[str, ...]:
        """Attributes with figures."""
        return tuple(dict.fromkeys(group.attribute for group in self.groups))

    def of(self, attribute: str) -> tuple[GroupHonesty, ...]:
        """Return the groups of an attribute."""
        return tuple(group for group in self.groups if group.attribute == attribute)

    def latents_of(self, attribute: str) -> frozenset[int]:
        """Return the latents of all features of an attribute."""
        return frozenset(feature.latent for group in self.of(attribute) for feature in group.features)

    def shared(self, attribute: str, other: str) -> int:
        """Return how many latents are features of both attributes."""
        return len(self.latents_of(attribute) & self.latents_of(other))

    def summary(self) -> dict[str, dict[str, Any]]:
        """Return a few figures of each attribute as plain data.

        ``auc`` is the mean over the groups, ``kept`` the fewest and most features of a group that both halves choose.
        """
        found: dict[str, dict[str, Any]] = {}
        for attribute in self.attributes:
            groups = self.of(attribute)
            others = [self.latents_of(other) for other in self.attributes if other != attribute]
            aucs = [group.mean_auc for group in groups if group.mean_auc is not None]
            kept = [count for group in groups for count in group.kept]
            found[attribute] = {
                "features": sum(len(group.features) for group in groups),
                "auc": fmean(aucs) if aucs else None,
                "kept": [min(kept), max(kept)],
                "shared": len(self.latents_of(attribute).intersection(frozenset().union(*others))),
                "failing": sum(group.failing for group in groups),
            }
        return found

    def as_data(self) -> dict[str, Any]:
        """Return plain data; each feature has its ``failures``, so that readers need not know the rules."""
        groups = []
        for group in self.groups:
            rows = [asdict(feature) | {"failures": list(feature.failures)} for feature in group.features]
            groups.append(asdict(group) | {"features": rows})
        return {"format_version": HONESTY_FORMAT, **asdict(self), "groups": groups}

    @classmethod
    def of_data(cls, data: Mapping[str, Any]) -> LensHonesty:
        """Read plain data back.

        Raises:
            ValueError: It is of another version, or a part is missing.
        """
        if data.get("format_version") != HONESTY_FORMAT:
            raise ValueError(
                f"expected figures of features in format {HONESTY_FORMAT}, found {data.get('format_version')!r}; build "
                "the lens again"
            )
        try:
            plain = {one.name: data[one.name] for one in fields(cls) if one.name != "groups"}
            return cls(groups=tuple(_group(row) for row in data["groups"]), **plain)
        except (KeyError, TypeError) as error:
            raise ValueError(f"expected the figures of a lens's features, found others ({error})") from error


def _group(row: Mapping[str, Any]) -> GroupHonesty:
    lists = {name: tuple(row[name]) for name in ("kept", "auc_per_step")}
    curves = {name: row[name] and _curve(row[name]) for name in ("deletion", "insertion")}
    features = tuple(_feature(feature) for feature in row["features"])
    return GroupHonesty(**{**row, **lists, **curves, "features": features})


def _feature(row: Mapping[str, Any]) -> FeatureHonesty:
    plain = {one.name: row[one.name] for one in fields(FeatureHonesty)}
    return FeatureHonesty(
        **plain
        | {
            "auc": row["auc"] and Estimate(**row["auc"]),
            "shared": tuple(Shared(**other) for other in row["shared"]),
            "map": tuple(tuple(line) for line in row["map"]),
        }
    )


def _curve(row: Mapping[str, Any]) -> Curve:
    return Curve(**{name: tuple(values) for name, values in row.items()})
