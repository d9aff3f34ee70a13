"""Reading a layout from updates: a planted signal is found, named and predicted, and noise predicts no more than the
prior."""

import numpy as np
import pytest
import torch

from audit.analyses.concepts.naming import coverage, name_latents, one_hot
from audit.analyses.concepts.reading import Probe, concept_scores, enlarged, placed_scores, read, thresholds_of
from audit.dissect.sae import SaeShape, SparseAutoencoder
from audit.measure.overlap.pooled_iou import pooled_iou

IMAGES, CHANNELS, SIDE, PARTS = 60, 6, 4, 3


@pytest.fixture(scope="module")
def planted():
    """Labels of 16×16 pixels in blocks of 4×4, and updates in which channel p is on where part p is."""
    draws = torch.Generator().manual_seed(0)
    small = torch.randint(PARTS, (IMAGES, SIDE, SIDE), generator=draws)
    labels = small.repeat_interleave(4, 1).repeat_interleave(4, 2).to(torch.uint8)
    maps = torch.zeros(IMAGES, CHANNELS, SIDE, SIDE)
    maps.scatter_(1, small[:, None], 5.0)
    return maps, labels


@pytest.fixture(scope="module")
def dictionary():
    """A dictionary with one latent for each channel."""
    sae = SparseAutoencoder(SaeShape(CHANNELS, CHANNELS, 1))
    sae.load_state_dict(
        {
            "decoder": torch.eye(CHANNELS),
            "encoder": torch.eye(CHANNELS),
            "encoder_bias": torch.zeros(CHANNELS),
            "pre_bias": torch.zeros(CHANNELS),
            "input_scale": torch.ones(()),
        }
    )
    return sae.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def names(planted, dictionary):
    maps, labels = planted
    return name_latents(dictionary, maps[:40, None], coverage(labels[:40], PARTS, (SIDE, SIDE)))


def mean_iou(scores, labels):
    true = one_hot(labels, PARTS).bool().numpy()
    cut = thresholds_of(scores[40:50].numpy(), true[40:50])
    return float(pooled_iou(*read(scores[50:].numpy(), true[50:], cut)).mean())


def test_a_latent_is_named_after_the_part_where_it_is_active(names):
    assert names.best().tolist() == [0, 1, 2]
    assert names.iou[:PARTS].diagonal().tolist() == pytest.approx([1, 1, 1])
    assert torch.equal(names.overall, names.iou)  # every map has every part
    assert names.named(0.5).tolist() == [True] * 3 + [False] * 3
    assert names.meaning[:PARTS].diagonal().tolist() == pytest.approx([1, 1, 1])
    assert names.cohesion[:PARTS].tolist() == pytest.approx([1, 1, 1])
    assert names.cohesion[PARTS:].isnan().all()  # never active
    assert names.separability == pytest.approx(0)


def test_concepts_predict_a_planted_layout_and_the_prior_does_not(planted, dictionary, names):
    maps, labels = planted
    scores = enlarged(concept_scores(dictionary, names.meaning, maps), (16, 16))
    prior = one_hot(labels[:40], PARTS).mean(0)
    roles = {"fit": maps[:40], "all": maps}
    placed = placed_scores(dictionary, roles, labels[:40], PARTS)["all"]
    assert torch.allclose(placed.sum(1), torch.ones(IMAGES, 16, 16), atol=1e-4)
    assert mean_iou(scores, labels) > 0.6  # the edges between places are smooth
    assert mean_iou(placed, labels) == pytest.approx(1)
    assert mean_iou(prior.expand(IMAGES, -1, -1, -1), labels) < 0.4


def test_a_probe_reads_a_planted_layout_and_nothing_from_noise(planted):
    maps, labels = planted
    split = (maps[40:50], labels[40:50])
    assert mean_iou(Probe.fit(maps[:40], labels[:40], PARTS, split).scores(maps), labels) > 0.95
    noise = torch.randn(maps.shape, generator=torch.Generator().manual_seed(1))
    blind = Probe.fit(noise[:40], labels[:40], PARTS, (noise[40:50], labels[40:50]))
    assert mean_iou(blind.scores(noise), labels) < 0.4


def test_a_probe_with_more_channels_than_images_has_the_same_solution():
    draws = torch.Generator().manual_seed(2)
    maps, labels = torch.randn(8, 20, 2, 2, generator=draws), torch.randint(2, (8, 4, 4), generator=draws)
    wide = Probe.fit(maps, labels, 2, (maps, labels))
    x = maps.flatten(2).permute(2, 0, 1)
    x = x - x.mean(1, keepdim=True)
    scale = x.square().sum((1, 2)) / 20
    assert wide.scores(maps).shape == (8, 2, 4, 4)
    # Of the penalties the smallest fits the images themselves best: K (K + λ)⁻¹ is nearly 1.
    kernel = x @ x.mT
    smooth = kernel @ torch.linalg.inv(kernel + 1e-3 * scale[:, None, None] * torch.eye(8))
    centred = np.linalg.norm((smooth @ x - x).numpy()) / np.linalg.norm(x.numpy())
    assert centred < 0.05
    truth = one_hot(labels, 2)
    assert float((wide.scores(maps) - truth).abs().mean()) < 0.05


def test_a_latent_that_was_never_active_at_a_place_means_the_mean_mask(planted, dictionary):
    maps, labels = planted
    silent = torch.zeros(2, CHANNELS, SIDE, SIDE)
    silent[:, CHANNELS - 1] = 5.0  # no training picture has it
    found = placed_scores(dictionary, {"fit": maps[:40], "new": silent}, labels[:40], PARTS)["new"]
    assert torch.allclose(found, one_hot(labels[:40], PARTS).mean(0).expand_as(found))
    blank = placed_scores(dictionary, {"fit": maps[:40], "new": torch.zeros_like(silent)}, labels[:40], PARTS)["new"]
    assert torch.allclose(blank, found)  # nothing is active at all


def test_a_latent_that_is_rarely_active_is_not_the_one_that_fits_a_part_best(dictionary):
    labels = torch.zeros(20, 16, 16, dtype=torch.uint8)
    labels[:, :8] = 1
    maps = torch.zeros(20, CHANNELS, SIDE, SIDE)
    maps[2:, 2, 0] = 5.0  # half of part 1, in most pictures
    maps[:2, 4, :2] = 5.0  # all of it, in two
    names = name_latents(dictionary, maps[:, None], coverage(labels, 2, (SIDE, SIDE)))
    assert names.iou[4, 1] > names.iou[2, 1]
    assert names.best()[1] == 2
