"""Tests that every part of a training has the requested kinds of examples and noise levels, jointly."""

import numpy as np
import pytest
import torch

from audit.calibration.labels import ATTRIBUTES, OCCUPATIONS
from audit.calibration.world import World
from audit.training.captions import names_all_groups, names_no_group, training_examples
from audit.training.emphasis import DESCRIBED, UNDESCRIBED, on_descriptions, on_planted_shares, sorted_by_content
from audit.training.unet import draw_batch

BATCH, STEPS, TIMESTEPS = 64, 200, 1000


def drawn(weights, noisy, first=0):
    batches = [draw_batch(weights, noisy, TIMESTEPS, BATCH, first + step) for step in range(STEPS)]
    return torch.cat([chosen for chosen, _ in batches]), torch.cat([t for _, t in batches])


@pytest.fixture(scope="module")
def examples():
    labels, captions = training_examples(World.bundled(), range(8_000))
    columns = {name: torch.from_numpy(getattr(labels, name)) for name in (*ATTRIBUTES, "occupation")}
    order = sorted_by_content(columns, captions)
    return {name: column[order] for name, column in columns.items()}, [captions[place] for place in order.tolist()]


@pytest.mark.parametrize("noisy", [0.5, 0.9])
def test_the_noisier_half_of_the_schedule_gets_its_share_and_each_half_is_spread_evenly(noisy):
    _, t = drawn(torch.ones(10), noisy)
    assert (t >= TIMESTEPS // 2).double().mean().item() == pytest.approx(noisy, abs=0.002)
    for low in (0, TIMESTEPS // 2):
        half = t[(t >= low) & (t < low + TIMESTEPS // 2)].float()
        assert torch.histc(half, 5, low, low + TIMESTEPS // 2).div(len(half)).sub(0.2).abs().max() < 0.01


def test_every_kind_comes_in_proportion_at_every_level_of_noise_far_closer_than_by_chance():
    weights = torch.tensor([0.35] * 100 + [0.65] * 100)
    chosen, t = drawn(weights, 0.5, first=1000)
    bands = [(chosen[(t // 100) == band] >= 100).double().mean().item() for band in range(10)]
    by_chance = (0.35 * 0.65 / (BATCH * STEPS / 10)) ** 0.5
    assert np.abs(np.array(bands) - 0.65).max() < by_chance / 2


def test_a_batch_depends_on_its_step_alone():
    first, again = (draw_batch(torch.ones(9), 0.5, TIMESTEPS, BATCH, step=7) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))


def test_the_second_stage_dwells_on_full_descriptions(examples):
    _, captions = examples
    weights = on_descriptions(captions)
    full = torch.tensor([names_all_groups(caption) for caption in captions])
    rest = (1 - DESCRIBED) * full.double().mean()
    assert (weights[full].sum() / weights.sum()).item() == pytest.approx((DESCRIBED + rest).item())


def test_the_third_stage_has_the_planted_shares_even_if_the_drawings_deviate(examples):
    labels, captions = examples
    world = World.bundled()
    plain = torch.tensor([names_no_group(caption) for caption in captions])
    weights = on_planted_shares(world, labels, captions) - (1 - UNDESCRIBED) / len(captions)
    assert weights[plain].sum().item() == pytest.approx(UNDESCRIBED)
    for occupation in world.occupations:
        own = plain & (labels["occupation"] == OCCUPATIONS.index(occupation))
        male = own & (labels["gender"] == 1)
        planted = world.share(occupation, "gender")["male"]
        assert (weights[male].sum() / weights[own].sum()).item() == pytest.approx(planted, abs=0.002)
        assert weights[own].sum().item() == pytest.approx(UNDESCRIBED / len(world.occupations), rel=0.02)
