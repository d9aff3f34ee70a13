"""Means over prompts have equal weights, and intervals for the variation of images and of prompts."""

import itertools

import numpy as np
import pytest
from scipy import stats

from audit.measure.discrepancy.samples import Samples
from audit.measure.inference.intervals import mean_interval
from audit.measure.inference.span import SHARE, Span
from audit.measure.prompts.over_prompts import (
    change_like_these,
    change_of_prompts_like_these,
    change_of_these_prompts,
    like_these,
    mean_of_prompts_like_these,
    mean_of_these_prompts,
)
from audit.records.estimates import Change, Estimate
from audit.results.groups import PromptSquares

EVEN = (0.5, 0.5)


def change(value, low, high, error=0.1):
    return Change(value, low, high, 20, error, 0.5)


def squares(counts):
    """Two groups, an even target; rows of counts are prompts."""
    return PromptSquares(Samples.of_counts(counts), np.broadcast_to(EVEN, np.shape(counts)))


def test_the_intervals_of_the_prompts_are_combined_by_square_and_add():
    found = mean_of_these_prompts([0.3, 0.5], [(0.2, 0.6), (0.4, 0.9)])
    assert (found.value, found.n) == (pytest.approx(0.4), 2)
    assert (found.low, found.high) == (pytest.approx(0.4 - np.hypot(0.1, 0.1) / 2), pytest.approx(0.4 + 0.25))
    beyond = mean_of_these_prompts([-0.1, 0.5], [(0.0, 0.2), (0.4, 0.5)])  # an estimate below the possible range
    assert (beyond.low, beyond.high) == (pytest.approx(0.2 - 0.05), pytest.approx(0.2 + 0.15))


def test_known_errors_widen_it_to_students_interval_with_satterthwaites_degrees_of_freedom():
    ends = [(0.3, 0.3), (0.5, 0.5)]
    found = mean_of_these_prompts([0.3, 0.5], ends, 0.9, [0.3, 0.4], [4, 9])
    freedom = 0.25**2 / (0.09**2 / 4 + 0.16**2 / 9)
    assert (found.low, found.high) == pytest.approx(stats.t.interval(0.9, freedom, 0.4, 0.25))
    known = mean_of_these_prompts([0.3, 0.5], ends, 0.9, [0.3, 0.4])
    assert (known.low, known.high) == pytest.approx(stats.norm.interval(0.9, 0.4, 0.25))
    certain = mean_of_these_prompts([0.3, 0.5], ends, 0.9, [0, 0], [4, 9])
    assert (certain.low, certain.high) == pytest.approx((0.4, 0.4))


def misses(n, shares, confidence):
    """Return the probabilities over all outcomes that the interval is below and above the truth."""
    counts = [np.arange(n + 1)] * len(shares)
    truth = np.mean([2 * (p - 0.5) ** 2 for p in shares])
    low = high = 0.0
    for outcome in itertools.product(*counts):
        chance = np.prod([stats.binom.pmf(k, n, p) for k, p in zip(outcome, shares, strict=True)])
        if chance > 1e-9:
            found = squares([(k, n - k) for k in outcome]).of_these_prompts(confidence)
            low, high = low + chance * (found.high < truth - 1e-12), high + chance * (found.low > truth + 1e-12)
    return high, low


@pytest.mark.parametrize("confidence", [0.95, 0.9975])
@pytest.mark.parametrize(("n", "shares"), [(13, (0.9, 0.9)), (37, (0.9, 0.9)), (37, (0.7, 0.7)), (13, (0.5, 0.9))])
def test_two_prompts_are_covered_in_both_tails_even_at_the_confidence_of_gates(n, shares, confidence):
    # With a normal quantile of the estimated errors .100 and .081 missed at 95 %, and above at .9975 eleven times as
    # often as it may.
    assert max(misses(n, shares, confidence)) <= 1.2 * (1 - confidence) / 2


def test_prompts_like_these_are_a_sample_with_equal_weights():
    values = np.random.default_rng(7).normal(0.3, 0.1, 9)
    assert mean_of_prompts_like_these(values, 0.9) == mean_interval(values, 0.9)
    assert mean_of_prompts_like_these(values, 0.9).n == 9


def test_prompts_that_agree_by_chance_keep_the_variation_of_their_images():
    values, these = np.full(9, 0.3), Estimate(0.3, 0.2, 0.5, 9)
    assert mean_of_prompts_like_these(values, 0.9, these) == these
    assert mean_of_prompts_like_these(values, 0.9).high == 0.3


