"""Intersections of two attributes in every arm: combinations of their groups, and their association."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from audit.measure.attributes.contingency import cross_tables, expected_counts
from audit.measure.attributes.intersections import cells_of, dependence, small_cells
from audit.measure.attributes.within_prompts import dependence_within, rough_p_values
from audit.measure.inference.multiplicity import benjamini_hochberg
from audit.records.attributes import Attribute
from audit.records.intersections import Dependence, Intersection
from audit.records.work import derive_seed
from audit.results.arm_rows import ArmRows

Ints = NDArray[np.int64]
Pair = tuple[Attribute, Attribute]

MOST_LISTED = 50
"""Limit of prompts listed per arm and pair of attributes; those with the strongest association are kept."""


def intersections(arms: Mapping[str, ArmRows], attributes: Sequence[Attribute]) -> tuple[Intersection, ...]:
    """Return each pair of attributes in each arm: over all prompts, then for single prompts.

    A prompt is listed if at least one combination has enough images for a useful share; at most ``MOST_LISTED`` prompts
    are listed. The p-values are adjusted for all prompts that could have been tested, because selecting the clearest
    prompts is multiple testing.

    Args:
        arms: Arm → its rows.
        attributes: Attributes with their groups, in the config's order.
    """
    pairs = list(itertools.combinations(attributes, 2))
    return tuple(found for rows in arms.values() for found in _of_arm(rows, pairs))


def _of_arm(rows: ArmRows, pairs: Iterable[Pair]) -> list[Intersection]:
    names, numbers = tuple(rows.prompts), rows.prompt_numbers()
    overall, single, could_be_tested = [], [], 0
    for pair in pairs:
        first, second = pair
        shape = (len(names), len(first.groups), len(second.groups))
        tables = cross_tables(rows.codes(first.name), rows.codes(second.name), numbers, shape)
        if not tables.any():
            continue
        rough = rough_p_values(tables)
        testable = tables[~np.isnan(rough)]
        could_be_tested += len(testable)
        overall.append(_overall(tables, testable, rows.arm, pair))
        single += [_of_prompt(tables[place], names[place], rows.arm, pair) for place in _listed(tables, rough)]
    return [*overall, *_adjusted(single, could_be_tested)]


def _overall(tables: Ints, testable: Ints, arm: str, pair: Pair) -> Intersection:
    expected = expected_counts(tables).sum(axis=0)
    alone = len(testable) == 1
    found = dependence(testable[0], _seed(arm, pair)) if alone else dependence_within(testable)
    return Intersection(None, arm, _names(pair), int(tables.sum()), cells_of(tables, expected, pair), found)


def _of_prompt(table: Ints, prompt: str, arm: str, pair: Pair) -> Intersection:
    found = dependence(table, _seed(arm, pair, prompt))
    cells = cells_of(table, expected_counts(table), pair)
    return Intersection(prompt, arm, _names(pair), int(table.sum()), cells, found)


def _listed(tables: Ints, rough: NDArray[np.float64]) -> list[int]:
    """Return the indices of the prompts to list, in plan order."""
    readable = ~np.all(small_cells(tables, expected_counts(tables)), axis=(1, 2))
    clearest = np.argsort(np.where(np.isnan(rough), np.inf, rough), kind="stable")
    return sorted(clearest[np.take(readable, clearest)][:MOST_LISTED].tolist())


def _adjusted(found: Sequence[Intersection], could_be_tested: int) -> list[Intersection]:
    """Adjust the p-values for all possible tests; a test that was not made counts with a p-value of 1."""
    tested = [item.dependence for item in found if item.dependence is not None]
    if not tested:
        return list(found)
    p_values = [*(item.p_value for item in tested), *[1.0] * (could_be_tested - len(tested))]
    by_test = dict(zip(map(id, tested), benjamini_hochberg(p_values).tolist(), strict=False))
    return [replace(item, dependence=_with(item.dependence, by_test)) for item in found]


def _with(test: Dependence | None, p_adjusted: Mapping[int, float]) -> Dependence | None:
    return None if test is None else replace(test, p_adjusted=p_adjusted[id(test)])


def _names(pair: Pair) -> tuple[str, str]:
    return pair[0].name, pair[1].name


def _seed(arm: str, pair: Pair, prompt: str = "") -> int:
    return derive_seed("intersection", arm, *_names(pair), prompt)
