"""The benchmark of feature spans counts what rows span of all vectors of maps."""

import pytest
import torch

from benchmarks.feature_span import spanned, vectors_of


def test_rows_span_their_own_combinations_and_nothing_beside_them():
    rows = torch.eye(8)[:3] + 0.1 * torch.eye(8)[[1, 2, 0]]
    assert spanned(torch.tensor([[1.0, -2.0, 3.0]]).double() @ rows.double(), rows) == pytest.approx(1)
    assert spanned(torch.eye(8)[4:6].double(), rows) == pytest.approx(0)
    assert spanned(torch.eye(8).double(), rows) == pytest.approx(3 / 8)


def test_each_position_of_each_step_is_a_vector_of_channels():
    first, second = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    vectors = vectors_of([first, second])
    assert vectors.shape == (2 * 2 * 4 * 5, 3)
    assert torch.equal(vectors[1], first[0, :, 0, 1])
    assert torch.equal(vectors[-1], second[1, :, 3, 4])
