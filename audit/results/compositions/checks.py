"""Are matches right? Persons of images of one occupation each, whose occupations are known, are matched like pairs.

Every image of the first occupation is combined with every image of the second. Matching that reads a group instead of
the occupation is right for the combinations that a model's own groups make frequent, and wrong for the reverse ones. So
it is judged by each combination of two different groups by itself, not by all of them together.

The share of right combinations is that of Mann and Whitney, whose variance is at most θ(1 − θ) / min(n, m) for n and m
images (van Dantzig, Indagationes Mathematicae 13, 1951; Birnbaum and Klose, Annals of Mathematical Statistics 28,
1957). So intervals are those of Wilson for the smaller number of images, not for the number of combinations.

Legend: n and m images of the first and of the second occupation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit.measure.inference.intervals import share_interval
from audit.records.estimates import Estimate
from audit.records.inside.compositions import Matching
from audit.results.compositions.matching import Floats, Ints, Matched, match_combinations

_CHANCE = 0.5
"""Share of right matches of who guesses."""

_ENOUGH = 20
"""Images from which an interval that reaches chance counts against matching; with fewer, nothing is known."""


class Verdict(Enum):
    """What a check says: matches are right more often than by chance, may not be, or were not checked often enough."""

    RIGHT = "right"
    WRONG = "wrong"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Known:
    """The persons of images of both occupations of a pair alone.

    Attributes:
        pair: Id of the pair.
        leanings: (n,) and (m,) leaning of each person towards the first occupation, NaN for none.
        codes: Attribute → (n,) and (m,) group of each person, −1 for none.
    """

    pair: str
    leanings: tuple[Floats, Floats]
    codes: Mapping[str, tuple[Ints, Ints]]


def check_matches(known: Known, attributes: Mapping[str, Sequence[str]], certainty: float) -> Iterator[Matching]:
    """Match all combinations of persons whose occupations are known.

    Args:
        known: The persons.
        attributes: Attribute → its groups.
        certainty: Least certainty of a match.

    Yields:
        All combinations together, then those of each two groups of each attribute.
    """
    matched = match_combinations(*known.leanings, certainty)
    yield _matching(known.pair, ("", "", ""), matched, np.ones(matched.apart.shape, np.bool_))
    for attribute, groups in attributes.items():
        first, second = known.codes[attribute]
        for i, j in product(range(len(groups)), repeat=2):
            chosen = (first == i)[:, None] & (second == j)[None, :]
            yield _matching(known.pair, (attribute, groups[i], groups[j]), matched, chosen)


def _matching(pair: str, of: tuple[str, str, str], matched: Matched, chosen: NDArray[np.bool_]) -> Matching:
    pairs, apart = chosen & np.isfinite(matched.certainty), chosen & matched.apart
    right = apart & (matched.first == 0)
    return Matching(pair, *of, int(pairs.sum()), int(apart.sum()), _share(right, apart))


def _share(right: NDArray[Any], apart: NDArray[Any]) -> Estimate | None:
    """Return the share of right combinations; its n is the smaller number of images that were told apart."""
    images = min(int(apart.any(axis=1).sum()), int(apart.any(axis=0).sum()))
    if not images:
        return None
    value = float(right.sum() / apart.sum())
    return Estimate(value, *share_interval(value, images), images)


def verdict(one: Matching) -> Verdict:
    """Judge matches: right if the interval is above chance, wrong if it is below, or reaches it with enough images."""
    if one.right is None:
        return Verdict.UNKNOWN
    if one.right.low > _CHANCE:
        return Verdict.RIGHT
    few = one.right.n < _ENOUGH and one.right.high >= _CHANCE
    return Verdict.UNKNOWN if few else Verdict.WRONG


def overall(matchings: Sequence[Matching], pair: str) -> Matching:
    """Return how well persons of a pair are matched, over all combinations."""
    return next(one for one in matchings if one.pair == pair and not one.attribute)


def differing(matchings: Sequence[Matching], pair: str, attribute: str) -> tuple[Matching, ...]:
    """Return how well persons of a pair are matched, for each two different groups of an attribute."""
    own = (one for one in matchings if (one.pair, one.attribute) == (pair, attribute))
    return tuple(one for one in own if one.first != one.second)


def followed(matchings: Sequence[Matching], pair: str, attribute: str) -> bool:
    """Return whether matches of a pair may follow the groups of an attribute; then it has no shares and no tests."""
    return any(verdict(one) is Verdict.WRONG for one in differing(matchings, pair, attribute))
