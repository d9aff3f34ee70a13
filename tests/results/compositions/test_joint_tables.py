"""Joint tables and their tests: hand-computed values, and few false findings where nothing is planted."""

import numpy as np
import pytest
from scipy.stats import fisher_exact

from audit.results.compositions.joint_tables import PairCodes, alike_of, company_of, joint_cells, reversals_of

GROUPS = ("female", "male")
CELLS = [(0, 0)] * 2 + [(1, 0)] * 14 + [(1, 1)] * 4 + [(-1, 0)] * 3 + [(-1, -1)] * 5
ALONE = (np.array([0] * 4 + [1] * 16 + [-1] * 2), np.array([0] * 10 + [1] * 10))


def codes(pair="a-and-b", cells=CELLS, alone=ALONE, groups=GROUPS):
    return PairCodes(pair, ("a", "b"), "gender", groups, np.array(cells), alone)


def test_a_joint_table_counts_images_in_which_both_have_a_group():
    cells = {(one.first, one.second): one for one in joint_cells(codes())}
    assert {key: one.count for key, one in cells.items()} == {
        ("female", "female"): 2,
        ("female", "male"): 0,
        ("male", "female"): 14,
        ("male", "male"): 4,
    }
    assert cells["male", "female"].share.value == pytest.approx(14 / 20)
    assert cells["male", "female"].share.n == 20
    assert cells["male", "female"].expected == pytest.approx(18 * 16 / 20)


def test_a_marginal_share_counts_each_person_with_a_group_beside_its_share_alone():
    rows = {(one.occupation, one.group): one for one in company_of([codes()], 0.05)}
    second = rows["b", "female"]
    assert (second.share.value, second.share.n) == (pytest.approx(19 / 23), 23)
    assert (second.alone.value, second.alone.n) == (0.5, 20)
    assert second.change.value == pytest.approx(19 / 23 - 0.5)
    plain = [fisher_exact([[4, 16], [2, 18]]).pvalue, fisher_exact([[10, 10], [19, 4]]).pvalue]
    assert second.p == pytest.approx(min(plain[1] * 2, max(plain)))  # Benjamini and Hochberg over two tests
    assert second.found == (second.p <= 0.05)
    assert rows["b", "male"].p == second.p
    assert rows["b", "male"].change.value == pytest.approx(-second.change.value)


def test_the_more_frequent_combination_stands_against_its_reverse():
    [row] = reversals_of([codes()], 0.05)
    assert (row.first, row.second, row.count, row.reverse, row.difference.n) == ("male", "female", 14, 0, 20)
    assert row.p == pytest.approx(2 / 2**14)
    assert row.found


def test_dependence_is_tested_given_both_shares():
    [row] = alike_of([codes()], 0.05)
    assert row.same.value == pytest.approx(6 / 20)
    assert row.expected == pytest.approx((2 * 16 + 18 * 4) / 400)
    assert row.p == 1.0
    one_group = codes(cells=[(0, 0)] * 4 + [(0, 1)] * 4)
    [row] = alike_of([one_group], 0.05)
    assert (row.p, row.cramers_v, row.found) == (None, None, False)


def test_without_any_person_there_are_no_shares():
    none = codes(cells=[(-1, -1)] * 6)
    assert list(joint_cells(none)) == []
    assert reversals_of([none], 0.05) == alike_of([none], 0.05) == ()
    rows = company_of([none], 0.05)
    assert {(one.share, one.change, one.p, one.found) for one in rows} == {(None, None, None, False)}
    assert all(one.alone is not None for one in rows)


def test_three_groups_have_a_test_for_each_pair_of_groups_and_each_group():
    cells = [(0, 1)] * 6 + [(1, 2)] * 5 + [(2, 0)] * 9 + [(1, 1)] * 3
    three = codes(cells=cells, alone=(np.arange(30) % 3, np.arange(30) % 3), groups=("young", "adult", "old"))
    assert len(reversals_of([three], 0.05)) == 3
    assert len(company_of([three], 0.05)) == 6


def drawn(random, first, second, alone, n=96):
    """Independent persons: no dependence."""
    both = np.stack([random.random(n) < first, random.random(n) < second], axis=1).astype(int)
    return both, tuple((random.random(n) < share).astype(int) for share in alone)


def test_without_a_planted_difference_at_most_one_run_in_twenty_has_a_finding():
    """Four pairs of independent persons with equal shares alone and in company; the first two are exchangeable too."""
    random = np.random.default_rng(0)
    counts = np.zeros(3)
    runs = 300
    for _ in range(runs):
        pairs = []
        for number, (first, second) in enumerate([(0.5, 0.5), (0.2, 0.2), (0.9, 0.1), (0.3, 0.7)]):
            both, alone = drawn(random, first, second, (first, second))
            pairs.append(codes(f"pair-{number}", both, alone))
        found = company_of(pairs, 0.05), reversals_of(pairs[:2], 0.05), alike_of(pairs, 0.05)
        counts += [any(one.found for one in rows) for rows in found]
    assert (counts / runs <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / runs)).all(), counts / runs
