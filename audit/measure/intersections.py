"""Groups of several attributes at once: intersectional cells, dependence of two attributes, and side effects.

An occupation can draw as many women as men and as many old as young, and still draw only old men and young women. And
an intervention on one attribute can move another: the matrix of edited by measured attribute shows it, with the value
that would come about without any change.

Codes: a group is its index in the attribute's order; ``UNCLASSIFIED`` marks an image without a perceived group.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import chndtr, ndtri, rel_entr
from scipy.stats import hypergeom, random_table

from audit.measure.intervals import share_estimate
from audit.records import Attribute, AttributeShift, Cell, Dependence, Estimate, derive_seed

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

UNCLASSIFIED = -1
"""Code of an image without a perceived group."""

SMALL_CELL = 10
"""A cell is small where both the images seen and those expected under independence are fewer than this: none seen where
many are expected is a finding."""

RESAMPLES = 9_999
"""Random tables or label swaps behind a p-value, which is then at least 1 / 10,000. As the observed arrangement is
counted among them, the p-value is valid at any number; more of them only steady it."""

LEAST_RESAMPLES = 999
SWAPPED_TABLES = 10_000_000
"""Tables of a prompt that are swapped altogether: from 1,000 prompts on each of them is swapped less often, and 999
times however many they are."""

SWAPPED_AT_ONCE = 100_000
"""Tables that are swapped in one go, so that they take some tens of MB."""

WORD = 64
"""Coins that one random word tosses."""

ROUNDING = 1e-9
"""Statistics closer than this count as equal: a tie must not depend on the order of a sum."""


def cross_tables(first: ArrayLike, second: ArrayLike, prompts: ArrayLike, shape: tuple[int, int, int]) -> Ints:
    """Count the images of each prompt by their combination of two attributes' groups.

    Args:
        first: Group of every image in the one attribute, shape (n,); images without one in either are left out.
        second: Group in the other attribute, shape (n,).
        prompts: Number of each image's prompt, shape (n,).
        shape: How many prompts and groups of each attribute there are.

    Returns:
        Counts of shape ``shape``.

    Raises:
        ValueError: If the columns are of different images, or a code is no group.
    """
    rows, columns, strata = _codes(first, shape[1]), _codes(second, shape[2]), np.asarray(prompts, dtype=np.int64)
    if not rows.size == columns.size == strata.size:
        raise ValueError(f"expected codes of the same images, found {rows.size}, {columns.size} and {strata.size}")
    known = (rows != UNCLASSIFIED) & (columns != UNCLASSIFIED)
    places = np.ravel_multi_index((strata[known], rows[known], columns[known]), shape)
    return np.bincount(places, minlength=math.prod(shape)).reshape(shape)


def cells_of(counts: ArrayLike, expected: ArrayLike, attributes: tuple[Attribute, Attribute]) -> tuple[Cell, ...]:
    """Return every combination of groups, also those that no image shows, in the order of the groups.

    Args:
        counts: Images by combination, shape (R, C).
        expected: From :func:`expected_counts`, of the same shape; over several prompts the sum of the prompts' own.
        attributes: The attributes of the axes.

    Raises:
        ValueError: If a table does not fit the attributes, or holds no image.
    """
    table, awaited = _table(counts), np.asarray(expected, dtype=np.float64)
    shape = tuple(len(attribute.groups) for attribute in attributes)
    if table.shape != shape or awaited.shape != shape:
        raise ValueError(f"expected tables by the attributes' groups {shape}, found {table.shape} and {awaited.shape}")
    n, small = int(table.sum()), small_cells(table, awaited)
    return tuple(
        Cell(
            (one, other), share_estimate(int(table[i, j]), n), int(table[i, j]), float(awaited[i, j]), bool(small[i, j])
        )
        for i, one in enumerate(attributes[0].groups)
        for j, other in enumerate(attributes[1].groups)
    )


def small_cells(counts: ArrayLike, expected: ArrayLike) -> NDArray[np.bool_]:
    """Return which cells of tables of any one shape have too few images, seen and expected, to read a share from."""
    return np.asarray(np.maximum(counts, expected) < SMALL_CELL)


def expected_counts(counts: ArrayLike) -> Floats:
    """Return the counts of independent attributes with the same shares, for each table of counts (…, R, C)."""
    tables = np.asarray(counts, dtype=np.float64)
    n = np.maximum(tables.sum(axis=(-1, -2), keepdims=True), 1)  # a table without an image expects none
    return np.asarray(tables.sum(axis=-1, keepdims=True) * tables.sum(axis=-2, keepdims=True) / n)


def dependence(counts: ArrayLike, seed: int = 0) -> Dependence | None:
    """Test whether two attributes are independent in the images of one prompt.

    The G test, with its distribution under independence given both margins: exact where both attributes show two
    groups, by random tables (Patefield 1981) otherwise. No large-sample approximation enters the p-value. Pool no
    prompts: occupations of different make-up would make attributes look dependent that are not within any of them.
    :mod:`audit.measure.within_prompts` is for several prompts together.

    Args:
        counts: Images by combination, shape (K₁, K₂).
        seed: Seed of the random tables.

    Returns:
        The test; None where one of the attributes shows a single group, so that there is nothing to go together with.

    Raises:
        ValueError: If the table has other than two axes, or holds no image.
    """
    table = _table(counts)
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
        cramers_v=cramers_v(shown),
    )


def cramers_v(counts: ArrayLike, confidence: float = 0.95) -> Estimate:
    """Return the bias-corrected Cramér's V (Bergsma 2013) with an interval.

    The interval inverts the non-central χ² distribution of Pearson's statistic, whose non-centrality is n V² times the
    table's smaller side: an approximation that holds where dependence is weak. Where it is strong and a group rare, V
    varies more than that, and the interval is widened to hold that of the delta method (:func:`_delta_ends`) and the V
    of a combination that is commoner than it was seen (:func:`_of_fuller_cells`). Its upper end never counts a table as
    too even to be chance, so it stays above 0.

    Args:
        counts: Images by combination, shape (R, C), no row and no column empty.
        confidence: Coverage of the interval, in (0, 1).

    Raises:
        ValueError: If the table has an empty row or column, one alone, or no image.
    """
    table = _table(counts)
    if table.ndim != 2 or min(table.shape) < 2 or not (table.sum(axis=0).all() and table.sum(axis=1).all()):
        raise ValueError("Cramér's V needs two rows and columns at least, none empty; leave out groups never shown")
    n, expected = int(table.sum()), expected_counts(table)
    chi2 = float(((table - expected) ** 2 / expected).sum())
    sides = np.array(table.shape, dtype=np.float64)
    degrees = int((sides - 1).prod())
    side = float((sides - (sides - 1) ** 2 / (n - 1)).min() - 1)
    if side <= 0:  # as many groups as images: nothing is known
        return Estimate(value=0.0, low=0.0, high=1.0, n=n)
    tail = (1 - confidence) / 2

    def v(phi2: float) -> float:
        return math.sqrt(min(1.0, max(0.0, phi2) / side))

    value = v(chi2 / n - degrees / (n - 1))
    low = v(_noncentrality(chi2, degrees, 1 - tail) / n)
    # A table more even than independence leaves on average is luck, and no proof of it.
    high = v(_noncentrality(max(chi2, degrees), degrees, tail) / n)
    nearest, farthest = _delta_ends(table, side, confidence)
    farthest = max(farthest, _of_fuller_cells(table, side, confidence))
    return Estimate(value=value, low=min(low, nearest, value), high=max(high, farthest, value), n=n)


def _delta_ends(table: Ints, side: float, confidence: float) -> tuple[float, float]:
    """Return V ± z times its standard error by the delta method, cut to [0, 1].

    Where V is small by chance its error is small too, so the upper end is that of log V, V exp(z error / V), if that
    lies higher; an error beyond V is none of log V's any more and counts as V.

    φ² = Σ p_ij²/(p_i p_j) − 1 has the gradient 2p_ij/(p_i p_j) − Σ_j p_ij²/(p_i² p_j) − Σ_i p_ij²/(p_i p_j²) in p_ij.
    The table gets as many more images as its longer side, spread evenly, lest an empty cell pass for one that cannot
    be.
    """
    counts = table + max(table.shape) / table.size
    n = float(counts.sum())
    p = counts / n
    rows, columns = p.sum(axis=1, keepdims=True), p.sum(axis=0, keepdims=True)
    ratio = p / (rows * columns)
    by_row, by_column = (p * ratio).sum(axis=1, keepdims=True), (p * ratio).sum(axis=0, keepdims=True)
    phi2, gradient = float((p * ratio).sum()) - 1, 2 * ratio - by_row / rows - by_column / columns
    if phi2 <= ROUNDING:
        return 0.0, 0.0
    variance = float((p * gradient**2).sum() - (p * gradient).sum() ** 2) / n
    degrees = (table.shape[0] - 1) * (table.shape[1] - 1)
    middle = math.sqrt(max(0.0, phi2 - degrees / (n - 1)) / side)
    error = math.sqrt(max(0.0, variance)) / (2 * math.sqrt(phi2 * side))
    half_width = float(ndtri((1 + confidence) / 2)) * error
    stretched = middle * math.exp(min(half_width / middle, 1.0)) if middle else 0.0
    return max(0.0, middle - half_width), min(1.0, max(middle + half_width, stretched))


def _of_fuller_cells(table: Ints, side: float, confidence: float) -> float:
    """Return the largest V that one combination makes if it is as common as its own interval allows, others as seen."""
    n = int(table.sum())
    room = np.array([[share_estimate(count, n, confidence).high * n for count in row] for row in table.tolist()])
    fuller = np.where(np.eye(table.size, dtype=np.bool_).reshape(-1, *table.shape), room, table)
    expected, total = expected_counts(fuller), fuller.sum(axis=(1, 2))
    degrees = (table.shape[0] - 1) * (table.shape[1] - 1)
    phi2 = ((fuller - expected) ** 2 / expected).sum(axis=(1, 2)) / total - degrees / (total - 1)
    return math.sqrt(min(1.0, max(0.0, float(phi2.max())) / side))


def pair_tables(baseline: ArrayLike, edited: ArrayLike, prompts: ArrayLike, size: int, groups: int) -> Ints:
    """Count the images of each prompt by their group in the baseline and in an arm.

    Args:
        baseline: Codes in the baseline arm, shape (n,).
        edited: Codes of the same images in the other arm, shape (n,).
        prompts: Number of each image's prompt, in [0, size), shape (n,).
        size: Number of prompts.
        groups: Number of groups.

    Returns:
        Counts of shape (size, groups + 1, groups + 1); the last row and column are the unclassified.

    Raises:
        ValueError: If the arms are not of the same images, or a code is no group.
    """
    first, second, numbers = _codes(baseline, groups), _codes(edited, groups), np.asarray(prompts, dtype=np.int64)
    if not first.size == second.size == numbers.size:
        raise ValueError(
            f"expected the same images in both arms, found {first.size}, {second.size} and prompts of {numbers.size}"
        )
    side = groups + 1
    cells = (numbers * side + first % side) * side + second % side  # code −1 is the last row
    return np.bincount(cells, minlength=size * side**2).reshape(size, side, side)


def attribute_shift(tables: ArrayLike, seed: int = 0) -> tuple[float, float, float]:
    """Return the mean total variation between two arms, its floor, and the p-value of no change.

    Without a change for the whole, which of an image's two versions belongs to which arm is the toss of a coin.
    Swapping them at random gives the distribution of the value under no change, exact for any n. Images that are equal
    in both arms count for nothing either way, so the floor sinks with what the intervention leaves alone. ``RESAMPLES``
    swaps are tried, fewer where there are many prompts (``SWAPPED_TABLES``), and at least ``LEAST_RESAMPLES``.

    Args:
        tables: From :func:`pair_tables`, shape (prompts, groups + 1, groups + 1).
        seed: Seed of the swaps.

    Returns:
        ``(value, floor, p_value)`` as in :class:`audit.records.AttributeShift`.

    Raises:
        ValueError: If no prompt has a classified image in both arms.
    """
    pairs = np.asarray(tables, dtype=np.int64)
    if pairs.ndim != 3 or pairs.shape[1] != pairs.shape[2]:
        raise ValueError(f"expected one square table of pairs per prompt, found shape {pairs.shape}")
    observed = _variation(pairs.sum(axis=2).T, pairs.sum(axis=1).T)
    if np.isnan(observed).all():
        raise ValueError("no prompt has a classified image in both arms; report the images by their status instead")
    resamples = min(RESAMPLES, max(LEAST_RESAMPLES, SWAPPED_TABLES // len(pairs)))
    rng, total, prompts = np.random.default_rng(seed), np.zeros(resamples), np.zeros(resamples)
    at_once = max(1, SWAPPED_AT_ONCE // resamples)
    for start in range(0, len(pairs), at_once):
        variation = _variation(*_swapped(pairs[start : start + at_once], resamples, rng))
        total += np.nan_to_num(variation).sum(axis=0)
        prompts += (~np.isnan(variation)).sum(axis=0)
    under_no_change = total / np.maximum(prompts, 1)
    value = float(np.nanmean(observed))
    return value, float(under_no_change.mean()), _share_as_large(under_no_change, value)


def shift_matrix(
    baseline: Mapping[str, ArrayLike],
    arms: Mapping[str, Mapping[str, ArrayLike]],
    prompts: ArrayLike,
    attributes: Sequence[Attribute],
) -> tuple[AttributeShift, ...]:
    """Return for every arm and measured attribute how far the shares moved: side effects stand off the edited ones.

    Args:
        baseline: Attribute → codes of all images, shape (n,).
        arms: Arm → the same, images in the same order.
        prompts: The number of each image's prompt, from 0 on, shape (n,).
        attributes: The measured attributes. One without a prompt classified in both arms is left out.
    """
    size = int(np.max(prompts)) + 1
    shifts = []
    for arm, codes in arms.items():
        for attribute in attributes:
            name, groups = attribute.name, len(attribute.groups)
            tables = pair_tables(baseline[name], codes[name], prompts, size, groups)
            # In how many prompts both arms have a classified image, though not always the same one.
            compared = int(((tables[:, :-1].sum(axis=(1, 2)) > 0) & (tables[:, :, :-1].sum(axis=(1, 2)) > 0)).sum())
            if compared:
                value, floor, p = attribute_shift(tables, derive_seed("attribute shift", arm, name))
                pairs = int(tables[:, :-1, :-1].sum())
                shifts.append(AttributeShift(arm, name, value, floor, p, compared, pairs))
    return tuple(shifts)


def _swapped(pairs: Ints, resamples: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Swap the two versions of each image by the toss of a coin.

    Of the images that go from i to j and those that go back as many are swapped as coins show heads; since heads and
    tails are alike, group i gains those that went back less the heads of both kinds together.

    Args:
        pairs: Tables of prompts, shape (P, G, G).
        resamples: R, how often all are swapped.
        rng: Tosses the coins.

    Returns:
        Both arms' counts, shape (G, P, R).
    """
    kinds = np.stack(np.triu_indices(pairs.shape[1], 1), axis=1)
    flow = np.zeros((pairs.shape[1], len(pairs), resamples), dtype=np.int32)
    there, back = pairs[:, kinds[:, 0], kinds[:, 1]], pairs[:, kinds[:, 1], kinds[:, 0]]
    for (i, j), heads, returned in zip(kinds, _heads(there + back, resamples, rng), back.T, strict=True):
        gained = returned[:, None].astype(np.int32) - heads
        flow[i] += gained
        flow[j] -= gained
    return pairs.sum(axis=2).T[..., None] + flow, pairs.sum(axis=1).T[..., None] - flow


