"""Correction is exact for a known matrix, and its intervals include the uncertainty of the matrix."""

import numpy as np
import pytest
from scipy import stats

from audit.measure.discrepancy.corrected import (
    corrected_discrepancies,
    corrected_discrepancy,
    corrected_moments,
    corrected_squared,
    corrected_squares,
)
from audit.measure.discrepancy.estimate import squared_distance_moments
from audit.measure.discrepancy.samples import Samples
from audit.measure.shares.classifier_error import (
    CONDITION_LIMIT,
    ConfusionMatrix,
    IllConditioned,
    correct,
)
from audit.measure.shares.corrected import corrected_interval

NAMES = ("a", "b", "c", "d")


def rates(groups, accuracy):
    """Errors spread evenly over the other groups."""
    return np.full((groups, groups), (1 - accuracy) / (groups - 1)) + np.eye(groups) * (
        accuracy - (1 - accuracy) / (groups - 1)
    )


def matrix_of(m, labels):
    return ConfusionMatrix.of(NAMES[: len(m)], np.rint(np.asarray(m) * labels).astype(int))


@pytest.mark.parametrize("positive", [0, 3, 13, 30, 57, 60])
@pytest.mark.parametrize(("hits", "misses", "rejected", "alarms"), [(90, 10, 80, 20), (150, 50, 400, 20), (9, 1, 7, 3)])
def test_two_groups_equal_the_estimator_of_rogan_and_gladen(positive, hits, misses, rejected, alarms):
    n, sensitivity, specificity = 60, hits / (hits + misses), rejected / (rejected + alarms)
    expected = (positive / n + specificity - 1) / (sensitivity + specificity - 1)
    matrix = ConfusionMatrix(("positive", "negative"), ((hits, misses), (alarms, rejected)))
    assert correct([positive, n - positive], matrix)[0] == pytest.approx(np.clip(expected, 0, 1))


@pytest.mark.parametrize("groups", [2, 3, 4])
def test_correction_undoes_the_errors_of_any_known_matrix(groups):
    rng = np.random.default_rng(groups)
    for _ in range(50):
        counts = rng.integers(0, 15, (groups, groups)) + 60 * np.eye(groups, dtype=int)
        matrix = ConfusionMatrix.of(NAMES[:groups], counts)
        truth = rng.dirichlet(np.ones(groups))
        assert correct(matrix.rates.T @ truth, matrix) == pytest.approx(truth)


def test_at_accuracy_0_9_perceived_shares_of_74_26_are_corrected_to_80_20():
    assert correct([74, 26], matrix_of(rates(2, 0.9), 200)) == pytest.approx([0.8, 0.2])


def test_a_perfect_judge_needs_no_correction():
    assert correct([3, 1, 6], matrix_of(np.eye(3), 50)) == pytest.approx([0.3, 0.1, 0.6])


def test_impossible_perceived_shares_give_the_nearest_distribution():
    found = correct([100, 0], matrix_of(rates(2, 0.9), 200))
    assert found == pytest.approx([1, 0])


@pytest.mark.parametrize(("accuracy", "fits"), [(0.56, True), (0.54, False), (0.5, False)])
def test_a_judge_with_very_large_errors_is_refused_with_its_condition_number(accuracy, fits):
    matrix = matrix_of(rates(2, accuracy), 1000)
    condition = 1 / (2 * accuracy - 1) if accuracy > 0.5 else np.inf
    assert matrix.condition_number == pytest.approx(condition)
    assert matrix.correctable is fits
    if fits:
        assert correct([50, 50], matrix) == pytest.approx([0.5, 0.5])
        return
    for use in (correct, corrected_interval, lambda c, m: corrected_discrepancy(c, (0.5, 0.5), m)):
        with pytest.raises(IllConditioned, match=f"up to {CONDITION_LIMIT:g}, found {condition:.3g}"):
            use([50, 50], matrix)


