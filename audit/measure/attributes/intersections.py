"""Intersections of two attributes: shares of combined groups, and a test of independence.

An occupation can have equal shares of women and men and of old and young, but show only old men and young women.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import rel_entr
from scipy.stats import hypergeom, random_table

from audit.measure.attributes.contingency import RESAMPLES, ROUNDING, checked_table, expected_counts, share_as_large
from audit.measure.attributes.cramers_v import cramers_v
from audit.measure.inference.intervals import share_estimate
from audit.measure.prompts.stratified import pooled_share
from audit.records.attributes import Attribute
from audit.records.intersections import Cell, Dependence

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SMALL_CELL = 10
"""A cell is small if both the observed and the expected count under independence are below this. An empty cell with a
large expected count is a finding."""


def cells_of(tables: ArrayLike, expected: ArrayLike, attributes: tuple[Attribute, Attribute]) -> tuple[Cell, ...]:
    """Return all combinations of groups, including those without images, in the order of the groups.

    Args:
        tables: Images by combination, shape (R, C); for a pool by prompt and combination, (P, R, C).
        expected: The sum of :func:`expected_counts` over the prompts, shape (R, C).
        attributes: The attributes of the axes.

    Raises:
        ValueError: If a table does not match the attributes, or has no images.
    """
    counts, awaited = checked_table(tables), np.asarray(expected, dtype=np.float64)
    table = counts if counts.ndim == 2 else counts.sum(axis=0)
    shape = tuple(len(attribute.groups) for attribute in attributes)
    if table.shape != shape or awaited.shape != shape:
        raise ValueError(f"expected tables by the attributes' groups {shape}, found {table.shape} and {awaited.shape}")
    small = small_cells(table, awaited)
    return tuple(
        Cell(
            groups=(one, other),
            share=share_estimate(int(table[i, j]), int(table.sum()))
            if counts.ndim == 2
            else pooled_share(counts[:, i, j], counts.sum(axis=(1, 2))),
            count=int(table[i, j]),
            expected=float(awaited[i, j]),
            small=bool(small[i, j]),
        )
        for i, one in enumerate(attributes[0].groups)
        for j, other in enumerate(attributes[1].groups)
    )


def small_cells(counts: ArrayLike, expected: ArrayLike) -> NDArray[np.bool_]:
    """Return the cells whose observed and expected counts are both too small for a useful share."""
    return np.asarray(np.maximum(counts, expected) < SMALL_CELL)


def dependence(counts: ArrayLike, seed: int = 0) -> Dependence | None:
    """Test whether two attributes are independent in the images of one prompt.

    The G test uses its distribution under independence given both margins: exact if both attributes have two groups,
    otherwise by random tables (Patefield 1981). The p-value uses no large-sample approximation. Do not pool prompts:
    attributes that are independent within every occupation can be dependent in a pool of different occupations. Use
    :mod:`audit.measure.attributes.within_prompts` for several prompts.

    Args:
        counts: Images by combination, shape (K₁, K₂).
        seed: Seed of the random tables.

    Returns:
        The test; None if one of the attributes has only one group.

    Raises:
        ValueError: If the table does not have two axes, or has no images.
    """
    table = checked_table(counts)
    if table.ndim != 2:
        raise ValueError(f"expected a table of two attributes, found {table.ndim} axes; test them two by two")
    shown = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0]
    if min(shown.shape) < 2:
        return None
    exact = shown.shape == (2, 2)
    p_value = _exact_p(shown) if exact else _monte_carlo_p(shown, seed)
    return Dependence(
        statistic=float(_g(shown)),
        p_value=p_value,
        p_adjusted=p_value,
        method="exact" if exact else "monte_carlo",
        cramers_v=cramers_v(shown, p_value),
    )


def _g(table: Ints) -> Floats:
    """Return G of tables (…, R, C) that all have the same margins."""
    margins = table.reshape(-1, *table.shape[-2:])[0]
    return np.asarray(2 * rel_entr(table, expected_counts(margins)).sum(axis=(-1, -2)))


def _exact_p(table: Ints) -> float:
    """Return the probability, given the margins, of a 2 × 2 table with at least the G of this one."""
    n, row, column = int(table.sum()), int(table[0].sum()), int(table[:, 0].sum())
    corner = np.arange(max(0, row + column - n), min(row, column) + 1)
    possible = np.stack([corner, row - corner, column - corner, n - row - column + corner], axis=-1).reshape(-1, 2, 2)
    as_large = _g(possible) >= _g(table) - ROUNDING
    return min(1.0, float(hypergeom(n, row, column).pmf(corner)[as_large].sum()))


def _monte_carlo_p(table: Ints, seed: int) -> float:
    draws = random_table(table.sum(axis=1), table.sum(axis=0)).rvs(RESAMPLES, random_state=np.random.default_rng(seed))
    return share_as_large(_g(np.asarray(draws, dtype=np.int64)), float(_g(table)))
