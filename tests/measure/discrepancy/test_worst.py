"""The worst of many prompts is partly so by chance, and its interval accounts for the selection."""

import numpy as np
import pytest
from scipy import stats

from audit.measure.discrepancy.estimate import discrepancy_intervals
from audit.measure.discrepancy.samples import Samples
from audit.measure.discrepancy.worst import worst

SAMPLES = 2_000


def distances(shares):
    """Return the true distances of two groups from an even target."""
    return np.sqrt(2) * np.abs(np.asarray(shares) - 0.5)


def counts_of(rng, shares, images):
    women = rng.binomial(images, shares)
    return np.stack([women, images - women], axis=1)


TRUTHS = {
    "all on target": [0.5] * 10,
    "one off": [0.5] * 9 + [0.75],
    "all off": list(np.linspace(0.1, 0.95, 10)),
    "two prompts": [0.6, 0.45],
}


@pytest.mark.parametrize("shares", TRUTHS.values(), ids=TRUTHS)
@pytest.mark.parametrize("images", [10, 40])
def test_the_interval_covers_the_selected_prompts_distance_and_the_largest_one(shares, images):
    rng, true = np.random.default_rng(images), distances(shares)
    missed = alone = 0
    for _ in range(SAMPLES):
        labels = Samples.of_counts(counts_of(rng, shares, images))
        found = worst(labels, [0.5, 0.5])
        chosen = true[found.place]
        missed += not found.low - 1e-12 <= min(chosen, true.max()) <= max(chosen, true.max()) <= found.high + 1e-12
        low, high = discrepancy_intervals(labels.at(np.array([found.place])), [0.5, 0.5])[0]
        alone += not low - 1e-12 <= chosen <= high + 1e-12
    assert missed <= stats.binom.ppf(0.999, SAMPLES, 0.05)
    if shares == TRUTHS["all on target"] and images == 40:
        assert alone > 0.2 * SAMPLES  # the unadjusted interval of the selected prompt


def test_the_worst_of_prompts_with_three_groups():
    rng, truth = np.random.default_rng(5), np.array([[1, 1, 1], [2, 1, 1], [6, 1, 1]]) / [[3], [4], [8]]
    true, missed, runs = np.linalg.norm(truth - 1 / 3, axis=1), 0, 200
    for _ in range(runs):
        labels = Samples.of_counts(np.stack([rng.multinomial(20, row) for row in truth]))
        found = worst(labels, [1 / 3] * 3)
        missed += not (found.low <= true[found.place] and true.max() <= found.high)
    assert missed <= stats.binom.ppf(0.999, runs, 0.05)


def test_a_single_prompt_has_an_unadjusted_interval():
    labels = Samples.of_counts([[30, 10]])
    found = worst(labels, [0.5, 0.5])
    assert (found.place, found.n) == (0, 40)
    assert [found.low, found.high] == pytest.approx(discrepancy_intervals(labels, [0.5, 0.5])[0])


def test_the_worst_of_no_prompts_is_refused():
    with pytest.raises(ValueError, match="at least one sample"):
        worst(Samples.of_counts(np.zeros((0, 2))), np.zeros((0, 2)))