@pytest.mark.parametrize(("positive", "n"), [(13, 50), (200, 500), (42, 50)])
def test_the_ends_for_two_groups_solve_fiellers_equation_with_exact_limits(positive, n):
    hits, misses, alarms, rejected = 170, 30, 20, 180
    matrix = ConfusionMatrix(("positive", "negative"), ((hits, misses), (alarms, rejected)))
    found = corrected_interval([positive, n - positive], matrix, 0.99)[0]

    def limits(count, total):
        ends = stats.binomtest(count, total).proportion_ci(0.99, method="exact")
        return count / total - ends.low, ends.high - count / total

    (p_down, p_up), (s_down, s_up), (f_down, f_up) = limits(positive, n), limits(hits, 200), limits(alarms, 200)
    for share, sides in ((found.low, (p_down, s_up, f_up)), (found.high, (p_up, s_down, f_down))):
        off = positive / n - share * hits / 200 - (1 - share) * alarms / 200
        strayed = np.sqrt(sides[0] ** 2 + (share * sides[1]) ** 2 + ((1 - share) * sides[2]) ** 2)
        assert abs(off) == pytest.approx(strayed) or (share == 1 and abs(off) <= strayed)


def test_a_perfect_judge_with_many_labels_gives_clopper_and_pearsons_interval():
    counts = [30, 15, 5]
    for count, found in zip(counts, corrected_interval(counts, matrix_of(np.eye(3), 10**8)), strict=True):
        exact = stats.binomtest(count, 50).proportion_ci(method="exact")
        assert (found.low, found.high) == pytest.approx((exact.low, exact.high), abs=1e-6)
        assert (found.value, found.n) == (pytest.approx(count / 50), 50)


def test_fewer_labels_widen_every_interval():
    widths = [
        [found.high - found.low for found in corrected_interval([120, 50, 30], matrix_of(rates(3, 0.9), labels))]
        for labels in (20, 200, 2000)
    ]
    assert (np.diff(widths, axis=0) < 0).all()


@pytest.mark.parametrize("groups", [2, 3, 4])
@pytest.mark.parametrize("accuracy", [0.85, 0.95])
@pytest.mark.parametrize("n", [50, 500])
def test_intervals_have_about_their_nominal_coverage(groups, accuracy, n):
    rng = np.random.default_rng(groups * n)
    m, covered = rates(groups, accuracy), []
    truths = (np.full(groups, 1 / groups), np.array([0.8] + [0.2 / (groups - 1)] * (groups - 1)), np.eye(groups)[0])
    for truth in truths:
        for _ in range(150):
            matrix = ConfusionMatrix.of(NAMES[:groups], rng.multinomial(200, m))
            found = corrected_interval(rng.multinomial(n, m.T @ truth), matrix)
            covered.append([e.low <= share <= e.high for e, share in zip(found, truth, strict=True)])
    assert 0.93 <= np.mean(covered) <= 0.99


@pytest.mark.parametrize("truth", [(0.5, 0.5), (0.8, 0.2), (0.4, 0.35, 0.25)])
def test_the_debiased_discrepancy_is_unbiased_over_every_possible_sample(truth):
    n, target = 8, np.full(len(truth), 1 / len(truth))
    matrix = matrix_of(rates(len(truth), 0.85), 10**9)  # enough labels for a known matrix
    perceived = matrix.rates.T @ truth
    outcomes = [c for c in np.ndindex(*[n + 1] * len(truth)) if sum(c) == n]
    weights = [stats.multinomial.pmf(counts, n, perceived) for counts in outcomes]
    mean = np.dot(weights, [corrected_squared(counts, target, matrix) for counts in outcomes])
    assert mean == pytest.approx(((np.array(truth) - target) ** 2).sum(), abs=1e-6)


def test_the_error_of_the_matrix_is_debiased_too():
    rng, n, target = np.random.default_rng(5), 2000, np.full(3, 1 / 3)
    m = rates(3, 0.8)
    values = [
        corrected_squared(
            rng.multinomial(n, m.T @ target), target, ConfusionMatrix.of(NAMES[:3], rng.multinomial(60, m))
        )
        for _ in range(2000)
    ]
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(len(values))
    assert np.std(values) > 3e-3  # the subtracted bias is larger than the tolerance of the test


