"""Agreement of two judges: published figures, the delta method by numerical gradient, and undefined cases."""

import numpy as np
import pytest
from scipy import stats

from audit.measure.inference.intervals import share_estimate
from audit.measure.shares.agreement import agreement, answer_table, cohen_kappa, large_sample_kappa

DIAGNOSES = [[75, 1, 4], [5, 4, 1], [0, 0, 10]]  # Fleiss, Statistical Methods for Rates and Proportions, table 18.1


def answers(table):
    """Return two rows of answers that give this table."""
    cells = [(i, j) for i, row in enumerate(table) for j, count in enumerate(row) for _ in range(count)]
    return np.array(cells).T


def kappa_of(p):
    observed, expected = np.trace(p), p.sum(axis=1) @ p.sum(axis=0)
    return (observed - expected) / (1 - expected)


def test_kappa_equals_the_example_of_a_textbook():
    kappa, error = large_sample_kappa(DIAGNOSES)
    assert (kappa, error) == (pytest.approx(0.676, abs=5e-4), pytest.approx(0.088, abs=1e-3))
    assert (cohen_kappa(DIAGNOSES).value, cohen_kappa(DIAGNOSES).n) == (kappa, 100)


@pytest.mark.parametrize(
    "table",
    [DIAGNOSES, [[40, 9], [6, 45]], [[10, 12], [11, 9]], [[20, 1, 2, 0], [3, 9, 1, 2], [0, 2, 8, 1], [1, 0, 4, 30]]],
)
def test_the_standard_error_equals_that_of_the_delta_method(table):
    counts = np.array(table, dtype=float)
    n, p = counts.sum(), counts / counts.sum()
    step, gradient = 1e-6, np.zeros(p.size)
    for cell in range(p.size):
        moved = np.zeros(p.size)
        moved[cell] = step
        moved = moved.reshape(p.shape)
        gradient[cell] = (kappa_of(p + moved) - kappa_of(p - moved)) / (2 * step)
    flat = p.ravel()
    error = np.sqrt(gradient @ (np.diag(flat) - np.outer(flat, flat)) @ gradient / n)
    assert large_sample_kappa(table) == (pytest.approx(kappa_of(p)), pytest.approx(error, rel=1e-5))


def test_the_interval_includes_those_of_the_table_and_of_one_with_pseudo_images():
    found, t = cohen_kappa(DIAGNOSES, confidence=0.9), stats.t(99).ppf(0.95)
    parts = [large_sample_kappa(table) for table in (DIAGNOSES, np.array(DIAGNOSES) + 1 / 3)]
    assert found.low == pytest.approx(min(kappa - t * error for kappa, error in parts))
    assert found.high == pytest.approx(max(kappa + t * error for kappa, error in parts))


def test_kappa_is_covered_if_a_group_has_few_images():
    shares, sees = np.array([0.08, 0.92]), np.array([[0.85, 0.15], [0.15, 0.85]])
    truth = np.einsum("g,gi,gj->ij", shares, sees, sees)
    tables = np.random.default_rng(4).multinomial(20, truth.ravel(), size=1000).reshape(-1, 2, 2)
    found = [cohen_kappa(table) for table in tables if table[0].sum() + table[:, 0].sum()]
    assert np.mean([kappa.low <= kappa_of(truth) <= kappa.high for kappa in found]) >= 0.92
    plain = [large_sample_kappa(table) for table in tables if table[0].sum() + table[:, 0].sum()]
    assert np.mean([abs(kappa - kappa_of(truth)) <= 1.96 * error for kappa, error in plain]) < 0.85


def test_the_share_agreed_has_the_interval_of_a_share():
    found = agreement(*answers(DIAGNOSES))
    assert found.share == share_estimate(89, 100)
    assert found.kappa == cohen_kappa(DIAGNOSES)


def test_judges_that_answer_at_random_have_a_kappa_near_0():
    rng = np.random.default_rng(0)
    found = agreement(rng.integers(0, 3, 3000), rng.integers(0, 3, 3000))
    assert abs(found.kappa.value) < 0.04
    assert found.kappa.low < 0 < found.kappa.high


def test_judges_that_never_agree_have_the_smallest_kappa():
    assert cohen_kappa([[0, 10], [10, 0]]).value == -1


def test_full_agreement_on_few_images_is_not_certain():
    few, many = agreement([0, 1] * 5, [0, 1] * 5).kappa, agreement([0, 1] * 500, [0, 1] * 500).kappa
    assert (few.value, few.high, many.value) == (1, 1, 1)
    assert few.low == pytest.approx(2 * share_estimate(10, 10).low - 1)
    assert few.low < 0.6 < 0.99 < many.low < 1


def test_kappa_is_undefined_if_both_judges_always_give_the_same_single_answer():
    alike = agreement([1] * 20, [1] * 20)
    assert alike.kappa is None
    assert alike.share == share_estimate(20, 20)
    with pytest.raises(ValueError, match="undefined"):
        cohen_kappa(answer_table([1] * 20, [1] * 20))


def test_kappa_is_zero_if_one_judge_always_gives_the_same_answer():
    found = agreement([1] * 20, [1] * 15 + [0] * 5)
    assert found.kappa.value == pytest.approx(0)
    assert found.share.value == 0.75


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ([], [], "n ≥ 1"),
        ([0, 1], [0], "same n"),
        ([0.5, 1], [0, 1], "whole numbers"),
        ([-1, 1], [0, 1], "whole numbers"),
    ],
)
def test_answers_that_do_not_pair_up_are_refused(first, second, message):
    with pytest.raises(ValueError, match=message):
        agreement(first, second)


def test_an_empty_table_is_refused():
    with pytest.raises(ValueError, match="at least 1 image"):
        cohen_kappa([[0, 0], [0, 0]])