def _heads(coins: Ints, resamples: int, rng: np.random.Generator) -> NDArray[np.int32]:
    """Toss coins of Q kinds, (P, Q), and return how many of each kind show heads, shape (Q, P, R).

    A coin is a bit of a random word; the kinds of a prompt lie one after the other in the same words.
    """
    ends = coins.cumsum(axis=1)
    heads = np.zeros((coins.shape[1], len(coins), resamples), dtype=np.int32)
    for start in range(0, int(ends.max(initial=0)), WORD):
        words = rng.integers(0, 2**WORD, size=heads.shape[1:], dtype=np.uint64)
        masks = _low_bits(ends - start) & ~_low_bits(ends - coins - start)
        for of_kind, mask in zip(heads, masks.T, strict=True):
            of_kind += np.bitwise_count(words & mask[:, None])
    return heads


def _low_bits(count: Ints) -> NDArray[np.uint64]:
    """Return words whose lowest ``count`` bits are set, none below 0 and all from ``WORD`` on."""
    kept = np.clip(count, 0, WORD).astype(np.uint64)
    return np.where(kept > 0, ~np.uint64(0) >> (np.uint64(WORD) - np.maximum(kept, np.uint64(1))), np.uint64(0))


def _variation(first: Ints, second: Ints) -> Floats:
    """Return the total variation of two arms' counts (groups + 1, …), NaN where an arm has no classified image."""
    shares = []
    for counts in (first, second):
        n = counts[:-1].sum(axis=0)
        shares.append(counts[:-1] / np.where(n > 0, n, np.nan))
    return np.asarray(np.abs(shares[0] - shares[1]).sum(axis=0) / 2)


