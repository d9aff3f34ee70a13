"""The sums of many samples equal NumPy's for each sample, including strata."""

import numpy as np
import pytest

from audit.measure.discrepancy.samples import Samples

RNG = np.random.default_rng(0)
SIZES = (7, 1, 12)
OWNERS = np.repeat(np.arange(3), SIZES)
ROWS = RNG.dirichlet(np.ones(4), size=sum(SIZES))


def test_every_sample_has_the_moments_of_its_rows_in_any_order():
    order = RNG.permutation(len(ROWS))
    found = Samples.of(ROWS[order], OWNERS[order], 3)
    for place, n in enumerate(SIZES):
        own = ROWS[place == OWNERS]
        assert found.n[place] == n
        assert found.mean[place] == pytest.approx(own.mean(axis=0))
        assert found.products[place] == pytest.approx(own.T @ own / n)
        assert found.counts[place].tolist() == np.bincount(own.argmax(axis=1), minlength=4).tolist()
        spread = np.cov(own.T) / n if n > 1 else np.zeros((4, 4))
        assert found.covariance[place] == pytest.approx(spread, abs=1e-15)
    assert not found.labels.any()


def test_the_covariance_of_a_stratified_mean_uses_strata_within_samples():
    strata = np.array([0, 0, 0, 5, 5, 5, 5, 0, *[0] * 6, *[5] * 5, 9])
    found = Samples.of(ROWS, OWNERS, 3, strata)
    for place, n in enumerate(SIZES):
        own, code = ROWS[place == OWNERS], strata[place == OWNERS]
        alike = np.cov(own.T) if n > 1 else np.zeros((4, 4))
        parts = [own[code == each] for each in np.unique(code)]
        expected = sum(len(p) / n**2 * (np.cov(p.T) if len(p) > 1 else alike) for p in parts)
        assert found.covariance[place] == pytest.approx(expected, abs=1e-15)


def test_counts_of_labels_give_the_same_samples_as_their_rows():
    counts = np.array([[3, 0, 2], [1, 1, 4]])
    rows = np.concatenate([np.repeat(np.eye(3), row, axis=0) for row in counts])
    one, other = Samples.of(rows, np.repeat([0, 1], [5, 6]), 2), Samples.of_counts(counts)
    for name in ("n", "mean", "products", "covariance", "counts", "labels"):
        assert getattr(one, name) == pytest.approx(getattr(other, name))
    assert other.labels.all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Samples.of(ROWS, OWNERS, 4), "without an image"),
        (lambda: Samples.of(ROWS, OWNERS[:-1], 3), "one sample for each of 20 rows"),
        (lambda: Samples.of(ROWS, OWNERS, 3, [0, 1]), "one stratum for each of 20"),
        (lambda: Samples.of_counts([[1, 0], [0, 0]]), "without an image"),
    ],
)
def test_an_invalid_sample_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
