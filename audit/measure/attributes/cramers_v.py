"""Association of two attributes: bias-corrected Cramér's V (Bergsma 2013), with an interval.

V² is φ² = Σ (p_ij − p_i p_j)² / (p_i p_j) divided by its maximum. Under independence the plug-in of φ² is too large by
(R − 1)(C − 1)/(n − 1), which is subtracted. The maximum is that of tables with finite n.

Legend: P tables, R non-empty rows and C non-empty columns, n images of a table, χ² = n φ² Pearson's statistic.
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
    """Return the square of Cramér's V in each table, shape (P,), unbiased under independence (Bergsma 2013).

    It is negative about half of the time for independent attributes, so that averages are not biased. It is NaN if an
    attribute has only one group, or if there are too few images.

    Args:
        tables: Images by combination, shape (P, R, C).
    """
    counts = np.asarray(tables, dtype=np.float64)
    return _squared_phi(counts) / _largest_squared_phi(counts)


def squared_v_errors(tables: ArrayLike) -> Floats:
    """Return the standard error of the square of Cramér's V in each table, shape (P,), never 0; NaN as ``squared_v``.

    The variance of φ² is the sum of that of the delta method and 2(R − 1)(C − 1)/(n − 1)², the variance under
    independence, where the delta method gives 0. Pseudo-images are added to the tables, as many as their longer
    non-empty side and spread evenly, so that an empty cell does not count as impossible.

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

    The interval inverts the non-central χ² distribution of Pearson's statistic, an approximation for weak dependence.
    With strong dependence and a rare group, V varies more. The interval is therefore widened to include the interval of
    the delta method, and the V of a table in which one combination is more frequent than observed. The lower end is 0
    if independence is not rejected. The upper end is always above 0, because a very even table counts as chance.

    Args:
        counts: Images by combination, shape (R, C), without empty rows or columns.
        p_value: p-value of independence, from an exact or Monte Carlo test
            (:func:`audit.measure.attributes.intersections.dependence`), because χ² rejects too often in small tables
            with a rare group.
        confidence: Confidence level of the interval, in (0, 1).

    Raises:
        ValueError: If the table has an empty row or column, a single row or column, or no images.
    """
    table = checked_table(counts)
    if table.ndim != 2 or min(table.shape) < 2 or not (table.sum(axis=0).all() and table.sum(axis=1).all()):
        raise ValueError("Cramér's V needs two rows and columns at least, none empty; leave out groups never shown")
    n, most = int(table.sum()), float(_largest_squared_phi(table[None])[0])
    if math.isnan(most):  # as many groups as images, so V is unknown
        return Estimate(value=0.0, low=0.0, high=1.0, n=n)
    value = root(float(_squared_phi(table[None])[0]) / most)
    ends = (_noncentral_ends(table, most, confidence), _delta_ends(table, most, confidence))
    low = 0.0 if p_value > 1 - confidence else min(value, *(low for low, _ in ends))
    high = max(value, *(high for _, high in ends), _of_fuller_cells(table, most, confidence))
    return Estimate(value=value, low=low, high=high, n=n)


def root(squared: float) -> float:
    """Return V from its square, in [0, 1]."""
    return math.sqrt(min(1.0, max(0.0, squared)))


def _squared_phi(tables: Floats | Ints) -> Floats:
    """Return φ² of each table (P, R, C) minus its mean under independence, shape (P,); NaN for a single image."""
    expected, n, (rows, columns) = expected_counts(tables), tables.sum(axis=(1, 2)), shown_groups(tables)
    away = np.divide((tables - expected) ** 2, expected, out=np.zeros_like(expected), where=expected > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(away.sum(axis=(1, 2)) / n - (rows - 1) * (columns - 1) / (n - 1))


def _largest_squared_phi(tables: Floats | Ints) -> Floats:
    """Return the maximum of ``_squared_phi``, shape (P,); NaN if it is not defined."""
    n, shown = tables.sum(axis=(1, 2)), np.stack(shown_groups(tables))
    with np.errstate(divide="ignore", invalid="ignore"):
        most = (shown - (shown - 1) ** 2 / (n - 1)).min(axis=0) - 1
        return np.asarray(np.where((shown.min(axis=0) > 1) & (most > 0), most, np.nan))


def _noncentral_ends(table: Ints, most: float, confidence: float) -> tuple[float, float]:
    """Return the range of V whose non-centrality, n V² times ``most``, is not rejected by χ² in either tail."""
    n, degrees, tail = int(table.sum()), (table.shape[0] - 1) * (table.shape[1] - 1), (1 - confidence) / 2
    chi2 = n * (float(_squared_phi(table[None])[0]) + degrees / (n - 1))
    low = _noncentrality(chi2, degrees, 1 - tail)
    # A table that is more even than expected under independence counts as chance.
    high = _noncentrality(max(chi2, degrees), degrees, tail)
    return root(low / n / most), root(high / n / most)


def _delta_ends(table: Ints, most: float, confidence: float) -> tuple[float, float]:
    """Return V ± z times its standard error by the delta method, clipped to [0, 1].

    If V is small by chance, its error is small too. The upper end is therefore that of log V, V exp(z error / V), if it
    is higher. The error in this formula is at most V, because the approximation for log V fails for larger errors.

    Pseudo-images are added to the table, as many as its longer side and spread evenly, so that an empty cell does not
    count as impossible.
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
    """Return φ² of tables (P, R, C) without empty cells in their rows and columns, and its variance, both (P,).

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
    """Return the largest V if one combination is as frequent as its interval allows, and the others are as observed."""
    n = int(table.sum())
    room = np.array([[share_estimate(count, n, confidence).high * n for count in row] for row in table.tolist()])
    fuller = np.where(np.eye(table.size, dtype=np.bool_).reshape(-1, *table.shape), room, table)
    return root(float(_squared_phi(fuller).max()) / most)


def _noncentrality(chi2: float, degrees: int, p: float) -> float:
    """Return the non-centrality for which P(χ² ≤ ``chi2``) is ``p``; 0 if this is not possible."""

    def excess(noncentrality: float) -> float:
        return float(chndtr(chi2, degrees, noncentrality)) - p

    if excess(0.0) <= 0:
        return 0.0
    largest = chi2 + 10 * math.sqrt(chi2 + degrees) + 50
    return float(brentq(excess, 0.0, largest))
