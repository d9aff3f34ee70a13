"""The difference of rates is that of groups, and its test has the level that it says at the margin."""

import numpy as np
import pytest
from statsmodels.stats.contingency_tables import StratifiedTable

from audit.measure.open_set.rate_difference import rate_difference

NONE = np.zeros(0, int)


def test_another_composition_alone_is_no_difference():
    random = np.random.default_rng(0)
    own, others = (random.random(4000) < share for share in (0.9, 0.2))  # strata: mostly 1, mostly 0
    states = [random.random(4000) < np.where(strata, 0.7, 0.1) for strata in (own, others)]
    found = rate_difference(states[0], own.astype(int), states[1], others.astype(int), 0.05)
    assert states[0].mean() - states[1].mean() > 0.3
    assert found.low < 0 < found.high
    assert found.p > 0.5


def test_strata_are_weighted_as_mantel_and_haenszel_do():
    random = np.random.default_rng(1)
    strata = [random.integers(3, size=n) for n in (50, 400)]
    states = [random.random(n) < p for n, p in ((50, 0.5), (400, 0.3))]
    tables = [
        np.array([[states[k][strata[k] == s].sum(), (~states[k][strata[k] == s]).sum()] for k in (0, 1)])
        for s in range(3)
    ]
    weights = [one.sum(1).prod() / one.sum() for one in tables]
    differences = [one[0, 0] / one[0].sum() - one[1, 0] / one[1].sum() for one in tables]
    found = rate_difference(states[0], strata[0], states[1], strata[1], 0.0)
    assert found.value == pytest.approx(np.average(differences, weights=weights))
    assert found.compared == 450
    test = StratifiedTable([one.astype(float) for one in tables]).test_null_odds(correction=False)
    assert found.p == pytest.approx(test.pvalue, abs=0.03)


def test_at_the_margin_the_test_rejects_at_most_at_its_level():
    random = np.random.default_rng(2)
    strata = np.zeros(40, int), np.zeros(600, int)
    p = [
        rate_difference(random.random(40) < 0.3, strata[0], random.random(600) < 0.2, strata[1], 0.1).p
        for _ in range(2000)
    ]
    assert np.mean(np.array(p) <= 0.05) < 0.05


def test_a_stratum_that_one_sample_lacks_is_left_out():
    own = np.array([True, False, True]), np.array([0, 0, 2])
    others = np.array([True, True, False, False]), np.array([0, 0, 1, 1])
    assert rate_difference(*own, *others, 0.0).value == -0.5
    with pytest.raises(ValueError, match="stratum in common"):
        rate_difference(np.array([True]), np.array([0]), np.array([True]), np.array([1]), 0.0)
