"""The kernel distance equals clean-fid's and a plain double loop, is unbiased per prompt, and has a correct error."""

import numpy as np
import pytest
from scipy import stats

from audit.measure.image_sets import kernel
from audit.measure.image_sets.kernel import kernel_distance


def features(n, d, seed, shift=0.0):
    return np.random.default_rng(seed).normal(shift, 1, (n, d))


def plain_kernel(a, b):
    return (np.dot(a, b) / len(a) + 1) ** 3


def plain(x, y):
    def within(z):
        return np.mean([plain_kernel(a, b) for i, a in enumerate(z) for j, b in enumerate(z) if i != j])

    return within(x) + within(y) - 2 * np.mean([plain_kernel(a, b) for a in x for b in y])


@pytest.mark.parametrize(("m", "n"), [(3, 3), (7, 11), (25, 23), (41, 60)])
def test_the_value_equals_the_double_loop_over_all_pairs(m, n):
    x, y = features(m, 5, seed=1), features(n, 5, seed=2, shift=0.3)
    assert kernel_distance(x, y).value == pytest.approx(plain(x, y), rel=1e-10, abs=1e-12)


def test_the_value_equals_clean_fids_with_a_subset_of_all_images():
    cleanfid = pytest.importorskip("cleanfid.fid")
    x, y = features(60, 8, seed=3), features(60, 8, seed=4, shift=0.2)
    expected = cleanfid.kernel_distance(x, y, num_subsets=1, max_subset_size=60)
    assert kernel_distance(x, y).value == pytest.approx(expected, rel=1e-9)


def by_prompt(sizes):
    return np.repeat(np.arange(len(sizes)), sizes)


def plain_by_prompt(x, y, of_x, of_y, paired=False):
    """Pairs of prompts have equal weights; an image is not paired with itself or with the image of the same noise."""

    def mean(first, second, names_first, names_second, twins):
        cells = [
            np.mean(
                [
                    plain_kernel(first[i], second[j])
                    for i in np.flatnonzero(names_first == p)
                    for j in np.flatnonzero(names_second == q)
                    if not (twins and i == j)
                ]
            )
            for p in np.unique(names_first)
            for q in np.unique(names_second)
        ]
        return np.mean(cells)

    return mean(x, x, of_x, of_x, True) + mean(y, y, of_y, of_y, True) - 2 * mean(x, y, of_x, of_y, paired)


def delete_one(images, names, value_without):
    """The jackknife variance of a stratified sample (Jones 1974), over the images within each prompt."""
    total = 0
    for prompt in np.unique(names):
        places = np.flatnonzero(names == prompt)
        left_out = np.array([value_without(place) for place in places])
        total += (len(places) - 1) / len(places) * ((left_out - left_out.mean()) ** 2).sum()
    return total


def test_pairs_of_prompts_have_equal_weights_and_the_jackknife_is_over_images_within_prompts():
    of_x, of_y = by_prompt([3, 5, 4]), by_prompt([6, 3])
    x, y = features(12, 4, seed=5), features(9, 4, seed=6, shift=0.5)
    found = kernel_distance(x, y, (of_x, of_y))
    assert found.value == pytest.approx(plain_by_prompt(x, y, of_x, of_y), rel=1e-10)
    without = [
        lambda i: plain_by_prompt(np.delete(x, i, axis=0), y, np.delete(of_x, i), of_y),
        lambda j: plain_by_prompt(x, np.delete(y, j, axis=0), of_x, np.delete(of_y, j)),
    ]
    expected = delete_one(x, of_x, without[0]) + delete_one(y, of_y, without[1])
    assert found.standard_error == pytest.approx(np.sqrt(expected), rel=1e-9)


def test_pairs_of_the_same_noise_are_excluded_by_prompt_and_the_jackknife_is_over_pairs():
    names = by_prompt([3, 5, 4])
    x, y = features(12, 4, seed=5), features(12, 4, seed=6, shift=0.5)
    found = kernel_distance(x, y, (names, names), paired=True)
    assert found.value == pytest.approx(plain_by_prompt(x, y, names, names, paired=True), rel=1e-10)

    def without(i):
        kept = np.delete(names, i)
        return plain_by_prompt(np.delete(x, i, axis=0), np.delete(y, i, axis=0), kept, kept, paired=True)

    assert found.standard_error == pytest.approx(np.sqrt(delete_one(x, names, without)), rel=1e-9)


def drawn(prompts, images, seed, shift=0.0):
    """Features of prompts with different centres: the same centres each time, other noise."""
    centres = np.random.default_rng(1).normal(size=(prompts, 8)) + shift
    return (centres[:, None] + np.random.default_rng(seed).normal(size=(prompts, images, 8))).reshape(-1, 8)


