"""Corrected shares keep their error rates for gates: in the far tails, with few labels and rare groups."""

import numpy as np
import pytest

from audit.measure.shares.classifier_error import ConfusionMatrix
from audit.measure.shares.corrected import corrected_share_ends, corrected_shares

SAMPLES = 1000
"""Judges and samples whose error rates the limits below allow for; every case has at least as much information."""

ROWS = 10_000
"""Samples of every case, over all its judges."""


def spread_evenly(groups, accuracy):
    apart = (1 - accuracy) / (groups - 1)
    return np.full((groups, groups), apart) + (accuracy - apart) * np.eye(groups)


@pytest.mark.parametrize("missing", [0.0, 0.15])
@pytest.mark.parametrize(
    ("truth", "accuracy", "labels", "n", "judges"),
    [
        ((0.98, 0.02), 0.85, 50, 1000, SAMPLES),
        ((0.5, 0.5), 0.95, 20, 100, SAMPLES),
        ((0.8, 0.1, 0.1), 0.85, 50, 100, SAMPLES // 2),
    ],
)
def test_ends_keep_their_error_rates(truth, accuracy, labels, n, judges, missing):
    """The first cell is where the delta method failed: above its upper end 5.6 times as often as said at 99.75 %.

    Each judge has several samples, which cost nothing beside its own. Where most of the error is that of the judge, as
    in the first cell, there are ``SAMPLES`` judges; where most is that of a sample, half as many say more than that.
    """
    rng, groups = np.random.default_rng(0), len(truth)
    rates, shares = spread_evenly(groups, accuracy), np.array(truth)
    q = np.append((shares - missing * np.eye(groups)[0]) @ rates, missing)  # the missing images are of the first group
    confidences, passed, used = (0.95, 0.9975), np.zeros((2, 2)), 0
    drawn, times = np.unique(rng.multinomial(labels, rates, size=(judges, groups)), axis=0, return_counts=True)
    for counts, judged in zip(drawn, times, strict=True):  # with two groups many judges are equal
        matrix = ConfusionMatrix.of("abc"[:groups], counts)
        if not matrix.correctable:
            continue
        rows = rng.multinomial(n, q, size=judged * ROWS // judges).astype(float)
        used += len(rows)
        for place, confidence in enumerate(confidences):
            low, high = corrected_share_ends(0, rows[:, :-1], rows[:, -1], matrix, confidence)
            passed[place] += (low > shares[0] - missing).sum(), (high < shares[0]).sum()
    assert used > 0.9 * ROWS
    for confidence, rates_passed in zip(confidences, passed / used, strict=True):
        tail = (1 - confidence) / 2
        assert (rates_passed <= tail + 3 * np.sqrt(tail / SAMPLES)).all()


def test_unclassified_images_widen_an_interval_on_both_sides_and_more_with_more_of_them():
    matrix, counts = ConfusionMatrix.of("ab", [[90, 10], [5, 95]]), np.array([[60, 40]] * 3)
    found = corrected_shares(counts, matrix, 0.95, np.array([0, 10, 100]))
    assert (np.diff(found.low[:, 0]) < 0).all()
    assert (np.diff(found.high[:, 0]) > 0).all()
    whole = corrected_shares(counts[:1], matrix)
    assert (whole.low[0], whole.high[0]) == (pytest.approx(found.low[0]), pytest.approx(found.high[0]))


def test_with_an_exact_matrix_only_the_error_of_the_sample_remains():
    counts, few, many = np.array([[60, 40]]), [[18, 2], [1, 19]], [[18 * 10**7, 2 * 10**7], [10**7, 19 * 10**7]]
    exact = corrected_shares(counts, ConfusionMatrix.of("ab", few).exact)
    known = corrected_shares(counts, ConfusionMatrix.of("ab", many))
    assert exact.high == pytest.approx(known.high, abs=1e-4)
    assert exact.high[0, 0] < corrected_shares(counts, ConfusionMatrix.of("ab", few)).high[0, 0]
