"""Whether two attributes go together within prompts, over all prompts at once.

Pooling the images of occupations would mix two things: an occupation of mostly old men beside one of mostly young women
makes gender and age go together in the pool, though they may do so in neither. Here every prompt is held against its
own shares, and only the differences are added up.

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
    """Test whether two attributes are independent in every prompt, against one tendency that the prompts share.

    The generalised Cochran-Mantel-Haenszel test (Landis, Heyman and Koch 1978, general association): with O the counts
    and E those expected within each prompt, d = Σ (O − E) has under independence, given both attributes' counts in each
    prompt, mean 0 and a covariance V in closed form, and dᵀ V⁻ d tends to χ² with rank V degrees of freedom as images
    are added, be it in few prompts or in many. Opposite tendencies of two prompts cancel in d. They do not in V: the
    effect size is the root mean square over prompts of Cramér's V, with its interval for these prompts.

    Args:
        tables: Images by prompt and combination, shape (P, R, C).

    Returns:
        The test; None where fewer than two prompts have a V (see :func:`squared_v`).
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
    """Return the p-value of the G test in each prompt, shape (P,), by its limiting χ² distribution: quick and rough.

    NaN where an attribute shows a single group. Small tables are off by some factor: use it to order prompts only.

    Args:
        tables: Images by prompt and combination, shape (P, R, C).
    """
    counts = np.asarray(tables, dtype=np.float64)
    rows, columns = shown_groups(counts)
    statistic = 2 * rel_entr(counts, expected_counts(counts)).sum(axis=(1, 2))
    degrees = (rows - 1) * (columns - 1)
    return np.asarray(np.where(np.minimum(rows, columns) > 1, chi2.sf(statistic, np.maximum(degrees, 1)), np.nan))


def _mantel_haenszel(tables: Floats) -> tuple[float, int]:
    """Return the statistic and its degrees of freedom, of tables with two images at least each."""
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