def test_a_perfect_judge_gives_the_folded_binomial_interval():
    exact = stats.binomtest(70, 100).proportion_ci(method="exact")
    found = corrected_discrepancy([70, 30], (0.5, 0.5), matrix_of(np.eye(2), 10**7))
    ends = [2 * (end - 0.5) ** 2 for end in (exact.low, exact.high)]
    assert (found.low, found.high) == pytest.approx(ends, abs=0.01)
    assert found.value == pytest.approx(2 * 0.2**2 - 2 * 0.7 * 0.3 / 99)


def test_parity_is_in_the_interval_of_a_fair_sample_and_not_of_a_skewed_one():
    matrix = matrix_of(rates(4, 0.85), 200)
    fair = corrected_discrepancy([26, 24, 25, 25], (0.25,) * 4, matrix)
    skewed = corrected_discrepancy([60, 15, 12, 13], (0.25,) * 4, matrix)
    assert fair.value < 0 == fair.low < fair.high
    assert 0 < skewed.low < skewed.value < skewed.high <= 0.75


@pytest.mark.parametrize("truth", [(1 / 3,) * 3, (0.45, 0.3, 0.25), (0.0, 0.1, 0.9)])
def test_intervals_of_the_discrepancy_cover_the_truth(truth):
    rng, m, target = np.random.default_rng(11), rates(3, 0.85), (1 / 3,) * 3
    squared = ((np.array(truth) - target) ** 2).sum()
    covered = []
    for _ in range(30):
        matrix = ConfusionMatrix.of(NAMES[:3], rng.multinomial(200, m))
        found = corrected_discrepancy(rng.multinomial(60, m.T @ truth), target, matrix)
        covered.append(found.low - 1e-9 <= squared <= found.high + 1e-9)
    assert np.mean(covered) >= 0.9


def test_an_exactly_even_sample_does_not_prove_parity():
    matrix = matrix_of(rates(4, 0.85), 200)
    luck, typical = (corrected_discrepancy(c, (0.25,) * 4, matrix) for c in ([25, 25, 25, 25], [28, 22, 27, 23]))
    assert luck.low == typical.low == 0
    assert luck.high == pytest.approx(typical.high, rel=0.5)
    assert luck.high > 0.01


def test_counts_that_contradict_the_labels_give_a_wide_interval():
    matrix = matrix_of(rates(2, 0.85), 200)
    found = corrected_interval([50, 0], matrix)[0]  # a judge of this accuracy would not assign only one group
    assert (found.value, found.high) == (1, 1)
    assert found.low < 0.97


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95])
def test_a_confidence_that_is_no_share_is_refused(confidence):
    with pytest.raises(ValueError, match="between 0 and 1"):
        corrected_discrepancy([3, 4], (0.5, 0.5), matrix_of(np.eye(2), 10), confidence)


@pytest.mark.parametrize("groups", [2, 3])
def test_higher_confidence_gives_a_wider_interval_at_any_level(groups):
    matrix, target = matrix_of(rates(groups, 0.85), 200), np.full(groups, 1 / groups)
    counts = np.array([600, *[300] * (groups - 1)])
    found = [corrected_discrepancy(counts, target, matrix, level) for level in (0.9, 0.99, 0.9999)]
    assert found[0].low > found[1].low > found[2].low
    assert found[0].high < found[1].high < found[2].high


@pytest.mark.parametrize("n", [5, 40])
def test_a_perfect_judge_gives_the_moments_of_plain_labels(n):
    matrix, target = matrix_of(np.eye(3), 10**10), np.array([0.2, 0.3, 0.5])
    distributions = np.random.default_rng(0).dirichlet(np.ones(3), size=4)
    found = corrected_moments(distributions, target, float(n), matrix)
    for one, other in zip(found, squared_distance_moments(distributions, target, n), strict=True):
        assert one == pytest.approx(other, rel=1e-4)


@pytest.mark.parametrize("truth", [(1 / 3,) * 3, (0.7, 0.2, 0.1)])
def test_moments_include_the_uncertainty_of_the_matrix(truth):
    rng, n, target, m = np.random.default_rng(1), 60, np.array([0.5, 0.3, 0.2]), matrix_of(rates(3, 0.85), 4000)
    drawn = np.stack([rng.dirichlet(row, size=60_000) for row in np.asarray(m.counts)], axis=1)
    seen = rng.multinomial(n, np.asarray(truth) @ drawn) / n
    squared = ((seen @ np.linalg.inv(m.rates) - target) ** 2).sum(axis=1)
    mean, deviation, skewness = (float(value) for value in corrected_moments(np.array(truth), target, float(n), m))
    assert (mean, deviation) == pytest.approx((squared.mean(), squared.std()), rel=0.02)
    assert skewness == pytest.approx(float(stats.skew(squared)), abs=0.15)  # leading terms only


