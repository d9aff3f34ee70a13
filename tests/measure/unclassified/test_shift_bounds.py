"""A shift of all images is within its bounds for any unclassified images, and chance fails no gate."""

import itertools

import numpy as np
import pytest

from audit.measure.attributes.attribute_shift import pair_tables, shift_interval, shift_values
from audit.measure.unclassified.shift_bounds import _farthest, _smallest, shift_interval_of_all_images


def given(unknown, groups):
    return [np.array(extra) for extra in itertools.product(range(unknown + 1), repeat=groups) if sum(extra) == unknown]


@pytest.mark.parametrize("groups", [2, 3])
def test_best_and_worst_case_equal_the_extremes_over_all_completions(groups):
    rng = np.random.default_rng(groups)
    for table in rng.integers(0, 3, (30, 1, groups + 1, groups + 1)):
        table[0, 0, 0] += 1
        before, after, n = table[0].sum(axis=1), table[0].sum(axis=0), table.sum()
        moved = [
            np.abs(before[:-1] + x - after[:-1] - y).sum() / 2 / n
            for x in given(int(before[-1]), groups)
            for y in given(int(after[-1]), groups)
        ]
        assert max(0.0, _smallest(table)[0]) == pytest.approx(min(moved))
        assert shift_values(_farthest(table))[0] == pytest.approx(max(moved))


def test_without_unclassified_images_it_is_the_interval_of_a_shift():
    tables = np.array([[[20, 10, 0], [5, 15, 0], [0, 0, 0]]] * 3)
    found = shift_interval(tables, 0.04, 0.98)
    assert shift_interval_of_all_images(tables, 0.04, 0.98) == (found.low, found.high)


@pytest.mark.parametrize(
    ("kept", "missing"), [(1.0, ((0.0, 0.0), (0.4, 0.0))), (0.5, ((0.1, 0.1), (0.3, 0.0))), (0.0, ((0, 0.2), (0.1, 0)))]
)
def test_ends_keep_their_error_rates(kept, missing):
    """An edit that redraws an image with probability 1 − kept; images are unclassified depending on their group."""
    rng, prompts, n, samples = np.random.default_rng(3), 3, 60, 2000
    before, after = np.array((0.5, 0.5)), kept * np.array((0.5, 0.5)) + (1 - kept) * np.array((0.8, 0.2))
    old = rng.choice(2, (samples * prompts * n), p=before)
    new = np.where(rng.random(old.size) < kept, old, rng.choice(2, old.size, p=(0.8, 0.2)))
    seen = [np.where(rng.random(old.size) < np.array(m)[c], -1, c) for c, m in zip((old, new), missing, strict=True)]
    numbers = np.repeat(np.arange(samples * prompts), n)
    tables = pair_tables(*seen, numbers, samples * prompts, 2).reshape(samples, prompts, 3, 3)
    ends = np.array([shift_interval_of_all_images(rows, 0.0) for rows in tables])
    shift = np.abs(before - after).sum() / 2
    assert (ends[:, 0] > shift).mean() <= 0.025 + 3 * np.sqrt(0.025 / samples)
    assert (ends[:, 1] < shift).mean() <= 0.025 + 3 * np.sqrt(0.025 / samples)
