"""Holm equals the closed test of Bonferroni and steps down as defined; findings are those of Benjamini and Hochberg."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.measure.inference.multiplicity import findings, holm_steps

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=5)


def closed_bonferroni(p_values):
    """The closure principle by brute force: the largest Bonferroni p-value over all sets with the hypothesis."""
    numbers = range(len(p_values))
    subsets = [s for size in range(1, len(p_values) + 1) for s in itertools.combinations(numbers, size)]
    return [max(min(1, len(s) * min(p_values[j] for j in s)) for s in subsets if i in s) for i in numbers]


def rejecting(p_values):
    return [lambda at, p=p: p <= at for p in p_values]


@given(P_VALUES, st.sampled_from([0.01, 0.05, 0.2]))
def test_stepping_down_is_bonferroni_closed_over_every_set_of_hypotheses(p_values, level):
    steps, adjusted = holm_steps(rejecting(p_values), level), closed_bonferroni(p_values)
    near = np.isclose(adjusted, level)  # rounding can decide both ways there
    assert all(step.rejected == (p <= level) or n for step, p, n in zip(steps, adjusted, near, strict=True))


def test_holm_gives_the_decisions_of_a_textbook_in_the_order_of_its_input():
    p_values = [0.04, 0.01, 0.03]  # adjusted 0.06, 0.03, 0.06
    assert [step.rejected for step in holm_steps(rejecting(p_values), 0.059)] == [False, True, False]
    assert [step.rejected for step in holm_steps(rejecting(p_values), 0.061)] == [True, True, True]


def test_each_of_a_thousand_tests_is_called_only_a_few_times():
    asked = []

    def rejects(at, p):
        asked.append(at)
        return p <= at

    m = 1000
    ladder = 0.05 / np.arange(m, 0, -1)  # each test is rejected only after all previous ones
    steps = holm_steps([lambda at, p=p: rejects(at, p) for p in ladder], 0.05)
    assert all(step.rejected for step in steps)
    assert [step.level for step in steps] == pytest.approx(ladder)
    assert len(asked) <= 12 * m


def test_each_hypothesis_has_the_level_of_its_decision():
    steps = holm_steps(rejecting((0.001, 0.02, 0.5)), 0.05)
    assert [step.rejected for step in steps] == [True, True, False]
    assert [step.level for step in steps] == pytest.approx([0.05 / 3, 0.05 / 2, 0.05])


def test_findings_are_those_of_benjamini_and_hochberg_smallest_first():
    p_values = {"doctor": 0.02, "nurse": 0.001, "chef": 0.03, "judge": 0.9}
    m, rejected = 4, max(i for i, p in enumerate(sorted(p_values.values()), 1) if p <= i / 4 * 0.05)
    found = findings(p_values)
    assert (list(found), len(found)) == (["nurse", "doctor", "chef"], rejected)
    assert found["nurse"] == pytest.approx(m * 0.001)


def test_nothing_is_found_among_large_p_values():
    assert findings({"doctor": 0.2, "nurse": 0.04}) == {}


@pytest.mark.parametrize("p_values", [[], [[0.1]], [1.2], [-0.1], [float("nan")]])
def test_an_invalid_p_value_is_refused(p_values):
    with pytest.raises(ValueError, match="p-value"):
        findings(dict(enumerate(p_values)))


@pytest.mark.parametrize(
    "call",
    [
        lambda: holm_steps([]),
        lambda: holm_steps([lambda _: True], 0),
        lambda: findings({"doctor": 0.1}, 1.5),
        lambda: findings({}),
    ],
)
def test_no_tests_are_refused(call):
    with pytest.raises(ValueError, match="expected"):
        call()
