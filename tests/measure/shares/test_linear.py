"""The limits of a weighted sum of shares keep their error rate, and a single share has its exact limits."""

import numpy as np
import pytest
from scipy import stats

from audit.measure.shares.linear import reach


def test_one_label_of_weight_one_has_clopper_and_pearson_s_limits():
    counts = np.array([[0.0, 20.0], [3.0, 17.0], [20.0, 0.0]])
    above, below = (reach(counts, np.array([1.0, 0.0]), 0.01, up=up) for up in (True, False))
    for row, up, down in zip(counts, above, below, strict=True):
        exact = stats.binomtest(int(row[0]), 20).proportion_ci(0.98, method="exact")
        assert (down, up) == pytest.approx((row[0] / 20 - exact.low, exact.high - row[0] / 20))


def test_equal_weights_give_a_distance_of_0():
    assert reach(np.array([[3.0, 4.0, 5.0]]), np.full(3, 0.7), 0.01, up=True) == pytest.approx(0)


@pytest.mark.parametrize("weights", [(1.3, -0.2, -0.1), (0.2, 1.1, -0.3), (1.2, -0.1, 1.0)])
@pytest.mark.parametrize("q", [(0.7, 0.2, 0.1), (0.02, 0.95, 0.03), (1 / 3, 1 / 3, 1 / 3)])
@pytest.mark.parametrize("n", [20, 200])
def test_the_limits_keep_their_error_rate(weights, q, n):
    weights, truth = np.array(weights), float(np.dot(weights, q))
    counts = np.random.default_rng(n).multinomial(n, q, size=20_000).astype(float)
    found = counts @ weights / n
    for tail in (0.025, 0.00125):
        most = tail + 3 * np.sqrt(tail / 20_000)
        assert (truth > found + reach(counts, weights, tail, up=True) + 1e-12).mean() <= most
        assert (truth < found - reach(counts, weights, tail, up=False) - 1e-12).mean() <= most
