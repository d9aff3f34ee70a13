"""The answers of a judge for a batch: probabilities of the audited groups, and images outside these groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from audit.records.work import Status

FloatArray = NDArray[np.float32]
Mask = NDArray[np.bool_]

NO_GROUP = -1
"""Code of an image without one of the audited groups."""


@dataclass(frozen=True)
class FacesSeen:
    """The faces that a detector found in a batch.

    Attributes:
        counts: ``(n,)`` faces of each image.
        scores: ``(n,)`` the largest score of the faces that the judge saw, NaN if there is no face.
    """

    counts: NDArray[np.int64]
    scores: FloatArray


@dataclass(frozen=True)
class Perceived:
    """The answers of a judge for a batch.

    Attributes:
        probabilities: Attribute → ``(n, groups)`` in the config's group order. Rows sum to 1 if the config names
            all groups that the judge knows, and to less otherwise.
        statuses: One per image, independent of the attribute.
        prompt_shown: ``(n,)`` probability that the prompted occupation is shown, None if the judge cannot recognise it.
        outside: Attribute → ``(n,)`` whether the most probable answer is a group that the config does not name; there
            is no entry if the config names all groups.
        faces: The faces that were found, None for a judge of whole images.
    """

    probabilities: dict[str, FloatArray]
    statuses: list[Status]
    prompt_shown: FloatArray | None
    outside: dict[str, Mask] = field(default_factory=dict)
    faces: FacesSeen | None = None

    def lies_outside(self, attribute: str) -> Mask:
        """Return which images are outside the audited groups of an attribute, shape (n,)."""
        return self.outside.get(attribute, np.zeros(len(self.statuses), dtype=np.bool_))

    def codes(self, attribute: str) -> NDArray[np.int64]:
        """Return the index of each image's group in the attribute's groups, shape (n,); ``NO_GROUP`` if it has none."""
        known = np.array([status is Status.CLASSIFIED for status in self.statuses]) & ~self.lies_outside(attribute)
        return np.where(known, self.probabilities[attribute].argmax(axis=1), NO_GROUP)

    def among_groups(self, attribute: str) -> FloatArray:
        """Return the probabilities given that one of the audited groups is shown: ``(n, groups)``, rows sum to 1.

        The values of an image outside the groups have no meaning.
        """
        values = self.probabilities[attribute]
        if attribute not in self.outside:
            return values
        total = values.sum(axis=1, keepdims=True, dtype=np.float64)
        shares: FloatArray = (values / np.maximum(total, np.finfo(np.float32).tiny)).astype(np.float32)
        return shares


def perceived(
    shares: Mapping[str, FloatArray],
    audited: Mapping[str, Sequence[int]],
    min_confidence: float,
    prompt_shown: FloatArray | None = None,
) -> Perceived:
    """Select the audited groups from all answers of a judge.

    Args:
        shares: Attribute → probabilities of *all* groups that the judge distinguishes, ``(n, answers)``, rows sum to 1.
        audited: Attribute → columns of the groups that the config names, in its order.
        min_confidence: An image has low confidence if, for any attribute, the probability of the most probable answer,
            audited or not, is below this.
        prompt_shown: As in :class:`Perceived`.
    """
    probabilities = {name: shares[name][:, list(columns)] for name, columns in audited.items()}
    best = {name: shares[name].max(axis=1) for name in audited}
    return Perceived(
        probabilities=probabilities,
        statuses=_confidence_statuses(best, min_confidence),
        prompt_shown=prompt_shown,
        outside={
            name: values.max(axis=1) < best[name]
            for name, values in probabilities.items()
            if values.shape[1] < shares[name].shape[1]
        },
    )


def _confidence_statuses(best: Mapping[str, FloatArray], minimum: float) -> list[Status]:
    least = np.min(list(best.values()), axis=0)
    return [Status.CLASSIFIED if top >= minimum else Status.LOW_CONFIDENCE for top in least]
