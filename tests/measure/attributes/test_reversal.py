"""A combination against the reverse one: values computed by hand, and no false findings without a difference."""

import numpy as np
import pytest

from audit.measure.attributes.reversal import reversal_test

TABLE = [[5, 2], [12, 1]]
"""Female, male: 12 pictures of a male first and a female second person, 2 of the reverse."""


def test_the_sign_test_is_that_of_a_fair_coin():
    found = reversal_test(TABLE, 1, 0)
    assert (found.forward, found.reverse, found.difference.n) == (12, 2, 20)
    assert found.difference.value == pytest.approx(0.5)
    tail = sum((1, 14, 91))  # at most 2 of 14: binomial coefficients
    assert found.p_value == pytest.approx(2 * tail / 2**14)
    assert found.difference.low > 0


def test_the_reverse_question_has_the_opposite_answer():
    one, other = reversal_test(TABLE, 1, 0), reversal_test(TABLE, 0, 1)
    assert one.p_value == other.p_value
    assert one.difference.value == -other.difference.value
    assert one.difference.low == pytest.approx(-other.difference.high)


def test_with_three_groups_only_pictures_of_both_groups_count():
    found = reversal_test([[4, 3, 50], [1, 2, 50], [50, 50, 50]], 0, 1)
    assert (found.forward, found.reverse, found.difference.n) == (3, 1, 10)
    assert found.difference.value == pytest.approx(0.2)


def test_without_such_pictures_there_is_no_test_and_without_discordant_ones_no_evidence():
    assert reversal_test([[0, 0, 1], [0, 0, 0], [0, 0, 3]], 0, 1) is None
    assert reversal_test([[4, 0], [0, 5]], 0, 1).p_value == 1


@pytest.mark.parametrize("table", [[[1, 2, 3], [1, 2, 3]], [1, 2]])
def test_other_tables_are_refused(table):
    with pytest.raises(ValueError, match="square table"):
        reversal_test(table, 0, 1)


def test_the_interval_covers_and_the_test_rejects_rarely_without_a_difference():
    random = np.random.default_rng(0)
    covered = rejected = 0
    for _ in range(600):
        counts = random.multinomial(60, [0.3, 0.25, 0.25, 0.2]).reshape(2, 2)
        found = reversal_test(counts, 0, 1)
        covered += found.difference.low <= 0 <= found.difference.high
        rejected += found.p_value <= 0.05
    assert covered / 600 > 0.93
    assert rejected / 600 <= 0.05
