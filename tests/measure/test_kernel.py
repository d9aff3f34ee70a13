"""The kernel distance equals clean-fid's over all images and a plain double loop, and its error bar is honest."""

import numpy as np
import pytest
from scipy import stats

from audit.measure import kernel
from audit.measure.kernel import kernel_distance


def features(n, d, seed, shift=0.0):
    return np.random.default_rng(seed).normal(shift, 1, (n, d))


def plain_kernel(a, b):
    return (np.dot(a, b) / len(a) + 1) ** 3


def plain(x, y):
    def within(z):
        return np.mean([plain_kernel(a, b) for i, a in enumerate(z) for j, b in enumerate(z) if i != j])

    return within(x) + within(y) - 2 * np.mean([plain_kernel(a, b) for a in x for b in y])


@pytest.mark.parametrize(("m", "n"), [(3, 3), (7, 11), (25, 23), (41, 60)])
def test_the_value_is_the_double_loop_over_all_pairs(m, n):
    x, y = features(m, 5, seed=1), features(n, 5, seed=2, shift=0.3)
    assert kernel_distance(x, y).value == pytest.approx(plain(x, y), rel=1e-10, abs=1e-12)


def test_the_value_is_clean_fids_when_its_subset_is_everything():
    cleanfid = pytest.importorskip("cleanfid.fid")
    x, y = features(60, 8, seed=3), features(60, 8, seed=4, shift=0.2)
    expected = cleanfid.kernel_distance(x, y, num_subsets=1, max_subset_size=60)
    assert kernel_distance(x, y).value == pytest.approx(expected, rel=1e-9)


def test_the_jackknife_leaves_out_one_block_at_a_time():
    x, y = features(20, 4, seed=5), features(20, 4, seed=6, shift=0.5)
    left_out = [plain(np.delete(x, i, axis=0), np.delete(y, i, axis=0)) for i in range(20)]
    expected = np.sqrt(19 / 20 * ((left_out - np.mean(left_out)) ** 2).sum())
    assert kernel_distance(x, y).standard_error == pytest.approx(expected, rel=1e-9)


def test_it_is_unbiased_at_distance_zero_and_its_error_covers():
    runs = [kernel_distance(features(40, 6, 2 * s), features(40, 6, 2 * s + 1)) for s in range(100, 220)]
    values = np.array([run.value for run in runs])
    assert abs(values.mean()) < 3 * values.std(ddof=1) / np.sqrt(len(values))
    assert np.mean([abs(run.value) < 2 * run.standard_error for run in runs]) > 0.9


def test_pairs_of_the_same_noise_are_left_out_and_an_arm_that_changes_nothing_is_at_zero():
    x, y = features(9, 4, seed=10), features(9, 4, seed=11, shift=0.3)
    both = [(i, j) for i in range(9) for j in range(9) if i != j]
    h = [plain_kernel(x[i], x[j]) + plain_kernel(y[i], y[j]) - 2 * plain_kernel(x[i], y[j]) for i, j in both]
    assert kernel_distance(x, y, paired=True).value == pytest.approx(np.mean(h), rel=1e-10)
    assert kernel_distance(x, x, paired=True)[:2] == (pytest.approx(0, abs=1e-9), pytest.approx(0, abs=1e-9))
    assert kernel_distance(x, x).value < -0.1
    with pytest.raises(ValueError, match="found 9 and 8"):
        kernel_distance(x, y[:8], paired=True)


@pytest.mark.parametrize(("images", "blocks"), [(9, 9), (50, 20)])
def test_the_interval_is_students_with_a_degree_of_freedom_less_than_blocks(images, blocks):
    found = kernel_distance(features(images, 4, seed=1), features(images, 4, seed=2), paired=True)
    assert found.blocks == blocks
    assert found.interval(0.9) == pytest.approx(stats.t.interval(0.9, blocks - 1, found.value, found.standard_error))


def test_pairs_that_are_alike_leave_no_bias():
    runs = []
    for seed in range(100, 220):
        noise = 0.9 * features(40, 6, 3 * seed)
        first, second = (noise + 0.4 * features(40, 6, 3 * seed + place) for place in (1, 2))
        runs.append((kernel_distance(first, second, paired=True).value, kernel_distance(first, second).value))
    values, as_if_unpaired = np.array(runs).T
    error = values.std(ddof=1) / np.sqrt(len(values))
    assert abs(values.mean()) < 3 * error
    assert as_if_unpaired.mean() < -5 * error


def test_blocks_bound_the_memory_and_do_not_change_the_value(monkeypatch):
    x, y = features(90, 4, seed=7), features(70, 4, seed=8, shift=0.4)
    whole = kernel_distance(x, y).value
    monkeypatch.setattr(kernel, "LARGEST_BLOCK", 2)
    largest = []
    sums = kernel._pair_sums

    def watched(left, right):
        largest.append(max(len(block) for block in [*left, *right]))
        return sums(left, right)

    monkeypatch.setattr(kernel, "_pair_sums", watched)
    assert kernel_distance(x, y).value == pytest.approx(whole, rel=1e-10)
    assert max(largest) <= 2


def test_too_few_images_or_two_networks_are_refused():
    with pytest.raises(ValueError, match="at least 3 images"):
        kernel_distance(features(2, 4, seed=9), features(9, 4, seed=9))
    with pytest.raises(ValueError, match="one network"):
        kernel_distance(features(5, 4, seed=9), features(5, 3, seed=9))
