"""Each end of an interval keeps its error rate for all possible groups of unclassified images."""

import itertools

import numpy as np
import pytest
from scipy import stats

from audit.measure.discrepancy.corrected import corrected_distances, corrected_moments
from audit.measure.discrepancy.estimate import discrepancy_interval_of_counts, parity_p_value
from audit.measure.discrepancy.group_measures import MEASURES
from audit.measure.inference.intervals import share_estimate
from audit.measure.inference.simplex import nearest_distribution
from audit.measure.shares.classifier_error import ConfusionMatrix
from audit.measure.unclassified.all_images import AllImages, departure_p_values
from audit.measure.unclassified.bounds import nearest_counts

SAMPLES = 2000


def images(table, target, matrix=None):
    """Return samples with these images by group, the unclassified ones last, (P, K + 1)."""
    rows = np.asarray(table)
    size, groups = len(rows), rows.shape[1] - 1
    codes = np.tile(np.append(np.arange(groups), -1), size)
    owners = np.repeat(np.arange(size), groups + 1)
    goals = np.broadcast_to(np.asarray(target, dtype=float), (size, groups))
    return AllImages(np.repeat(codes, rows.ravel()), np.repeat(owners, rows.ravel()), goals, matrix=matrix)


def completions(row):
    *counts, unknown = row
    for extra in itertools.product(range(unknown + 1), repeat=len(counts)):
        if sum(extra) == unknown:
            yield np.add(counts, extra)


def drawn(truth, missing, n, seed=0):
    """Return tables of images with shares ``truth``, of which a share ``missing`` is unclassified."""
    truth, missing = np.asarray(truth, dtype=float), np.asarray(missing)
    q = np.append(truth * (1 - missing), (truth * missing).sum())
    return np.random.default_rng(seed).multinomial(n, q, size=SAMPLES), q


def at_most(share, tail):
    """Check that a rate is not significantly above the tail; a figure can be on only one side of its limit."""
    return share <= 2 * tail + 3 * np.sqrt(2 * tail / SAMPLES)


@pytest.mark.parametrize("target", [(0.5, 0.5), (0.2, 0.8)])
def test_for_two_groups_the_interval_is_the_hull_of_all_completions(target):
    for row in ([7, 2, 3], [0, 12, 5], [6, 6, 0], [0, 0, 8]):
        ends = np.array([discrepancy_interval_of_counts(counts, target, 0.99) for counts in completions(row)])
        found = images([row], target).discrepancy_intervals(0.99)[0]
        assert found == pytest.approx((ends[:, 0].min(), ends[:, 1].max()))


@pytest.mark.parametrize("row", [[7, 2, 3, 3], [1, 12, 5, 2], [0, 0, 9, 4], [4, 4, 4, 3]])
@pytest.mark.parametrize("target", [(1 / 3,) * 3, (0.1, 0.2, 0.7)])
def test_for_more_groups_no_completion_exceeds_the_interval_notably(row, target):
    ends = np.array([discrepancy_interval_of_counts(counts, target, 0.99) for counts in completions(row)])
    low, high = images([row], target).discrepancy_intervals(0.99)[0]
    assert high >= ends[:, 1].max() - 1e-9
    assert low <= ends[:, 0].min() + 0.02


def test_without_unclassified_images_every_interval_is_the_reported_one():
    whole, target = images([[30, 12, 0]], (0.5, 0.5)), np.array((0.5, 0.5))
    share = share_estimate(30, 42, 0.98)
    assert whole.share_interval(0, 0.98) == (share.low, share.high)
    either_end = discrepancy_interval_of_counts([30, 12], target, 0.98, each_tail=True)
    assert tuple(whole.discrepancy_intervals(0.98)[0]) == either_end
    low, high = discrepancy_interval_of_counts([30, 12], target, 0.98)
    assert either_end[1] == high
    assert low - 0.02 < either_end[0] <= low  # samples equally far on the other side of the target count too
    for measure in MEASURES.values():
        found = measure.of([30, 12], target, 0.98)
        low, high = whole.measure_interval(measure, 0.98)
        assert (low, high) == pytest.approx((found.low, found.high))


