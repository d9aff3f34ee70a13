"""What an arm cost in quality: distances of its images from the baseline's, measured on feature vectors.

Every distance stands beside a noise floor, the same distance between two halves of the baseline: a figure near it says
that the images did not move as a set. A reference of real images is named where one was used, and only there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit.measure.frechet import FeatureStats, frechet_distance
from audit.measure.kernel import KernelDistance, kernel_distance
from audit.picture import READING
from audit.records import Measurement, Shard, derive_seed

FRECHET = "metric:frechet_distance"
KERNEL = "metric:kernel_distance|kernel:polynomial-3"

Key = tuple[str, int]
"""Prompt and index of an image."""

KernelSample = frozenset[Key]
"""Image keys whose features are kept whole, for the kernel distance."""


@dataclass(frozen=True)
class FeatureSet:
    """Features of one set of images: sums over all of them and a sample kept whole. Sets merge by ``+``.

    Attributes:
        halves: Statistics of the images with even and with odd index.
        kept: Features of the sample, parts of shape (m, d) in the order of merging.
        kept_odd: Whether each of the sample has an odd index, parts of shape (m,).
        kept_keys: What each of the sample is called, to find the same image in another arm.
    """

    halves: tuple[FeatureStats, FeatureStats]
    kept: tuple[NDArray[np.float32], ...]
    kept_odd: tuple[NDArray[np.bool_], ...]
    kept_keys: tuple[Key, ...] = ()

    @classmethod
    def of(
        cls,
        features: NDArray[np.float32],
        indices: NDArray[np.integer],
        keep: NDArray[np.bool_],
        keys: Sequence[Key] = (),
    ) -> FeatureSet:
        """Return the set of ``features`` (n, d) with image ``indices`` (n,), keeping those that ``keep`` (n,) marks.

        ``keys`` name the images, n of them, where there is another set of the same ones.
        """
        odd = indices % 2 == 1
        even_stats, odd_stats = (
            FeatureStats.of(part) if len(part) else FeatureStats.zero(features.shape[1])
            for part in (features[~odd], features[odd])
        )
        kept_keys = tuple(key for key, kept in zip(keys, keep, strict=False) if kept)
        return cls((even_stats, odd_stats), (features[keep],), (odd[keep],), kept_keys)

    def __add__(self, other: FeatureSet) -> FeatureSet:
        """Return both sets together."""
        even, odd = (mine + theirs for mine, theirs in zip(self.halves, other.halves, strict=True))
        keys = self.kept_keys + other.kept_keys
        return FeatureSet((even, odd), self.kept + other.kept, self.kept_odd + other.kept_odd, keys)

    @property
    def stats(self) -> FeatureStats:
        """Statistics of all images."""
        return self.halves[0] + self.halves[1]

    @property
    def sample(self) -> NDArray[np.float32]:
        """Kept features, shape (m, d)."""
        return np.concatenate(self.kept)

    def paired_sample(self, other: FeatureSet) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the samples of both sets, of the images that both have, in the same order."""
        places = {key: place for place, key in enumerate(other.kept_keys)}
        common = [(place, places[key]) for place, key in enumerate(self.kept_keys) if key in places]
        first, second = np.array(common, dtype=np.int64).reshape(-1, 2).T
        return self.sample[first], other.sample[second]

    @property
    def sample_halves(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Kept features of even and of odd index."""
        odd = np.concatenate(self.kept_odd)
        return self.sample[~odd], self.sample[odd]


def kernel_sample(shards: Sequence[Shard], images: int) -> KernelSample:
    """Choose up to ``images`` image keys by their hash: the same in every arm, spread over prompts and indices."""
    keys = [(key.prompt_id, key.index) for shard in shards for key in shard.keys]
    return frozenset(sorted(keys, key=lambda key: derive_seed("kernel sample", *key))[:images])


def reference_set(features: NDArray[np.float32], images: int) -> FeatureSet:
    """Return reference features (n, d) as a set that keeps ``images`` of them, evenly spaced."""
    keep = np.zeros(len(features), dtype=np.bool_)
    keep[np.linspace(0, len(features) - 1, min(images, len(features))).astype(np.int64)] = True
    return FeatureSet.of(features, np.arange(len(features)), keep)


@dataclass(frozen=True)
class Yardstick:
    """What the arms are measured against, with the figures that are the same for every arm.

    Attributes:
        baseline: Features of the baseline arm.
        reference: Features of reference images, if there are any.
        signature: ``net:…|resize:…|v:…`` of the feature network.
        fid: ``noise_floor`` of the Fréchet distance, where it exists.
        kid: The same of the kernel distance.
    """

    baseline: FeatureSet
    reference: FeatureSet | None
    signature: str
    fid: dict[str, float]
    kid: dict[str, float]

    @classmethod
    def of(cls, baseline: FeatureSet, reference: FeatureSet | None, signature: str) -> Yardstick:
        """Measure the baseline against itself."""
        fid, kid = _frechet(*baseline.halves), _kernel(*baseline.sample_halves)
        return cls(
            baseline,
            reference,
            signature,
            fid={} if fid is None else {"noise_floor": fid},
            kid={} if kid is None else {"noise_floor": kid.value},
        )

    def frechet(self, arm: FeatureSet) -> Measurement | None:
        """Return the Fréchet distance of ``arm`` from the baseline, None where either has fewer than two images."""
        value = _frechet(arm.stats, self.baseline.stats)
        if value is None:
            return None
        n = arm.stats.n
        return Measurement(value, n, f"{FRECHET}|{self.signature}|against:baseline|n:{n}", extra=self.fid)

    def kernel(self, arm: FeatureSet) -> Measurement | None:
        """Return the kernel distance of ``arm`` from the baseline with its interval, None below three images."""
        mine, theirs = arm.paired_sample(self.baseline)
        distance = _kernel(mine, theirs, paired=True)
        if distance is None:
            return None
        n = len(mine)
        low, high = distance.interval()
        return Measurement(
            value=distance.value,
            n=n,
            signature=f"{KERNEL}|pairs:left out|{self.signature}|against:baseline|n:{n}",
            low=low,
            high=high,
            extra=self.kid | _error(distance),
        )

    def frechet_to_reference(self, arm: FeatureSet) -> Measurement | None:
        """Return the Fréchet distance of ``arm`` from the reference, None without one or below two images."""
        value = None if self.reference is None else _frechet(arm.stats, self.reference.stats)
        if value is None:
            return None
        n = arm.stats.n
        return Measurement(value, n, f"{FRECHET}|{self.signature}|against:reference|pictures:{READING}|n:{n}")

    def kernel_to_reference(self, arm: FeatureSet) -> Measurement | None:
        """Return the kernel distance of ``arm`` from the reference, None without one or below three images.

        It has a standard error and no interval: the coverage study holds the interval of pairs of images alone.
        """
        distance = None if self.reference is None else _kernel(arm.sample, self.reference.sample)
        if distance is None:
            return None
        n = len(arm.sample)
        signature = f"{KERNEL}|{self.signature}|against:reference|pictures:{READING}|n:{n}"
        return Measurement(distance.value, n, signature, extra=_error(distance))


def _error(distance: KernelDistance) -> dict[str, float]:
    return {"standard_error": distance.standard_error, "blocks": distance.blocks}


def _frechet(first: FeatureStats, second: FeatureStats) -> float | None:
    return frechet_distance(first, second) if min(first.n, second.n) >= 2 else None


def _kernel(first: NDArray[np.float32], second: NDArray[np.float32], *, paired: bool = False) -> KernelDistance | None:
    return kernel_distance(first, second, paired=paired) if min(len(first), len(second)) >= 3 else None
