"""Intervals of means and shares of an arm cover the variation of images, not the differences between prompts."""

import numpy as np
import pytest
from scipy import stats

from audit.measure.inference.intervals import mean_interval, share_estimate
from audit.measure.prompts.stratified import stratified_mean, stratified_share


def ends(estimate):
    return estimate.low, estimate.high


def test_the_mean_has_equal_weights_and_its_error_excludes_differences_between_prompts():
    values = np.array([0.1, 0.3, 0.2, 0.9, 0.7, 0.8])
    found = stratified_mean(values, [0, 0, 0, 1, 1, 1])
    shifted = stratified_mean(np.add(values, [5, 5, 5, 0, 0, 0]), [0, 0, 0, 1, 1, 1])
    assert (found.value, found.n) == (pytest.approx(0.5), 6)
    assert shifted.high - shifted.low == pytest.approx(found.high - found.low)
    error = np.sqrt(2 * 0.01 / 3) / 2
    assert ends(found) == pytest.approx(stats.t.interval(0.95, 4, 0.5, error))
    assert found.high - found.low < mean_interval(values).high - mean_interval(values).low
    uneven = stratified_mean([0.0, 0.0, 0.1, 0.1, 0.9, 1.1], [7, 7, 7, 7, 3, 3])
    assert uneven.value == pytest.approx((0.05 + 1.0) / 2)


def test_the_mean_does_not_depend_on_the_order_of_rows_or_the_codes_of_prompts():
    rng = np.random.default_rng(0)
    values, prompts = rng.exponential(size=40), np.repeat(np.arange(5), 8)
    order = rng.permutation(40)
    assert ends(stratified_mean(values, prompts)) == pytest.approx(
        ends(stratified_mean(values[order], 9 - prompts[order]))
    )


def test_equal_values_give_an_interval_of_length_0():
    assert ends(stratified_mean([0.7] * 6, [0, 0, 0, 1, 1, 1])) == pytest.approx((0.7, 0.7))


def skewed(rng, prompts, images):
    """CLIP cosines: skewed within prompts, and different between prompts."""
    centres = np.linspace(0.5, 0.9, prompts)
    return centres[:, None] - rng.exponential(0.05, (prompts, images)), centres.mean() - 0.05


@pytest.mark.parametrize(("prompts", "images"), [(2, 8), (4, 8), (30, 2), (30, 8), (20, 1)])
@pytest.mark.parametrize("confidence", [0.95, 0.9975])
def test_the_interval_of_a_mean_has_its_nominal_coverage(prompts, images, confidence):
    runs, missed, rng = 2_000, 0, np.random.default_rng(prompts)
    names = np.repeat(np.arange(prompts), images)
    for _ in range(runs):
        values, truth = skewed(rng, prompts, images)
        found = stratified_mean(values.ravel(), names, confidence)
        missed += not found.low <= truth <= found.high
    assert missed <= stats.binom.ppf(0.999, runs, 1 - confidence)


def test_a_share_of_one_prompt_or_equal_prompts_is_that_of_a_simple_random_sample():
    assert stratified_share([30], [40]) == share_estimate(30, 40)
    assert stratified_share([0, 0], [8, 8]) == share_estimate(0, 16)
    assert stratified_share([8, 8, 0], [8, 8, 0]) == share_estimate(16, 16)
    alike = stratified_share([20, 20], [40, 40])
    assert ends(alike) == pytest.approx(ends(share_estimate(40, 80)), abs=0.001)


def test_the_interval_of_a_share_is_shorter_if_prompts_differ_more():
    apart, plain = stratified_share([2, 38], [40, 40]), share_estimate(40, 80)
    assert apart.value == plain.value == 0.5
    assert apart.high - apart.low < 0.6 * (plain.high - plain.low)
    assert apart.low < 0.48  # a prompt with 2 of 40 can have 3


SHARES = {
    "fair": [0.5] * 4,
    "two kinds": [0.02, 0.98],
    "certain and rare": [0.05, 1.0],
    "rare": [0.02] * 30,
    "all kinds": np.linspace(0.01, 0.99, 30),
}


@pytest.mark.parametrize("shares", SHARES.values(), ids=SHARES)
@pytest.mark.parametrize("confidence", [0.95, 0.9975])
def test_the_interval_of_a_share_has_its_nominal_coverage(shares, confidence):
    runs, missed, rng = 2_000, np.zeros(2), np.random.default_rng(1)
    for counts in rng.binomial(10, shares, (runs, len(shares))):
        found = stratified_share(np.sort(counts), [10] * len(shares), confidence)
        missed += [np.mean(shares) < found.low - 1e-12, np.mean(shares) > found.high + 1e-12]
    assert (missed <= stats.binom.ppf(0.999, runs, (1 - confidence) / 2)).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: stratified_mean([0.5], [0]), "at least 2 images"),
        (lambda: stratified_mean([0.5, 0.1], [0]), "a prompt for each"),
        (lambda: stratified_mean([0.5, np.nan], [0, 0]), "must be finite"),
        (lambda: stratified_share([0], [0]), "at least 1 image"),
        (lambda: stratified_share([3], [2]), "none above its images"),
        (lambda: stratified_share([1, 1], [2]), "as many counts as prompts"),
    ],
)
def test_what_cannot_be_measured_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