def _g(table: Ints) -> Floats:
    """Return G of tables (…, R, C) that share the margins of the first of them."""
    margins = table.reshape(-1, *table.shape[-2:])[0]
    return np.asarray(2 * rel_entr(table, expected_counts(margins)).sum(axis=(-1, -2)))


def _exact_p(table: Ints) -> float:
    """Return the chance, under fixed margins, of a 2 × 2 table whose G is at least this one's."""
    n, row, column = int(table.sum()), int(table[0].sum()), int(table[:, 0].sum())
    corner = np.arange(max(0, row + column - n), min(row, column) + 1)
    possible = np.stack([corner, row - corner, column - corner, n - row - column + corner], axis=-1).reshape(-1, 2, 2)
    as_large = _g(possible) >= _g(table) - ROUNDING
    return min(1.0, float(hypergeom(n, row, column).pmf(corner)[as_large].sum()))


def _monte_carlo_p(table: Ints, seed: int) -> float:
    draws = random_table(table.sum(axis=1), table.sum(axis=0)).rvs(RESAMPLES, random_state=np.random.default_rng(seed))
    return _share_as_large(_g(np.asarray(draws, dtype=np.int64)), float(_g(table)))


def _share_as_large(resampled: Floats, observed: float) -> float:
    """Return (1 + how many are at least as large) / (1 + how many there are) (Phipson and Smyth 2010)."""
    return (1 + int((resampled >= observed - ROUNDING).sum())) / (1 + resampled.size)


def _noncentrality(chi2: float, degrees: int, p: float) -> float:
    """Return the non-centrality under which a χ² of at most this has probability ``p``; 0 where none is so likely."""

    def excess(noncentrality: float) -> float:
        return float(chndtr(chi2, degrees, noncentrality)) - p

    if excess(0.0) <= 0:
        return 0.0
    largest = chi2 + 10 * math.sqrt(chi2 + degrees) + 50
    return float(brentq(excess, 0.0, largest))


def _codes(codes: ArrayLike, groups: int) -> Ints:
    column = np.asarray(codes, dtype=np.int64)
    if column.ndim != 1 or (column < UNCLASSIFIED).any() or (column >= groups).any():
        raise ValueError(f"expected one code per image from {UNCLASSIFIED} to {groups - 1}, found others")
    return column


def _table(counts: ArrayLike) -> Ints:
    table = np.asarray(counts, dtype=np.int64)
    if (table < 0).any() or not table.any():
        raise ValueError("expected counts of at least one image, none negative; report images by their status instead")
    return table