def test_a_change_of_these_prompts_has_the_p_value_of_its_interval():
    changes = [change(-0.3, -0.5, -0.1), change(-0.1, -0.2, 0.3), change(-0.2, -0.5, 0.1, error=0.2)]
    for confidence in (0.8, 0.9, 0.95, 0.99):
        found = change_of_these_prompts(changes, confidence)
        assert (found.value, found.n) == (pytest.approx(-0.2), 3)
        assert found.high == pytest.approx(-0.2 + np.sqrt(0.04 + 0.16 + 0.09) / 3)
        assert (found.p_value < 1 - confidence) == (found.high < 0)
        assert found.standard_error == pytest.approx(np.sqrt(0.01 + 0.01 + 0.04) / 3)


def test_a_change_for_prompts_like_these_must_exceed_the_variation_of_prompts_and_of_images():
    rng = np.random.default_rng(8)
    values = rng.normal(-0.05, 0.2, 11)
    sure = [change(value, value - 0.01, value + 0.01, error=0.001) for value in values]
    vague = [change(value, value - 2, value + 2, error=1) for value in values]
    found, theirs = change_of_prompts_like_these(sure, 0.9), mean_interval(values, 0.9)
    assert (found.low, found.high) == (theirs.low, theirs.high)
    assert found.standard_error == pytest.approx(stats.sem(values))
    assert change_of_prompts_like_these(vague, 0.9) == change_of_these_prompts(vague, 0.9)


@pytest.mark.parametrize(("value", "p_value"), [(0.0, 1.0), (0.125, 0.0)])
def test_changes_with_error_0_cause_no_division_by_zero(value, p_value):
    found = change_of_these_prompts([change(value, value, value, error=0)] * 4)
    assert (found.low, found.high, found.p_value) == (value, value, p_value)


def test_figures_are_for_these_prompts_and_few_prompts_are_not_a_sample():
    # Regression: seven occupations had .627 [.603, .651] and eight .595 [.378, .707], so one more changed a verdict.
    seven = [change(value, value - 0.1, value + 0.1) for value in (0.1, 0.4, 0.2, 0.3, 0.1, 0.5, 0.2)]
    eight, span = [*seven, seven[0]], Span(-1, 1)
    for changes in (seven, eight):
        found, these = change_like_these(changes, span), change_of_these_prompts(changes)
        assert (found.low, found.high, found.p_value) == (these.low, these.high, these.p_value)
    assert change_like_these(seven, span).like_these is None
    others, found = change_of_prompts_like_these(eight), change_like_these(eight, span)
    assert (found.like_these.low, found.like_these.high) == (others.low, others.high)
    assert found.like_these.high - found.like_these.low > found.high - found.low


def test_an_interval_is_clipped_to_the_possible_range():
    values = [0.9, 0.95, 1.0, 0.98, 0.97, 0.99, 1.0, 1.0]
    found = like_these(Estimate(0.97, 0.9, 1.0, 8), values, SHARE)
    assert (found.value, found.low, found.high) == (0.97, 0.9, 1.0)
    assert 0 <= found.like_these.low <= 0.9 < found.like_these.high == 1
    below = Span(0.0, 0.5).held(Estimate(-0.01, -0.3, 0.7, 4))
    assert (below.low, below.high) == (-0.01, 0.5)  # an unbiased estimate, below 0 by chance


def test_invalid_values_of_prompts_are_refused():
    for function in (mean_of_prompts_like_these, lambda values: mean_of_these_prompts(values, [(0, 1)] * len(values))):
        with pytest.raises(ValueError, match="at least 2 values"):
            function([0.2])
        with pytest.raises(ValueError, match="finite"):
            function([0.2, float("nan")])
    with pytest.raises(ValueError, match="one interval for each of 2 prompts"):
        mean_of_these_prompts([0.2, 0.1], [(0, 1)])
    with pytest.raises(ValueError, match="one standard error for each of 2 prompts"):
        mean_of_these_prompts([0.2, 0.1], [(0, 1)] * 2, errors=[0.1])
    with pytest.raises(ValueError, match="degrees of freedom"):
        mean_of_these_prompts([0.2, 0.1], [(0, 1)] * 2, errors=[0.1] * 2, freedom=[3])
