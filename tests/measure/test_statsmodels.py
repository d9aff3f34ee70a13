"""Figures that statsmodels has too are equal to those of this independent library."""

import itertools

import numpy as np
import pytest
from statsmodels.stats import contingency_tables, inter_rater, multitest, proportion
from statsmodels.stats.weightstats import DescrStatsW

from audit.measure.attributes.within_prompts import dependence_within
from audit.measure.inference.intervals import mean_interval, wilson
from audit.measure.inference.multiplicity import benjamini_hochberg, holm_steps
from audit.measure.shares.agreement import cohen_kappa, large_sample_kappa
from audit.measure.shares.changes import mcnemar_p_value, two_sample_share_difference

COUNTS = [(0, 8), (3, 8), (8, 8), (17, 50), (123, 400)]


@pytest.mark.parametrize(("k", "n"), COUNTS)
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_wilsons_interval(k, n, confidence):
    found = wilson(k, n, confidence)
    low, high = proportion.proportion_confint(k, n, 1 - confidence, "wilson")
    assert (found.low, found.high) == (pytest.approx(low, abs=1e-12), pytest.approx(high))


@pytest.mark.parametrize(("first", "second"), list(itertools.combinations(COUNTS, 2)))
def test_newcombes_interval_of_a_difference(first, second):
    found = two_sample_share_difference(*second, *first)
    low, high = proportion.confint_proportions_2indep(*first, *second, method="newcomb")
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


@pytest.mark.parametrize(
    ("both", "joined", "left", "neither"), [(5, 3, 1, 4), (20, 0, 7, 3), (2, 9, 9, 2), (4, 0, 0, 4)]
)
def test_mcnemars_test(both, joined, left, neither):
    before = np.repeat([True, False, True, False], [both, joined, left, neither])
    after = np.repeat([True, True, False, False], [both, joined, left, neither])
    table = [[both, left], [joined, neither]]
    assert mcnemar_p_value(before, after) == pytest.approx(contingency_tables.mcnemar(table, exact=True).pvalue)


@pytest.mark.parametrize("table", [[[44, 5, 1], [7, 20, 3], [9, 5, 6]], [[12, 3], [4, 9]], [[0, 8], [9, 1]]])
def test_kappa_and_its_large_sample_error(table):
    theirs = inter_rater.cohens_kappa(np.array(table))
    assert large_sample_kappa(table) == (pytest.approx(theirs.kappa), pytest.approx(theirs.std_kappa))
    ours = cohen_kappa(table)
    assert ours.low <= max(-1, theirs.kappa_low) < theirs.kappa_upp <= ours.high


def test_the_test_over_prompts_equals_that_of_cochran_mantel_and_haenszel():
    tables = np.random.default_rng(3).integers(1, 12, (6, 2, 2))
    theirs = contingency_tables.StratifiedTable(np.moveaxis(tables, 0, -1)).test_null_odds(correction=False)
    found = dependence_within(tables)
    assert (found.statistic, found.p_value) == (pytest.approx(theirs.statistic), pytest.approx(theirs.pvalue))


def test_adjustments_for_multiple_tests():
    for seed in range(20):
        p_values = np.random.default_rng(seed).beta(0.3, 1, size=12)
        assert benjamini_hochberg(p_values) == pytest.approx(multitest.multipletests(p_values, method="fdr_bh")[1])
        steps = holm_steps([lambda level, p=p: p <= level for p in p_values.tolist()])
        theirs = multitest.multipletests(p_values, 0.05, "holm")[0]
        assert [step.rejected for step in steps] == theirs.tolist()


def test_the_interval_of_a_symmetric_mean_is_students():
    values = np.concatenate([np.arange(1, 9), -np.arange(1, 9)]) + 3.0  # symmetric about the mean
    found, theirs = mean_interval(values), DescrStatsW(values)
    assert (found.low, found.high) == pytest.approx(theirs.tconfint_mean())
