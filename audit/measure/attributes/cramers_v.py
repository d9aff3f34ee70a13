"""How closely two attributes go together: Cramér's V without its bias (Bergsma 2013), with an interval.

V² is φ² = Σ (p_ij − p_i p_j)² / (p_i p_j) by the most that it can be. The plug-in of φ² is too large by
(R − 1)(C − 1)/(n − 1) under independence, which is taken off, and the most is that of tables of finite n.

Legend: P tables, R rows and C columns that show an image, n images of a table, χ² = n φ² Pearson's statistic.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import chndtr, ndtri

from audit.measure.attributes.contingency import ROUNDING, checked_table, expected_counts, shown_groups
from audit.measure.inference.intervals import share_estimate
from audit.records.estimates import Estimate

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def squared_v(tables: ArrayLike) -> Floats:
    """Return the square of Cramér's V in each table, shape (P,), without bias under independence (Bergsma 2013).

    Below 0 about half of the time where the attributes are independent, so that averages do not drift. NaN where an
    attribute shows a single group, or there are too few images to tell anything.

    Args:
        tables: Images by combination, shape (P, R, C).
    """
    counts = np.asarray(tables, dtype=np.float64)
    return _squared_phi(counts) / _largest_squared_phi(counts)


def squared_v_errors(tables: ArrayLike) -> Floats:
    """Return the standard error of the square of Cramér's V in each table, shape (P,), never 0; NaN as ``squared_v``.

    The variance of φ² is that of the delta method and what remains of it under independence, 2(R − 1)(C − 1)/(n − 1)²,
    where the delta method's is 0. The tables get as many more images as the longer side that they show, spread evenly,
    lest an empty cell pass for one that cannot be.

    Args:
        tables: Images by combination, shape (P, R, C).
    """
    counts = np.asarray(tables, dtype=np.float64)
    n, (rows, columns) = counts.sum(axis=(1, 2)), shown_groups(counts)
    shown = (counts.sum(axis=2, keepdims=True) > 0) & (counts.sum(axis=1, keepdims=True) > 0)
    more = np.maximum(rows, columns) / np.maximum(rows * columns, 1)
    _, variance = _delta(counts + shown * more[:, None, None])
    with np.errstate(divide="ignore", invalid="ignore"):
        independent = 2 * (rows - 1) * (columns - 1) / (n - 1) ** 2
        return np.asarray(np.sqrt(variance + independent) / _largest_squared_phi(counts))


def cramers_v(counts: ArrayLike, p_value: float, confidence: float = 0.95) -> Estimate:
    """Return Cramér's V with an interval.

    The interval inverts the non-central χ² distribution of Pearson's statistic: an approximation that holds where
    dependence is weak. Where it is strong and a group rare, V varies more than that, and the interval is widened to
    hold that of the delta method and the V of a combination that is commoner than it was seen. It begins at 0 where
    independence is not rejected, and its upper end never counts a table as too even to be chance, so it stays above 0.

    Args:
        counts: Images by combination, shape (R, C), no row and no column empty.
        p_value: Of independence, by a test without an approximation
            (:func:`audit.measure.attributes.intersections.dependence`): in small tables with a rare group χ² rejects it
            too often.
        confidence: Coverage of the interval, in (0, 1).

    Raises:
        ValueError: If the table has an empty row or column, one alone, or no image.
    """
    table = checked_table(counts)
    if table.ndim != 2 or min(table.shape) < 2 or not (table.sum(axis=0).all() and table.sum(axis=1).all()):
        raise ValueError("Cramér's V needs two rows and columns at least, none empty; leave out groups never shown")
    n, most = int(table.sum()), float(_largest_squared_phi(table[None])[0])
    if math.isnan(most):  # as many groups as images: nothing is known
        return Estimate(value=0.0, low=0.0, high=1.0, n=n)
    value = root(float(_squared_phi(table[None])[0]) / most)
    ends = (_noncentral_ends(table, most, confidence), _delta_ends(table, most, confidence))
    low = 0.0 if p_value > 1 - confidence else min(value, *(low for low, _ in ends))
    high = max(value, *(high for _, high in ends), _of_fuller_cells(table, most, confidence))
    return Estimate(value=value, low=low, high=high, n=n)


def root(squared: float) -> float:
    """Return V of its square, in [0, 1]."""
    return math.sqrt(min(1.0, max(0.0, squared)))


def _squared_phi(tables: Floats | Ints) -> Floats:
    """Return φ² of each table (P, R, C) less its mean under independence, shape (P,); NaN of a single image."""
    expected, n, (rows, columns) = expected_counts(tables), tables.sum(axis=(1, 2)), shown_groups(tables)
    away = np.divide((tables - expected) ** 2, expected, out=np.zeros_like(expected), where=expected > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(away.sum(axis=(1, 2)) / n - (rows - 1) * (columns - 1) / (n - 1))


def _largest_squared_phi(tables: Floats | Ints) -> Floats:
    """Return the most that ``_squared_phi`` can be, shape (P,); NaN where there is nothing to tell."""
    n, shown = tables.sum(axis=(1, 2)), np.stack(shown_groups(tables))
    with np.errstate(divide="ignore", invalid="ignore"):
        most = (shown - (shown - 1) ** 2 / (n - 1)).min(axis=0) - 1
        return np.asarray(np.where((shown.min(axis=0) > 1) & (most > 0), most, np.nan))


def _noncentral_ends(table: Ints, most: float, confidence: float) -> tuple[float, float]:
    """Return the V whose non-centrality, n V² times ``most``, leaves χ² in neither tail."""
    n, degrees, tail = int(table.sum()), (table.shape[0] - 1) * (table.shape[1] - 1), (1 - confidence) / 2
    chi2 = n * (float(_squared_phi(table[None])[0]) + degrees / (n - 1))
    low = _noncentrality(chi2, degrees, 1 - tail)
    # A table more even than independence leaves on average is luck, and no proof of it.
    high = _noncentrality(max(chi2, degrees), degrees, tail)
    return root(low / n / most), root(high / n / most)


def _delta_ends(table: Ints, most: float, confidence: float) -> tuple[float, float]:
    """Return V ± z times its standard error by the delta method, cut to [0, 1].

    Where V is small by chance its error is small too, so the upper end is that of log V, V exp(z error / V), if that
    lies higher; an error beyond V is none of log V's any more and counts as V.

    The table gets as many more images as its longer side, spread evenly, lest an empty cell pass for one that cannot
    be.
    """
    counts = table + max(table.shape) / table.size
    (phi2,), (variance,) = (found.tolist() for found in _delta(counts[None]))
    if phi2 <= ROUNDING:
        return 0.0, 0.0
    middle = math.sqrt(max(0.0, float(_squared_phi(counts[None])[0])) / most)
    error = math.sqrt(max(0.0, variance)) / (2 * math.sqrt(phi2 * most))
    half_width = float(ndtri((1 + confidence) / 2)) * error
    stretched = middle * math.exp(min(half_width / middle, 1.0)) if middle else 0.0
    return max(0.0, middle - half_width), min(1.0, max(middle + half_width, stretched))


def _delta(tables: Floats) -> tuple[Floats, Floats]:
    """Return φ² of tables (P, R, C) with all cells of their rows and columns filled, and its variance, both (P,).

    φ² = Σ p_ij²/(p_i p_j) − 1 has the gradient 2p_ij/(p_i p_j) − Σ_j p_ij²/(p_i² p_j) − Σ_i p_ij²/(p_i p_j²) in p_ij.
    """
    n = np.maximum(tables.sum(axis=(1, 2)), 1)
    p = tables / n[:, None, None]
    rows, columns = p.sum(axis=2, keepdims=True), p.sum(axis=1, keepdims=True)
    ratio = np.divide(p, rows * columns, out=np.zeros_like(p), where=p > 0)
    by_row, by_column = (p * ratio).sum(axis=2, keepdims=True), (p * ratio).sum(axis=1, keepdims=True)
    gradient = 2 * ratio - by_row / np.where(rows > 0, rows, 1) - by_column / np.where(columns > 0, columns, 1)
    variance = (p * gradient**2).sum(axis=(1, 2)) - (p * gradient).sum(axis=(1, 2)) ** 2
    return (p * ratio).sum(axis=(1, 2)) - 1, np.maximum(variance, 0.0) / n


def _of_fuller_cells(table: Ints, most: float, confidence: float) -> float:
    """Return the largest V that one combination makes if it is as common as its own interval allows, others as seen."""
    n = int(table.sum())
    room = np.array([[share_estimate(count, n, confidence).high * n for count in row] for row in table.tolist()])
    fuller = np.where(np.eye(table.size, dtype=np.bool_).reshape(-1, *table.shape), room, table)
    return root(float(_squared_phi(fuller).max()) / most)


def _noncentrality(chi2: float, degrees: int, p: float) -> float:
    """Return the non-centrality under which a χ² of at most this has probability ``p``; 0 where none is so likely."""

    def excess(noncentrality: float) -> float:
        return float(chndtr(chi2, degrees, noncentrality)) - p

    if excess(0.0) <= 0:
        return 0.0
    largest = chi2 + 10 * math.sqrt(chi2 + degrees) + 50
    return float(brentq(excess, 0.0, largest))