def mean_kernel(a, b):
    """E k(x, y) of x ~ N(a, I) and y ~ N(b, I): x·y has mean m = a·b, variance D + |a|² + |b|², third moment 6m."""
    d, m = len(a), a @ b
    variance, third = d + a @ a + b @ b, 6 * m
    return 1 + 3 * m / d + 3 * (variance + m**2) / d**2 + (third + 3 * m * variance + m**3) / d**3


def true_distance(prompts, shift):
    first = np.random.default_rng(1).normal(size=(prompts, 8))
    first, second = first, first + shift

    def mean(of_x, of_y):
        return np.mean([[mean_kernel(a, b) for b in of_y] for a in of_x])

    return mean(first, first) + mean(second, second) - 2 * mean(first, second)


@pytest.mark.parametrize(("prompts", "images"), [(4, 13), (2, 4), (30, 3)])
@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_two_unpaired_samples_with_equal_images_per_prompt_are_unbiased(prompts, images, shift):
    # Without stratification, two samples of 4 × 13 images of the same model had a mean of −0.30.
    names, found = by_prompt([images] * prompts), []
    for seed in range(200):
        x, y = drawn(prompts, images, 2 * seed), drawn(prompts, images, 2 * seed + 1, shift)
        found.append(kernel_distance(x, y, (names, names)).value)
    error = np.std(found, ddof=1) / np.sqrt(len(found))
    assert np.mean(found) == pytest.approx(true_distance(prompts, shift), abs=3 * error)


def test_a_set_with_prompts_compared_with_a_set_without_prompts_is_unbiased():
    names, found = by_prompt([5] * 4), []
    centres = np.random.default_rng(1).normal(size=(4, 8))
    for seed in range(300):
        rng = np.random.default_rng(seed)
        reference = centres[rng.integers(0, 4, 60)] + rng.normal(size=(60, 8))  # the same mixture
        found.append(kernel_distance(drawn(4, 5, seed + 1000), reference, (names, None)).value)
    assert abs(np.mean(found)) < 3 * np.std(found, ddof=1) / np.sqrt(len(found))


def test_value_and_error_do_not_depend_on_the_order_of_the_rows():
    # With blocks of rows, the error described prompts in plan order, and images after the rows were shuffled.
    names, x, y = by_prompt([13] * 4), drawn(4, 13, 1), drawn(4, 13, 2)
    order = np.random.default_rng(3).permutation(len(x))
    in_order = kernel_distance(x, y, (names, names), paired=True)
    shuffled = kernel_distance(x[order], y[order], (names[order], names[order]), paired=True)
    assert in_order == pytest.approx(shuffled, rel=1e-9)
    apart = np.random.default_rng(4).permutation(len(x))
    assert kernel_distance(x[order], y[apart], (names[order], names[apart])) == pytest.approx(
        kernel_distance(x, y, (names, names)), rel=1e-9
    )


def test_the_standard_error_equals_the_standard_deviation_over_new_images_of_these_prompts():
    names = by_prompt([40] * 5)
    found = [
        kernel_distance(drawn(5, 40, 2 * seed), drawn(5, 40, 2 * seed + 1, 0.5), (names, names)) for seed in range(150)
    ]
    spread = np.std([one.value for one in found], ddof=1)
    assert np.mean([one.standard_error for one in found]) == pytest.approx(spread, rel=0.25)
    truth = true_distance(5, 0.5)
    covered = np.mean([low <= truth <= high for low, high in (one.interval() for one in found)])
    assert covered > 0.95 - 3 * np.sqrt(0.95 * 0.05 / 150)


def test_it_is_unbiased_at_distance_zero_and_its_interval_covers():
    runs = [kernel_distance(features(40, 6, 2 * s), features(40, 6, 2 * s + 1)) for s in range(100, 220)]
    values = np.array([run.value for run in runs])
    assert abs(values.mean()) < 3 * values.std(ddof=1) / np.sqrt(len(values))
    assert np.mean([abs(run.value) < 2 * run.standard_error for run in runs]) > 0.9


