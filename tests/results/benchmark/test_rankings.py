"""The best is named only where intervals separate; agreement of rankings is Kendall's τ-b."""

import pytest

from audit.results.benchmark.rankings import agreement_of, best_of
from audit.results.benchmark.steered import Figure

LOW, HIGH = Figure(0.1, 0.05, 0.15), Figure(0.4, 0.3, 0.5)


@pytest.mark.parametrize(
    ("figures", "better", "best"),
    [
        ([HIGH, LOW], "low", 1),
        ([HIGH, LOW], "high", 0),
        ([HIGH, None, LOW], "low", 2),
        ([HIGH, Figure(0.1, 0.05, 0.3)], "low", None),  # the intervals touch
        ([HIGH, Figure(0.2, 0.14, 0.29), LOW], "low", None),  # separate from one, but not from the next
        ([HIGH, LOW, Figure(0.9, 0.0, 1.0)], "low", None),  # the interval of a worse one reaches it
        ([HIGH, Figure(0.1)], "low", None),
        ([Figure(0.9), LOW], "low", None),
        ([LOW, LOW], "low", None),
        ([LOW], "low", None),
        ([None, None], "high", None),
        ([Figure(-0.4, -0.5, -0.3), Figure(0.0, -0.1, 0.1)], "low", 0),
    ],
)
def test_the_best_is_separate_from_all_others(figures, better, best):
    assert best_of(figures, better) == best


def test_equal_orders_agree_and_opposite_ones_disagree():
    same = agreement_of("m", "gender", "x", [(0.1, 0.2), (0.2, 0.3), (0.3, 0.9), (0.4, 1.0)])
    opposite = agreement_of("m", "gender", "x", [(0.1, 0.9), (0.2, 0.3), (0.3, 0.2), (0.4, 0.1)])
    assert (same.tau, opposite.tau, same.n) == (pytest.approx(1), pytest.approx(-1), 4)
    assert same.p_value == pytest.approx(2 / 24)  # 2 of 4! orders are as extreme


def test_ties_count_as_in_tau_b():
    found = agreement_of("m", "gender", "x", [(0.0, 0.1), (0.0, 0.2), (0.3, 0.3)])
    assert found.tau == pytest.approx(2 / (2 * 3) ** 0.5)


def test_no_order_has_no_tau_and_two_methods_have_no_ranking():
    assert agreement_of("m", "gender", "x", [(0.0, 0.1), (0.0, 0.2), (0.0, 0.3)]).tau is None
    assert agreement_of("m", "gender", "x", [(0.1, 0.1), (0.2, 0.2)]) is None
