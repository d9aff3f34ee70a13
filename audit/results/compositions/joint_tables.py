"""Joint tables of two people and three tests, each with its rate of false findings: company, reversal, dependence.

Legend: K groups of an attribute, n images.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from audit.measure.attributes.contingency import cross_tables, expected_counts
from audit.measure.attributes.intersections import dependence
from audit.measure.attributes.reversal import reversal_test
from audit.measure.inference.intervals import share_estimate
from audit.measure.inference.multiplicity import benjamini_hochberg
from audit.measure.shares.changes import fisher_p_value, two_sample_share_difference
from audit.records.inside.compositions import Alike, Company, JointCell, Reversal

Ints = NDArray[np.int64]
RowT = TypeVar("RowT", Company, Reversal, Alike)


@dataclass(frozen=True)
class PairCodes:
    """Groups of both persons of a pair in one attribute.

    Attributes:
        pair: Id of the prompt.
        occupations: Both occupations.
        attribute: The attribute.
        groups: Its groups.
        codes: (n, 2) group of the first and of the second occupation's person, −1 for none.
        alone: Group of each image of the first occupation alone, and of the second, −1 for none.
    """

    pair: str
    occupations: tuple[str, str]
    attribute: str
    groups: tuple[str, ...]
    codes: Ints
    alone: tuple[Ints, Ints]

    @property
    def table(self) -> Ints:
        """Images by group of the first and of the second person, (K, K)."""
        size = len(self.groups)
        first, second, one_table = self.codes[:, 0], self.codes[:, 1], np.zeros(len(self.codes), np.int64)
        found: Ints = cross_tables(first, second, one_table, (1, size, size))[0]
        return found


def joint_cells(given: PairCodes) -> Iterator[JointCell]:
    """Yield every combination of groups; nothing if no image has two persons with a group."""
    table = given.table
    if not table.any():
        return
    expected = expected_counts(table)
    for i, j in np.ndindex(table.shape):
        yield JointCell(
            given.pair, given.attribute, given.groups[i], given.groups[j], int(table[i, j]),
            share_estimate(int(table[i, j]), int(table.sum())), float(expected[i, j]),
        )  # fmt: skip


def company_of(pairs: Sequence[PairCodes], rate: float) -> tuple[Company, ...]:
    """Compare the shares of each occupation in company with those alone.

    With two groups, a change of one is the opposite change of the other: it is tested once.

    Args:
        pairs: Groups of each pair and attribute.
        rate: Rate of false findings.
    """
    rows = [row for given in pairs for row in _company(given)]
    tested = [place for place, (_, counted_twice) in enumerate(rows) if not counted_twice]
    found = _tested([rows[place][0] for place in tested], rate)
    by_key = {(row.pair, row.occupation, row.attribute): row for row in found}
    of_tested = dict(zip(tested, found, strict=True))
    return tuple(
        of_tested[place] if place in of_tested else _as_other(row, by_key[row.pair, row.occupation, row.attribute])
        for place, (row, _) in enumerate(rows)
    )


def _as_other(row: Company, other: Company) -> Company:
    return replace(row, p=other.p, found=other.found)


def _company(given: PairCodes) -> Iterator[tuple[Company, bool]]:
    """Yield a row for each occupation and group, and whether its test is that of another row."""
    size = len(given.groups)
    for place, occupation in enumerate(given.occupations):
        both, single = (_counts(codes, size) for codes in (given.codes[:, place], given.alone[place]))
        n, m = int(both.sum()), int(single.sum())
        for index, group in enumerate(given.groups):
            k, q = int(both[index]), int(single[index])
            complete = n > 0 and m > 0
            yield (
                Company(
                    pair=given.pair,
                    occupation=occupation,
                    attribute=given.attribute,
                    group=group,
                    share=share_estimate(k, n) if n else None,
                    alone=share_estimate(q, m) if m else None,
                    change=two_sample_share_difference(q, m, k, n) if complete else None,
                    p=fisher_p_value(q, m, k, n) if complete else None,
                    found=False,
                ),
                size == 2 and index == 1,
            )


def _counts(codes: Ints, size: int) -> Ints:
    return np.bincount(codes[codes >= 0], minlength=size)


def reversals_of(pairs: Sequence[PairCodes], rate: float) -> tuple[Reversal, ...]:
    """Compare each combination of two groups with the reverse one, in every pair and attribute.

    Args:
        pairs: Groups of each pair and attribute.
        rate: Rate of false findings.
    """
    return _tested([row for given in pairs for row in _reversals(given)], rate)


def _reversals(given: PairCodes) -> Iterator[Reversal]:
    table = given.table
    for one, other in combinations(range(len(given.groups)), 2):
        i, j = (one, other) if table[one, other] >= table[other, one] else (other, one)
        test = reversal_test(table, i, j)
        if test is not None:
            yield Reversal(
                given.pair, given.attribute, given.groups[i], given.groups[j], test.forward, test.reverse,
                test.difference, test.p_value, found=False,
            )  # fmt: skip


def alike_of(pairs: Sequence[PairCodes], rate: float) -> tuple[Alike, ...]:
    """Test in every pair and attribute whether the groups of both persons are independent.

    Args:
        pairs: Groups of each pair and attribute.
        rate: Rate of false findings.
    """
    return _tested([_alike(given) for given in pairs if given.table.any()], rate)


def _alike(given: PairCodes) -> Alike:
    table = given.table
    test = dependence(table)
    return Alike(
        pair=given.pair,
        attribute=given.attribute,
        same=share_estimate(int(np.trace(table)), int(table.sum())),
        expected=float(np.trace(expected_counts(table)) / table.sum()),
        cramers_v=None if test is None else test.cramers_v,
        p=None if test is None else test.p_value,
        found=False,
    )


def _tested(rows: Sequence[RowT], rate: float) -> tuple[RowT, ...]:
    """Adjust the p-values of rows for the number of rows that have one."""
    plain = {place: row.p for place, row in enumerate(rows) if row.p is not None}
    if not plain:
        return tuple(rows)
    adjusted = dict(zip(plain, benjamini_hochberg(list(plain.values())), strict=True))
    return tuple(
        replace(row, p=float(adjusted[place]), found=bool(adjusted[place] <= rate)) if place in adjusted else row
        for place, row in enumerate(rows)
    )