@pytest.mark.parametrize("confidence", [0.95, 0.9975])
@pytest.mark.parametrize(
    ("truth", "missing"), [((0.205, 0.795), (0.95, 0.0)), ((0.5, 0.5), (0.4, 0.0)), ((0.9, 0.1), (0.1, 0.1))]
)
def test_the_ends_of_a_share_keep_their_error_rates(truth, missing, confidence):
    tables, q = drawn(truth, missing, 400)
    kinds, kind = np.unique(tables, axis=0, return_inverse=True)  # many samples have equal counts
    ends = np.array([images([row], (0.5, 0.5)).share_interval(0, confidence) for row in kinds])
    lows, highs = ends[kind.ravel()].T
    tail = (1 - confidence) / 2
    assert at_most((lows > q[0]).mean(), tail)
    assert at_most((highs < q[0] + q[2]).mean(), tail)


@pytest.mark.parametrize("confidence", [0.95, 0.9975])
@pytest.mark.parametrize(
    ("truth", "missing", "target"),
    [
        ((0.5, 0.5), (0.4, 0.0), (0.5, 0.5)),
        ((0.6, 0.4), (0.3, 0.0), (0.5, 0.5)),
        ((0.7, 0.15, 0.15), (0.5, 0.0, 0.1), (1 / 3,) * 3),
        ((0.7, 0.15, 0.15), (0.2, 0.0, 0.1), (0.1, 0.2, 0.7)),
        ((0.02, 0.02, 0.96), (0.5, 0.0, 0.1), (0.1, 0.2, 0.7)),
    ],
)
def test_the_ends_of_a_discrepancy_keep_their_error_rates(truth, missing, target, confidence):
    tables, q = drawn(truth, missing, 100)
    kinds, kind = np.unique(tables, axis=0, return_inverse=True)  # many samples have equal counts
    found = images(kinds, target).discrepancy_intervals(confidence)[kind.ravel()]
    known, unknown, goal = q[:-1], q[-1], np.array(target)
    best = np.linalg.norm(known + unknown * nearest_distribution((goal - known) / unknown) - goal)
    worst = max(np.linalg.norm(known + unknown * corner - goal) for corner in np.eye(len(goal)))
    tail = (1 - confidence) / 2
    assert at_most((found[:, 0] > best + 1e-9).mean(), tail)
    assert at_most((found[:, 1] < worst - 1e-9).mean(), tail)


@pytest.mark.parametrize("measure", [m for m in MEASURES.values() if not m.needs_every_group], ids=lambda m: m.name)
def test_the_interval_of_a_measure_covers_the_truth_for_any_missing_images(measure):
    truth, target = np.array((0.6, 0.25, 0.15)), np.full(3, 1 / 3)
    tables, _ = drawn(truth, (0.3, 0.0, 0.1), 120)
    true = float(measure.function(truth, target))
    ends = [images([row], target).measure_interval(measure, 0.95) for row in tables[:300]]
    assert np.mean([low <= true <= high for low, high in ends]) >= 0.95


def test_the_interval_of_a_mean_over_prompts_covers_the_truth_for_any_missing_images():
    shares, target = (0.5, 0.7, 0.9, 0.4), (0.5, 0.5)
    tables = np.stack([drawn((p, 1 - p), (0.3, 0.05), 40, seed)[0] for seed, p in enumerate(shares)], axis=1)
    true = np.mean([2 * (p - 0.5) ** 2 for p in shares])
    ends = np.array([images(rows, target).mean_square_interval(0.95) for rows in tables[:400]])
    assert ((ends[:, 0] <= true) & (true <= ends[:, 1])).mean() >= 0.95
    missing = images(tables[0], target)
    low, high = missing.classified().mean_square_interval(0.95)
    assert ends[0][0] < low < high < ends[0][1]


