"""Holm is the closed test of Bonferroni, steps down as defined, and keeps its promise for both sides of a limit."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from audit.measure.multiplicity import INSIDE, OUTSIDE, UNDECIDED, findings, holm, holm_steps, sides

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=5)


def closed_bonferroni(p_values):
    """The closure principle by brute force: the largest Bonferroni p-value over every set that holds the hypothesis."""
    numbers = range(len(p_values))
    subsets = [s for size in range(1, len(p_values) + 1) for s in itertools.combinations(numbers, size)]
    return [max(min(1, len(s) * min(p_values[j] for j in s)) for s in subsets if i in s) for i in numbers]


@given(P_VALUES)
def test_holm_is_bonferroni_closed_over_every_set_of_hypotheses(p_values):
    assert holm(p_values) == pytest.approx(closed_bonferroni(p_values))


def test_holm_gives_the_textbook_numbers_in_the_order_of_its_input():
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])


@given(P_VALUES, st.sampled_from([0.01, 0.05, 0.2]))
def test_stepping_through_tests_rejects_what_adjusted_p_values_do(p_values, level):
    steps = holm_steps([lambda at, p=p: p <= at for p in p_values], level)
    near = np.isclose(holm(p_values), level)  # rounding may fall to either side there
    assert all(step.rejected == (p <= level) or n for step, p, n in zip(steps, holm(p_values), near, strict=True))


def test_each_hypothesis_carries_the_level_that_decided_it():
    steps = holm_steps([lambda at, p=p: p <= at for p in (0.001, 0.02, 0.5)], 0.05)
    assert [step.rejected for step in steps] == [True, True, False]
    assert [step.level for step in steps] == pytest.approx([0.05 / 3, 0.05 / 2, 0.05])


def test_a_single_gate_is_decided_by_its_95_percent_interval():
    assert sides([0.0249], [0.9751]).tolist() == [INSIDE]
    assert sides([0.0251], [0.9749]).tolist() == [UNDECIDED]
    assert sides([0.98], [0.02]).tolist() == [OUTSIDE]


def test_a_decided_gate_helps_only_others_of_its_own_side():
    small, rather_small = 0.001, 0.02
    assert sides([small, rather_small], [1, 1]).tolist() == [INSIDE, INSIDE]
    assert sides([small, 1], [1, rather_small]).tolist() == [INSIDE, UNDECIDED]


@pytest.mark.parametrize("correlation", [-0.9, 0.0, 0.9])
def test_any_wrong_side_is_rarer_than_promised_even_for_gates_that_depend_on_each_other(correlation):
    rng = np.random.default_rng(5)
    covariance = [[1, correlation], [correlation, 1]]
    wrong = 0
    for z in rng.multivariate_normal([0.0, 0.2], covariance, size=3000):  # limits at 0: both outside, one only just
        found = sides(stats.norm.cdf(z), stats.norm.sf(z))
        wrong += (found[0] == INSIDE) or (found[1] == INSIDE) or (found[0] == OUTSIDE)  # on the limit neither is right
    assert wrong / 3000 <= 0.05 + 0.012


def test_findings_are_those_of_benjamini_and_hochberg_clearest_first():
    p_values = {"doctor": 0.02, "nurse": 0.001, "chef": 0.03, "judge": 0.9}
    m, rejected = 4, max(i for i, p in enumerate(sorted(p_values.values()), 1) if p <= i / 4 * 0.05)
    found = findings(p_values)
    assert (list(found), len(found)) == (["nurse", "doctor", "chef"], rejected)
    assert found["nurse"] == pytest.approx(m * 0.001)


def test_nothing_is_found_among_large_p_values():
    assert findings({"doctor": 0.2, "nurse": 0.04}) == {}


@pytest.mark.parametrize("p_values", [[], [[0.1]], [1.2], [-0.1], [float("nan")]])
def test_what_is_no_p_value_is_refused(p_values):
    with pytest.raises(ValueError, match="p-value"):
        holm(p_values)


@pytest.mark.parametrize(
    "call",
    [
        lambda: holm_steps([]),
        lambda: holm_steps([lambda _: True], 0),
        lambda: sides([0.1], [0.1, 0.2]),
        lambda: sides([0.1], [0.1], 1.5),
        lambda: findings({}),
    ],
)
def test_nothing_to_test_is_refused(call):
    with pytest.raises(ValueError, match="expected"):
        call()
