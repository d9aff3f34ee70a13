"""Which person of a picture has which occupation: the more probable of both ways, by embeddings of persons and texts.

With a_i and b_i the scaled cosines of person i with the texts of both occupations, the two ways have the sums a₁ + b₂
and a₂ + b₁. The softmax of both gives the certainty of the larger one. Position says nothing: "a doctor and a nurse"
does not put the doctor on the left.

Legend: n images, d numbers of an embedding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Matched:
    """The persons of n images, or of n × m combinations of images, matched with occupations.

    Attributes:
        first: (n,) or (n, m), which person, 0 or 1, has the first occupation.
        certainty: Certainty of the same shape, from .5 to 1; NaN without two persons.
        apart: Whether the persons are told apart, of the same shape.
    """

    first: Ints
    certainty: Floats
    apart: NDArray[np.bool_]

    def of_first_and_second(self, codes: Ints) -> Ints:
        """Return codes of persons (n, 2) in the order of the occupations; −1 where persons are not told apart."""
        rows = np.arange(len(codes))
        ordered = np.stack([codes[rows, self.first], codes[rows, 1 - self.first]], axis=1)
        return np.where(self.apart[:, None], ordered, -1)


def match_persons(vectors: Floats, texts: Floats, scale: float, certainty: float) -> Matched:
    """Match the two persons of each image with two occupations.

    Args:
        vectors: Unit embeddings of persons (n, 2, d); NaN without two persons.
        texts: Unit embeddings of both occupations (2, d).
        scale: Factor of cosines before a softmax.
        certainty: Least certainty with which persons count as told apart.
    """
    return _matched(leaning(vectors[:, 0] - vectors[:, 1], texts, scale), certainty)


def match_combinations(first: Floats, second: Floats, certainty: float) -> Matched:
    """Match each of n persons beside each of m others with two occupations.

    Args:
        first: (n,) leanings of some persons, see :func:`leaning`; NaN for none.
        second: (m,) leanings of the others.
        certainty: Least certainty with which persons count as told apart.

    Returns:
        Arrays (n, m); ``first`` is 0 where the person of ``first`` gets the first occupation.
    """
    return _matched(first[:, None] - second[None, :], certainty)


def leaning(vectors: Floats, texts: Floats, scale: float) -> Floats:
    """Return how much more embeddings (n, d) resemble the first of two texts (2, d) than the second, scaled."""
    found: Floats = scale * (vectors @ (texts[0] - texts[1]))
    return found


def _matched(evidence: Floats, certainty: float) -> Matched:
    found = expit(np.abs(evidence))
    apart = np.isfinite(evidence) & (evidence != 0) & (np.nan_to_num(found) >= certainty)
    return Matched((np.nan_to_num(evidence) < 0).astype(np.int64), found, apart)


def balanced_text(vectors: Floats) -> Floats:
    """Return the unit mean of unit embeddings (t, d) of texts that name one group each, all groups equally often."""
    mean = vectors.mean(axis=0)
    unit: Floats = mean / np.linalg.norm(mean)
    return unit