def test_many_samples_together_give_the_same_results_as_single_ones():
    counts, matrix = np.array([[12, 5, 3], [6, 7, 7], [40, 0, 0]]), matrix_of(rates(3, 0.9), 150)
    targets = np.array([(1 / 3,) * 3, (0.2, 0.3, 0.5), (0.6, 0.2, 0.2)])
    together = corrected_discrepancies(Samples.of_counts(counts), targets, matrix)
    for row, target, found in zip(counts, targets, together, strict=True):
        alone = corrected_discrepancy(row, target, matrix)
        assert (found.value, found.low, found.high) == pytest.approx((alone.value, alone.low, alone.high), abs=1e-9)


def test_strata_reduce_the_bias_that_is_subtracted_from_the_corrected_square():
    rng, matrix, target = np.random.default_rng(2), matrix_of(rates(2, 0.9), 10**7), np.array([0.5, 0.5])
    steered = np.repeat([0, 1], 10)
    shown = np.where(steered == 0, 0.9, 0.3)  # true chance of group a: 60 % of the images together
    truth = 2 * 0.1**2
    found, alike = [], []
    for _ in range(3000):
        group = np.where(rng.random(20) < shown, 0, 1)
        perceived = np.where(rng.random(20) < 0.9, group, 1 - group)
        rows = np.eye(2)[perceived]
        found.append(corrected_squares(Samples.one(rows, steered), target, matrix)[0])
        alike.append(corrected_squares(Samples.one(rows), target, matrix)[0])
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found) - truth) < 3 * error
    assert np.mean(alike) < truth - 3 * error


def test_a_matrix_has_accuracy_and_recall_of_the_judge():
    matrix = ConfusionMatrix(("a", "b"), ((90, 10), (5, 45)))
    assert (matrix.accuracy.value, matrix.accuracy.n) == (0.9, 150)
    assert (matrix.recall["b"].value, matrix.recall["b"].n) == (0.9, 50)
    assert matrix.reordered(("b", "a")) == ConfusionMatrix(("b", "a"), ((45, 5), (10, 90)))
    with pytest.raises(ValueError, match="the matrix has a, b"):
        matrix.reordered(("a", "c"))


@pytest.mark.parametrize(
    ("groups", "counts", "message"),
    [
        (("a",), ((1,),), "at least 2"),
        (("a", "a"), ((1, 0), (0, 1)), "different"),
        (("a", "b"), ((1, 0, 0), (0, 1, 0)), "2 rows of 2"),
        (("a", "b"), ((1, -1), (0, 1)), "none negative"),
        (("a", "b"), ((0.5, 0.5), (0, 1)), "whole counts"),
        (("a", "b"), ((1, 0), (0, 0)), "none whose truth is b"),
    ],
)
def test_an_invalid_confusion_matrix_is_refused(groups, counts, message):
    with pytest.raises(ValueError, match=message):
        ConfusionMatrix(groups, counts)


@pytest.mark.parametrize(
    ("counts", "message"),
    [([0, 0], "at least 1 image"), ([1, 2, 3], "one value for each of a, b"), ([-1, 2], "none negative")],
)
def test_counts_that_do_not_match_are_refused(counts, message):
    matrix = matrix_of(np.eye(2), 10)
    for use in (correct, corrected_interval, lambda c, m: corrected_squared(c, (0.5, 0.5), m)):
        with pytest.raises(ValueError, match=message):
            use(counts, matrix)


def test_shares_have_no_interval():
    with pytest.raises(ValueError, match="whole counts"):
        corrected_interval([0.5, 0.5], matrix_of(np.eye(2), 10))


def test_a_single_image_has_no_debiased_discrepancy():
    with pytest.raises(ValueError, match="at least 2 images"):
        corrected_squared([1, 0], (0.5, 0.5), matrix_of(np.eye(2), 10))
