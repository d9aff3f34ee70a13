"""The contrast of a group is its own effect, apart from the effects of the other attributes."""

import pytest
import torch

from audit.dissect.features.contrast import contrast_weights
from audit.dissect.group_heads import UNLABELLED

GROUPS = {"gender": ("female", "male"), "age": ("young", "adult", "old")}
EFFECTS = {"gender": torch.tensor([1.0, -1.0]), "age": torch.tensor([-2.0, 0.5, 1.5])}


def sampled(count, seed=0):
    numbers = torch.Generator().manual_seed(seed)
    return {name: torch.randint(len(groups), (count,), generator=numbers) for name, groups in GROUPS.items()}


def activations(labels):
    return 3.0 + sum(EFFECTS[name][labels[name]] for name in GROUPS)


@pytest.mark.parametrize("attribute", GROUPS)
def test_planted_effects_are_found_exactly(attribute):
    labels, effects = sampled(60), EFFECTS[attribute].double()
    found = contrast_weights(labels, GROUPS, attribute) @ activations(labels).double()
    others = (effects.sum() - effects) / (len(effects) - 1)
    torch.testing.assert_close(found, effects - others)


def test_two_attributes_that_come_together_are_told_apart_where_plain_means_are_not():
    labels = {"gender": torch.tensor([0, 0, 0, 1, 1, 1, 1, 0]), "age": torch.tensor([0, 0, 1, 2, 2, 2, 0, 2])}
    values = activations(labels).double()
    plain = values[labels["gender"] == 0].mean() - values[labels["gender"] == 1].mean()
    found = contrast_weights(labels, GROUPS, "gender") @ values
    assert found[0] == pytest.approx(2.0)
    assert abs(plain - 2.0) > 0.5


def test_images_without_a_label_count_for_nothing():
    labels = sampled(60)
    labels["age"][:10] = UNLABELLED
    weights = contrast_weights(labels, GROUPS, "gender")
    assert not weights[:, :10].any()
    rest = {name: own[10:] for name, own in labels.items()}
    torch.testing.assert_close(weights[:, 10:], contrast_weights(rest, GROUPS, "gender"))


def test_a_group_that_no_image_shows_is_refused():
    labels = {"gender": torch.zeros(8, dtype=torch.long), "age": torch.arange(8) % 3}
    with pytest.raises(ValueError, match="found none that show 'male'"):
        contrast_weights(labels, GROUPS, "gender")