def test_the_p_value_of_a_departure_is_the_largest_over_all_completions():
    for row, target in (([20, 2, 7], (0.5, 0.5)), ([9, 1, 2, 4], (0.3, 0.3, 0.4))):
        *counts, unknown = row
        every = [parity_p_value(one, target) for one in completions(row)]
        counts, goals = np.array([counts]), np.array([target])
        (found,) = departure_p_values(counts, np.array([unknown]), goals, None)
        assert found == pytest.approx(max(every), rel=0.02)  # two-sided binomial p-values are discrete
        assert found == parity_p_value(nearest_counts(counts, np.array([unknown]), goals)[0], target)


def test_parity_with_unclassified_women_is_not_a_departure():
    tables, _ = drawn((0.5, 0.5), (0.4, 0.0), 600)
    goals = np.full((SAMPLES, 2), 0.5)
    blind = departure_p_values(tables[:, :2], np.zeros(SAMPLES, dtype=int), goals, None)
    open_minded = departure_p_values(tables[:, :2], tables[:, 2], goals, None)
    assert (blind <= 0.05).mean() > 0.99
    assert (open_minded <= 0.05).mean() <= 0.05


MATRICES = {2: [[170, 30], [10, 190]], 3: [[170, 20, 10], [10, 180, 10], [15, 15, 170]]}


@pytest.mark.parametrize("groups", [2, 3])
@pytest.mark.parametrize("missing", [0, 30])
def test_corrected_p_values_agree_with_corrected_intervals(groups, missing):
    matrix, goal = ConfusionMatrix.of("abc"[:groups], MATRICES[groups]), np.full((1, groups), 1 / groups)
    counts, unknown = np.array([[120, 60, 50][:groups]]), np.array([missing])
    (p_value,) = departure_p_values(counts, unknown, goal, matrix)
    assert 1e-9 < p_value < 1
    for factor, holds in ((0.8, True), (1.25, False)):
        low, _ = corrected_distances(counts, goal, matrix, 1 - min(p_value * factor, 0.99), unknown)[0]
        assert (low == 0) == holds


def test_a_judge_that_classifies_men_as_women_gives_no_finding_for_a_fair_model():
    rng, goals = np.random.default_rng(4), np.full((SAMPLES, 2), 0.5)
    rates = np.array([[0.98, 0.02], [0.2, 0.8]])
    counts, none = rng.multinomial(400, np.full(2, 0.5) @ rates, size=SAMPLES), np.zeros(SAMPLES, dtype=int)
    perceived = departure_p_values(counts, none, goals, None)
    # Each sample has a judge of its own; those with equal matrices are tested together.
    judges, judge = np.unique(rng.multinomial(200, rates, size=(SAMPLES, 2)), axis=0, return_inverse=True)
    corrected = np.ones(SAMPLES)
    for number, labels in enumerate(judges):
        own = judge.ravel() == number
        matrix = ConfusionMatrix.of(("f", "m"), labels)
        corrected[own] = departure_p_values(counts[own], none[own], goals[own], matrix)
    assert np.mean(perceived <= 0.05) > 0.9
    assert np.mean(corrected <= 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / SAMPLES)


@pytest.mark.parametrize("given", [0.0, 0.2])
def test_moments_include_unclassified_images_assigned_to_a_group(given):
    rng, n, m = np.random.default_rng(1), 60, ConfusionMatrix.of("abc", np.array(MATRICES[3]) * 20)
    truth, target = np.array((0.5, 0.3, 0.2)), np.array((0.5, 0.3, 0.2))
    sure = np.array((given, 0, 0))
    draws = 60_000
    rates = np.stack([rng.dirichlet(row, size=draws) for row in np.asarray(m.counts)], axis=1)
    labels = np.column_stack([np.einsum("h,shj->sj", truth - sure, rates), np.full(draws, given)])
    seen = rng.multinomial(n, labels) / n
    squared = ((seen[:, :3] @ np.linalg.inv(m.rates) + seen[:, 3:] * np.array((1, 0, 0)) - target) ** 2).sum(axis=1)
    mean, deviation, skewness = map(float, corrected_moments(truth, target, float(n), m, sure))
    assert (mean, deviation) == pytest.approx((squared.mean(), squared.std()), rel=0.02)
    assert skewness == pytest.approx(float(stats.skew(squared)), abs=0.2)
