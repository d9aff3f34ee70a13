"""Who is which: a combination of two groups against the reverse one, in pictures of two people.

In each picture the first person has a group and the second person has one. If groups have nothing to do with who is
first, a picture with (g, h) is as probable as one with (h, g). That is tested by the sign test on the pictures with
either, which is McNemar's test (1947) of the table of g and h.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binomtest

from audit.measure.attributes.contingency import checked_table
from audit.measure.shares.changes import paired_share_difference_of_counts
from audit.records.estimates import Estimate


@dataclass(frozen=True)
class ReversalTest:
    """Pictures with (g, h) against those with (h, g).

    Attributes:
        forward: Pictures with (g, h).
        reverse: Pictures with (h, g).
        difference: Share of (g, h) minus that of (h, g), among the n pictures in which both people are perceived as g
            or h. With two groups it is the share of g among first people minus that among second people.
        p_value: Exact two-sided p-value of equal probabilities; 1 without a picture of either.
    """

    forward: int
    reverse: int
    difference: Estimate
    p_value: float


def reversal_test(counts: ArrayLike, group: int, other: int) -> ReversalTest | None:
    """Compare (group, other) with (other, group).

    Args:
        counts: Pictures by group of the first and of the second person, shape (K, K).
        group: Index of g.
        other: Index of h, another group.

    Returns:
        The test; None if no picture shows two people of these groups.

    Raises:
        ValueError: The table is not square, a count is negative, or both groups are the same.
    """
    table = np.asarray(counts, dtype=np.int64)
    if table.ndim != 2 or table.shape[0] != table.shape[1] or group == other:
        raise ValueError(f"expected a square table and two different groups, found {table.shape}, {group} and {other}")
    own = table[np.ix_([group, other], [group, other])]
    if not own.any():
        return None
    own = checked_table(own)
    forward, reverse = int(own[0, 1]), int(own[1, 0])
    return ReversalTest(
        forward=forward,
        reverse=reverse,
        difference=paired_share_difference_of_counts(int(own[0, 0]), forward, reverse, int(own.sum())),
        p_value=float(binomtest(forward, forward + reverse).pvalue) if forward + reverse else 1.0,
    )
