"""The benchmark of feature spans counts what rows span, and compares each group with the others."""

import pytest
import torch

from benchmarks.feature_span import spanned, vectors_of


def test_rows_span_their_own_combinations_and_nothing_beside_them():
    rows = torch.eye(8)[:3] + 0.1 * torch.eye(8)[[1, 2, 0]]
    assert spanned(torch.tensor([[1.0, -2.0, 3.0]]).double() @ rows.double(), rows) == pytest.approx(1)
    assert spanned(torch.eye(8)[4:6].double(), rows) == pytest.approx(0)
    assert spanned(torch.eye(8).double(), rows) == pytest.approx(3 / 8)


def test_a_group_is_compared_with_the_mean_of_the_others():
    means = {"young": torch.full((2, 3, 1, 1), 1.0), "adult": torch.zeros(2, 3, 1, 1), "old": torch.zeros(2, 3, 1, 1)}
    vectors = vectors_of(means)
    assert vectors.shape == (3 * 2, 3)
    assert vectors[:2].eq(1).all()
    assert vectors[2:].eq(-0.5).all()
