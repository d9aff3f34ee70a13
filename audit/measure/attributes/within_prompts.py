"""Association of two attributes within prompts, tested over all prompts together.

A pool of occupations confounds two effects. One occupation with mostly old men and another with mostly young women make
gender and age dependent in the pool, even if they are independent in both. Here every prompt is compared with its own
expected counts, and only the differences are summed.

Legend: P prompts; R and C groups of the two attributes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import rel_entr
from scipy.stats import chi2

from audit.measure.attributes.contingency import expected_counts, shown_groups
from audit.measure.attributes.cramers_v import root, squared_v, squared_v_errors
from audit.measure.inference.intervals import end_on_root_scale
from audit.measure.inference.span import SHARE
from audit.measure.prompts.over_prompts import like_these, mean_of_these_prompts
from audit.records.estimates import LikeThese, OverPrompts
from audit.records.intersections import Dependence

Floats = NDArray[np.float64]


def dependence_within(tables: ArrayLike) -> Dependence | None:
    """Test whether two attributes are independent in every prompt, against a common association in the prompts.

    The generalised Cochran-Mantel-Haenszel test (Landis, Heyman and Koch 1978, general association): with O the
    observed and E the expected counts within each prompt, d = Σ (O − E) has mean 0 and a covariance V in closed form
    under independence, given the counts of both attributes in each prompt. dᵀ V⁻ d tends to χ² with rank V degrees of
    freedom as images are added, for few or many prompts. Opposite associations of two prompts cancel in d. The effect
    size does not cancel: it is the root mean square over prompts of Cramér's V, with its interval for these prompts.

    Args:
        tables: Images by prompt and combination, shape (P, R, C).

    Returns:
        The test; None if fewer than two prompts have a V (see :func:`squared_v`).
    """
    counts = np.asarray(tables, dtype=np.float64)
    squares, errors, images = squared_v(counts), squared_v_errors(counts), counts.sum(axis=(1, 2))
    told = ~np.isnan(squares)
    squares, errors, images = squares[told], errors[told], images[told]
    statistic, degrees = _mantel_haenszel(counts[counts.sum(axis=(1, 2)) > 1])
    if squares.size < 2 or not degrees:
        return None
    p_value = float(chi2.sf(statistic, degrees))
    mean = mean_of_these_prompts(squares, np.stack([squares] * 2, 1), errors=errors, freedom=images - 1)
    these = SHARE.held(replace(mean, high=end_on_root_scale(mean.value, mean.high - mean.value)))
    beside = like_these(these, squares, SHARE).like_these
    return Dependence(
        statistic=statistic,
        p_value=p_value,
        p_adjusted=p_value,
        method="cochran_mantel_haenszel",
        cramers_v=OverPrompts(
            root(these.value),
            root(these.low),
            root(these.high),
            n=squares.size,
            like_these=LikeThese(root(beside.low), root(beside.high)) if beside else None,
        ),
    )


def rough_p_values(tables: ArrayLike) -> Floats:
    """Return an approximate p-value of the G test in each prompt, shape (P,), by its asymptotic χ² distribution.

    It is NaN if an attribute has only one group. It is inaccurate for small tables, so use it only to order prompts.

    Args:
        tables: Images by prompt and combination, shape (P, R, C).
    """
    counts = np.asarray(tables, dtype=np.float64)
    rows, columns = shown_groups(counts)
    statistic = 2 * rel_entr(counts, expected_counts(counts)).sum(axis=(1, 2))
    degrees = (rows - 1) * (columns - 1)
    return np.asarray(np.where(np.minimum(rows, columns) > 1, chi2.sf(statistic, np.maximum(degrees, 1)), np.nan))


def _mantel_haenszel(tables: Floats) -> tuple[float, int]:
    """Return the statistic and its degrees of freedom, for tables with at least two images each."""
    n = tables.sum(axis=(1, 2))
    shift = (tables - expected_counts(tables)).sum(axis=0).ravel()
    rows, columns = (_spread(tables.sum(axis=axis), n) for axis in (2, 1))
    weights = 1 / (n**2 * (n - 1))
    covariance = np.einsum("pik,pjl,p->ijkl", rows, columns, weights).reshape(shift.size, shift.size)
    statistic = float(shift @ np.linalg.pinv(covariance, hermitian=True) @ shift)
    return statistic, int(np.linalg.matrix_rank(covariance, hermitian=True))


def _spread(totals: Floats, n: Floats) -> Floats:
    """Return n diag(t) − t tᵀ of one attribute's counts t in each prompt, shape (P, K, K)."""
    return n[:, None, None] * totals[:, :, None] * np.eye(totals.shape[1]) - totals[:, :, None] * totals[:, None, :]
