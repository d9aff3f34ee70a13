"""Edits by stage: an empty mask changes nothing, a full mask is the global edit, the outside loses the concept."""

import pytest
import torch

from audit.analyses.stages.edits import ConceptVector, global_edit, quadrant_mask, spatial_edit
from audit.dissect.sae import SaeShape, SparseAutoencoder

B, C, H, W = 3, 8, 4, 4


@pytest.fixture(scope="module")
def sae():
    made = SparseAutoencoder(SaeShape(C, 32, 4), torch.Generator().manual_seed(0))
    made.input_scale.fill_(0.5)
    return made.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def concept(sae):
    weights = torch.zeros(32)
    weights[[3, 5]] = torch.tensor([2.0, 1.0])
    return ConceptVector.of(sae, weights, 10)


@pytest.fixture(scope="module")
def update():
    return torch.randn(B, C, H, W, generator=torch.Generator().manual_seed(1))


def full():
    return torch.ones(B, H, W, dtype=torch.bool)


def test_a_concept_has_only_latents_with_a_positive_weight(sae, concept):
    assert concept.latents.tolist() == [3, 5]
    assert float(concept.direction.norm()) == pytest.approx(1)
    with pytest.raises(ValueError, match="expected a latent that belongs to the concept"):
        ConceptVector.of(sae, torch.zeros(32), 10)


def test_an_empty_mask_changes_nothing_bit_for_bit(sae, concept, update):
    assert spatial_edit(sae, concept, 3.0, ~full())(0, update) is update
    one = full()
    one[1] = False
    edited = spatial_edit(sae, concept, 3.0, one)(0, update)
    assert torch.equal(edited[1], update[1])
    assert not torch.equal(edited[0], update[0])


def test_a_full_mask_is_the_global_edit_bit_for_bit(sae, concept, update):
    assert torch.equal(spatial_edit(sae, concept, 3.0, full())(0, update), global_edit(sae, concept, 3.0)(0, update))


def test_inside_the_concept_grows_and_outside_its_latents_are_removed(sae, concept, update):
    mask = quadrant_mask(1, H, W).expand(B, H, W)
    change = spatial_edit(sae, concept, 2.0, mask)(0, update) - update
    codes = sae.latents_of_map(update)
    along = torch.einsum("bchw,c->bhw", change, concept.direction) * sae.input_scale
    size = codes.norm(dim=2).reshape(B, H, W)
    assert torch.allclose(along[mask], 2.0 * size[mask], atol=1e-5)
    removed = (codes[..., concept.latents] @ sae.decoder[concept.latents]).transpose(1, 2).reshape(B, C, H, W)
    outside = ~mask[:, None].expand_as(change)
    assert torch.allclose(change[outside] * sae.input_scale, -removed[outside], atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(4, 4), (5, 3)])
def test_quadrants_cover_the_map_once(height, width):
    masks = torch.stack([quadrant_mask(quadrant, height, width) for quadrant in range(4)])
    assert masks.sum(0).eq(1).all()
    assert masks[0, 0, 0]
    assert masks[1, 0, -1]
    assert masks[2, -1, 0]
    assert masks[3, -1, -1]
