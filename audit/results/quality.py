"""Quality of an arm: Fréchet and kernel distances of its images from the baseline's, on feature vectors.

Every distance has a noise floor, the same distance between two halves of the baseline. A figure near the noise floor
means that the distribution of the images did not change. Reference images are optional.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

import numpy as np
from numpy.typing import NDArray

from audit.measure.image_sets.frechet import FeatureStats, frechet_distance
from audit.measure.image_sets.kernel import LEAST_IMAGES, KernelDistance, kernel_distance
from audit.records.quality import Measurement
from audit.records.work import Shard, derive_seed
from audit.storage.outside.picture import READING

FRECHET = "metric:frechet_distance"
KERNEL = "metric:kernel_distance|kernel:polynomial-3"

Key = tuple[str, int]
"""Prompt and index of an image."""

KernelSample = frozenset[Key]
"""Keys of the images whose features are kept individually, for the kernel distance."""

BOTH_HALVES = 2 * LEAST_IMAGES
"""Images of a prompt that give ``LEAST_IMAGES`` with even index and ``LEAST_IMAGES`` with odd index."""


@dataclass(frozen=True)
class KernelImages:
    """Features of a sample of images, with their prompts.

    Attributes:
        features: Shape (m, d).
        prompts: Prompt ids, shape (m,); None for a set without prompts.
    """

    features: NDArray[np.float32]
    prompts: NDArray[np.str_] | None

    def often(self) -> frozenset[str]:
        """Return the prompts with at least ``LEAST_IMAGES`` images."""
        names, counts = np.unique([] if self.prompts is None else self.prompts, return_counts=True)
        return frozenset(names[counts >= LEAST_IMAGES].tolist())

    def of(self, prompts: frozenset[str]) -> KernelImages:
        """Return the images of these prompts, or all images of a set without prompts."""
        if self.prompts is None:
            return self
        kept = np.isin(self.prompts, sorted(prompts))
        return KernelImages(self.features[kept], self.prompts[kept])


@dataclass(frozen=True)
class FeatureSet:
    """Features of one set of images: sums over all images, and a sample with individual features. Sets merge by ``+``.

    Attributes:
        halves: Statistics of the images with even and with odd index.
        kept: Features of the sample, parts of shape (m, d) in the order of merging.
        kept_keys: Prompt and index of each image of the sample; empty for a set without prompts.
    """

    halves: tuple[FeatureStats, FeatureStats]
    kept: tuple[NDArray[np.float32], ...]
    kept_keys: tuple[Key, ...] = ()

    @classmethod
    def of(
        cls,
        features: NDArray[np.float32],
        indices: NDArray[np.integer],
        keep: NDArray[np.bool_],
        keys: Sequence[Key] = (),
    ) -> FeatureSet:
        """Return the set of ``features`` (n, d) with image ``indices`` (n,) and the sample that ``keep`` (n,) selects.

        ``keys`` identify the n images, so that two sets of the same images can be paired.
        """
        odd = indices % 2 == 1
        even_stats, odd_stats = (
            FeatureStats.of(part) if len(part) else FeatureStats.zero(features.shape[1])
            for part in (features[~odd], features[odd])
        )
        kept_keys = tuple(key for key, kept in zip(keys, keep, strict=False) if kept)
        return cls((even_stats, odd_stats), (features[keep],), kept_keys)

    def __add__(self, other: FeatureSet) -> FeatureSet:
        """Return both sets together."""
        even, odd = (mine + theirs for mine, theirs in zip(self.halves, other.halves, strict=True))
        keys = self.kept_keys + other.kept_keys
        return FeatureSet((even, odd), self.kept + other.kept, keys)

    @property
    def stats(self) -> FeatureStats:
        """Statistics of all images."""
        return self.halves[0] + self.halves[1]

    @property
    def sample(self) -> KernelImages:
        """The sample with individual features."""
        prompts = np.array([prompt for prompt, _ in self.kept_keys]) if self.kept_keys else None
        return KernelImages(np.concatenate(self.kept), prompts)

    def paired_sample(self, other: FeatureSet) -> tuple[KernelImages, KernelImages]:
        """Return the samples of both sets, restricted to the common images, in the same order."""
        places = {key: place for place, key in enumerate(other.kept_keys)}
        common = [(place, places[key]) for place, key in enumerate(self.kept_keys) if key in places]
        first, second = np.array(common, dtype=np.int64).reshape(-1, 2).T
        return self._at(first), other._at(second)

    @property
    def sample_halves(self) -> tuple[KernelImages, KernelImages]:
        """The images of the sample with even and with odd index."""
        odd = np.array([index % 2 == 1 for _, index in self.kept_keys], dtype=np.bool_)
        return self._at(np.flatnonzero(~odd)), self._at(np.flatnonzero(odd))

    def _at(self, places: NDArray[np.int64]) -> KernelImages:
        sample = self.sample
        return KernelImages(sample.features[places], None if sample.prompts is None else sample.prompts[places])


def kernel_sample(shards: Sequence[Shard], images: int) -> KernelSample:
    """Select up to ``images`` image keys by their hash, the same in every arm and equally many per prompt.

    Even and odd indices of each prompt alternate, so that both halves have enough images of it. If there are too many
    prompts for that, some prompts are selected by their hash.
    """
    by_prompt: dict[str, list[int]] = {}
    for shard in shards:
        by_prompt.setdefault(shard.prompt.id, []).extend(shard.indices)
    chosen = sorted(by_prompt, key=lambda prompt: derive_seed("kernel sample", prompt))[: images // BOTH_HALVES]
    turns = [
        (turn, derive_seed("kernel sample", prompt, index), (prompt, index))
        for prompt in chosen
        for turn, index in enumerate(_even_and_odd(prompt, by_prompt[prompt]))
    ]
    return frozenset(key for _, _, key in sorted(turns)[:images])


def _even_and_odd(prompt: str, indices: Sequence[int]) -> list[int]:
    """Return the indices in the order of their hash, alternating between even and odd while there are both."""
    by_hash = sorted(indices, key=lambda index: derive_seed("kernel sample", prompt, index))
    even, odd = ([index for index in by_hash if index % 2 == parity] for parity in (0, 1))
    return [index for index in chain.from_iterable(zip_longest(even, odd)) if index is not None]


def reference_set(features: NDArray[np.float32], images: int) -> FeatureSet:
    """Return reference features (n, d) as a set with an evenly spaced sample of ``images`` of them."""
    keep = np.zeros(len(features), dtype=np.bool_)
    keep[np.linspace(0, len(features) - 1, min(images, len(features))).astype(np.int64)] = True
    return FeatureSet.of(features, np.arange(len(features)), keep)


@dataclass(frozen=True)
class Yardstick:
    """The baseline and reference of the distances, with the figures that are the same for every arm.

    Attributes:
        baseline: Features of the baseline arm.
        reference: Features of reference images, if there are any.
        signature: ``net:…|resize:…|v:…`` of the feature network.
        fid: ``noise_floor`` of the Fréchet distance, if it exists.
        kid: ``noise_floor`` of the kernel distance, if it exists.
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
            kid={} if kid is None else {"noise_floor": kid.distance.value},
        )

    def frechet(self, arm: FeatureSet) -> Measurement | None:
        """Return the Fréchet distance of ``arm`` from the baseline, None if either has fewer than two images."""
        value = _frechet(arm.stats, self.baseline.stats)
        if value is None:
            return None
        n = arm.stats.n
        return Measurement(value, n, f"{FRECHET}|{self.signature}|against:baseline|n:{n}", extra=self.fid)

    def kernel(self, arm: FeatureSet) -> Measurement | None:
        """Return the kernel distance of ``arm`` from the baseline, None if no prompt has three images in both."""
        found = _kernel(*arm.paired_sample(self.baseline), paired=True)
        if found is None:
            return None
        low, high = found.distance.interval()
        return Measurement(
            value=found.distance.value,
            n=found.images,
            signature=f"{KERNEL}|pairs:left out|{self.signature}|against:baseline|{found.counted}",
            low=low,
            high=high,
            extra=self.kid | found.error,
        )

    def frechet_to_reference(self, arm: FeatureSet) -> Measurement | None:
        """Return the Fréchet distance of ``arm`` from the reference, None without one or with fewer than two images."""
        value = None if self.reference is None else _frechet(arm.stats, self.reference.stats)
        if value is None:
            return None
        n = arm.stats.n
        return Measurement(value, n, f"{FRECHET}|{self.signature}|against:reference|pictures:{READING}|n:{n}")

    def kernel_to_reference(self, arm: FeatureSet) -> Measurement | None:
        """Return the kernel distance of ``arm`` from the reference, None without one or with too few images per prompt.

        It has a standard error and no interval, because the coverage study only validates intervals of paired images.
        """
        found = None if self.reference is None else _kernel(arm.sample, self.reference.sample)
        if found is None:
            return None
        signature = f"{KERNEL}|{self.signature}|against:reference|pictures:{READING}|{found.counted}"
        return Measurement(found.distance.value, found.images, signature, extra=found.error)


@dataclass(frozen=True)
class _Found:
    """A kernel distance with the number of images and prompts from which it was computed."""

    distance: KernelDistance
    images: int
    prompts: int

    @property
    def counted(self) -> str:
        """The last part of the signature."""
        return f"prompts:{self.prompts}|n:{self.images}"

    @property
    def error(self) -> dict[str, float]:
        """The standard error and its degrees of freedom, as additional figures of the measurement."""
        return {"standard_error": self.distance.standard_error, "degrees": self.distance.degrees}


def _frechet(first: FeatureStats, second: FeatureStats) -> float | None:
    return frechet_distance(first, second) if min(first.n, second.n) >= 2 else None


def _kernel(first: KernelImages, second: KernelImages, *, paired: bool = False) -> _Found | None:
    """Compute the distance for the prompts with enough images in both sets; None if there are no such prompts."""
    prompts = first.often() if second.prompts is None else first.often() & second.often()
    mine, theirs = first.of(prompts), second.of(prompts)
    if not prompts or len(theirs.features) < LEAST_IMAGES:
        return None
    distance = kernel_distance(mine.features, theirs.features, (mine.prompts, theirs.prompts), paired=paired)
    return _Found(distance, len(mine.features), len(prompts))
