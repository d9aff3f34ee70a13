"""Halves keep images of the same noise together and have images of every group."""

import pytest
import torch

from audit.dissect.group_heads import UNLABELLED
from audit.dissect.honesty.halves import LEAST_PER_GROUP, attributes_to_split, clusters_of, random_halves
from tests.dissect.honesty.planted import GROUPS, IMAGES, planted_labels


def test_pairs_stay_together_and_halves_are_of_equal_size():
    labels, partners = planted_labels()
    halves = random_halves(labels, GROUPS, list(GROUPS), partners, 4)
    assert len(halves) == 4
    paired = (partners >= 0).nonzero().flatten()
    for first in halves:
        assert int(first.sum()) == IMAGES // 2
        assert int(first[paired].sum()) == len(paired) // 2
        assert torch.equal(first[paired], first[partners[paired]])
    assert not torch.equal(halves[0], halves[1])


def test_only_a_pair_shares_a_cluster():
    _, partners = planted_labels()
    counts = torch.bincount(clusters_of(partners))
    assert sorted(set(counts[counts > 0].tolist())) == [1, 2]


def test_an_attribute_with_a_rare_group_is_left_out_with_the_reason():
    labels, _ = planted_labels()
    rare = torch.zeros_like(labels["size"])
    rare[: LEAST_PER_GROUP - 1] = 1
    attributes, left_out = attributes_to_split({**labels, "size": rare}, GROUPS)
    assert attributes == ["tint"]
    assert "7 images show large" in left_out["size"]


def test_halves_without_a_group_are_an_error():
    labels = {"tint": torch.full((20,), UNLABELLED)}
    with pytest.raises(ValueError, match=r"raise lens\.trajectories"):
        random_halves(labels, GROUPS, ["tint"], torch.full((20,), -1), 1)