def test_pairs_of_the_same_noise_are_excluded_and_an_unchanged_arm_has_distance_zero():
    x, y = features(9, 4, seed=10), features(9, 4, seed=11, shift=0.3)
    both = [(i, j) for i in range(9) for j in range(9) if i != j]
    h = [plain_kernel(x[i], x[j]) + plain_kernel(y[i], y[j]) - 2 * plain_kernel(x[i], y[j]) for i, j in both]
    assert kernel_distance(x, y, paired=True).value == pytest.approx(np.mean(h), rel=1e-10)
    assert kernel_distance(x, x, paired=True)[:2] == (pytest.approx(0, abs=1e-9), pytest.approx(0, abs=1e-9))
    assert kernel_distance(x, x).value < -0.1
    with pytest.raises(ValueError, match="found 9 and 8"):
        kernel_distance(x, y[:8], paired=True)


def test_the_interval_is_students_with_the_degrees_of_freedom_within_prompts():
    x, y = features(9, 4, seed=1), features(9, 4, seed=2, shift=2)
    found = kernel_distance(x, y, paired=True)
    assert found.degrees == pytest.approx(8)
    low, high = stats.t.interval(0.9, 8, found.value, found.standard_error)
    root, half_width = np.sqrt(found.value), high - found.value
    assert half_width < found.value
    assert found.interval(0.9) == pytest.approx((low, (root + half_width / (2 * root)) ** 2))
    names = by_prompt([3] * 3)
    assert 2 <= kernel_distance(x, y, (names, names), paired=True).degrees <= 6


def test_the_lower_end_is_not_negative_unless_the_value_is():
    half_width = 2.262157 * 0.2
    assert kernel.KernelDistance(0.1, 0.2, 9).interval() == pytest.approx((0, 0.1 + 1.25 * half_width))
    assert kernel.KernelDistance(-0.1, 0.2, 9).interval() == pytest.approx((-0.1, -0.1 + 1.25 * half_width))
    assert kernel.KernelDistance(0.0, 0.0, 9).interval() == (0, 0)


def test_the_upper_end_keeps_its_error_rate_at_the_confidence_of_a_gate():
    # Student's t interval alone failed in 17 of 3,000 samples of 4 prompts × 50 images; 3.75 are expected.
    names, truth, runs = by_prompt([25] * 4), true_distance(4, 0.25), 600
    missed = 0
    for seed in range(runs):
        noise = np.sqrt(0.6) * np.random.default_rng([seed, 9]).normal(size=(100, 8))
        centres = np.random.default_rng(1).normal(size=(4, 8))[names]
        first, second = (
            centres + noise + np.sqrt(0.4) * np.random.default_rng([seed, place]).normal(size=(100, 8)) + place * 0.25
            for place in (0, 1)
        )
        missed += truth > kernel_distance(first, second, (names, names), paired=True).interval(0.98)[1]
    assert missed <= stats.binom.ppf(0.999, runs, 0.01)


def test_similar_pairs_cause_no_bias():
    runs = []
    for seed in range(100, 220):
        noise = 0.9 * features(40, 6, 3 * seed)
        first, second = (noise + 0.4 * features(40, 6, 3 * seed + place) for place in (1, 2))
        runs.append((kernel_distance(first, second, paired=True).value, kernel_distance(first, second).value))
    values, as_if_unpaired = np.array(runs).T
    error = values.std(ddof=1) / np.sqrt(len(values))
    assert abs(values.mean()) < 3 * error
    assert as_if_unpaired.mean() < -5 * error


def test_the_number_of_kernel_values_in_memory_is_limited_without_changing_the_result(monkeypatch):
    names = by_prompt([30, 20, 40]), by_prompt([35, 35])
    x, y = features(90, 4, seed=7), features(70, 4, seed=8, shift=0.4)
    whole = kernel_distance(x, y, names)
    monkeypatch.setattr(kernel, "KERNEL_VALUES", 200)
    assert kernel_distance(x, y, names) == pytest.approx(whole, rel=1e-10)


def test_too_few_images_or_two_networks_are_refused():
    with pytest.raises(ValueError, match="at least 3 images of every prompt, found 2"):
        kernel_distance(features(2, 4, seed=9), features(9, 4, seed=9))
    with pytest.raises(ValueError, match="at least 3 images of every prompt, found 1"):
        kernel_distance(features(4, 4, seed=9), features(9, 4, seed=9), ([0, 0, 0, 1], None))
    with pytest.raises(ValueError, match="one network"):
        kernel_distance(features(5, 4, seed=9), features(5, 3, seed=9))
    with pytest.raises(ValueError, match="the prompt of each of 5 images"):
        kernel_distance(features(5, 4, seed=9), features(5, 4, seed=9), ([0, 0, 0], None))
    with pytest.raises(ValueError, match="expected pairs"):
        kernel_distance(features(6, 4, seed=9), features(6, 4, seed=9), ([0] * 6, [0, 0, 0, 1, 1, 1]), paired=True)
