"""Pooled intersection over union: closed cases, absent parts, and intervals that are paired."""

import numpy as np
import pytest

from audit.measure.overlap.pooled_iou import iou_estimates, iou_gain, overlaps, pooled_iou, resampling_weights


def masks(*rows):
    return np.array(rows, dtype=bool)[:, None, None, :]  # one part, one row of pixels


def test_half_of_the_union_is_one_half():
    both, either = overlaps(masks([1, 1, 0, 0]), masks([1, 0, 0, 0]))
    assert (both.tolist(), either.tolist()) == ([[1]], [[2]])
    assert pooled_iou(both, either) == pytest.approx([0.5])


def test_a_part_that_is_predicted_where_there_is_none_lowers_the_ratio():
    predicted, true = masks([1, 1, 0, 0], [0, 0, 1, 1]), masks([1, 1, 0, 0], [0, 0, 0, 0])
    assert pooled_iou(*overlaps(predicted, true)) == pytest.approx([0.5])


def test_a_part_that_no_image_has_has_no_figure():
    none = np.zeros((2, 2), np.int64)
    none[:, 0] = 3
    each, mean = iou_estimates(none, none, resampling_weights(2, 10, 0))
    assert each[1] is None
    assert (mean.value, mean.low, mean.high, mean.n) == (1, 1, 1, 2)
    with pytest.raises(ValueError, match="at least one part, found none"):
        iou_estimates(none[:, 1:], none[:, 1:], resampling_weights(2, 10, 0))


def test_a_gain_is_paired_and_covers_a_known_ratio():
    draws = np.random.default_rng(0)
    first = draws.binomial(100, 0.6, (400, 1))
    second = first - 10
    whole = np.full((400, 1), 100)
    weights = resampling_weights(400, 500, 0)
    gain = iou_gain((first, whole), (second, whole), weights)
    assert (gain.value, gain.low, gain.high) == pytest.approx((0.1, 0.1, 0.1))  # equal in every image
    _, mean = iou_estimates(first, whole, weights)
    assert mean.low < 0.6 < mean.high
    # The standard error of a mean of 400 shares of 100 pixels is √(.24 / 40 000).
    assert mean.high - mean.low == pytest.approx(2 * 1.96 * np.sqrt(0.24 / 40_000), rel=0.2)


def test_no_image_cannot_be_resampled():
    with pytest.raises(ValueError, match="at least one image"):
        resampling_weights(0, 10, 0)
