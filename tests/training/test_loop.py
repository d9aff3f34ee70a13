"""Tests that training resumes after an interruption without a difference, and the recipe makes a loadable model."""

import pytest
import torch
from torch import nn

from audit.calibration.bundle import Bundle
from audit.calibration.world import World
from audit.config.sections import ModelConfig, SamplingConfig
from audit.models.generator import load_generator
from audit.perception.judges.kinds.bundled import CalibrationJudge
from audit.records.work import Prompt, Status
from audit.training.loop import Schedule, seeded, train
from audit.training.make import Recipe, make

SCHEDULE = Schedule(steps=20, batch=8, learning_rate=0.05, warmup=3, ema=0.9, save_every=4)


class Interrupted(Exception):
    """Interrupts a training from outside."""


def regression(module, stop_at=None):
    """Return the loss of fitting y = sum of x; interrupted at a step if one is given."""

    def loss_of(step, generator):
        if step == stop_at:
            raise Interrupted
        x = torch.randn(SCHEDULE.batch, 3, generator=generator)
        return (module(x) - x.sum(1, keepdim=True)).pow(2).mean()

    return loss_of


def module():
    with seeded(3):
        return nn.Linear(3, 1)


def test_an_interrupted_training_ends_with_the_weights_of_an_uninterrupted_one(tmp_path):
    whole, interrupted, resumed = module(), module(), module()
    losses = train(whole, regression(whole), SCHEDULE, tmp_path / "whole.pt")
    with pytest.raises(Interrupted):
        train(interrupted, regression(interrupted, stop_at=14), SCHEDULE, tmp_path / "part.pt")
    assert train(resumed, regression(resumed), SCHEDULE, tmp_path / "part.pt") == losses
    assert torch.equal(resumed.weight, whole.weight)
    assert losses[-1] < losses[0] / 2


def test_the_rate_rises_falls_and_ends_at_two_per_cent():
    rates = [SCHEDULE.rate(step) for step in range(SCHEDULE.steps + 1)]
    assert max(rates) == pytest.approx(SCHEDULE.learning_rate)
    assert rates[:3] == sorted(rates[:3])
    assert rates[3:] == sorted(rates[3:], reverse=True)
    assert rates[-1] == pytest.approx(0.02 * SCHEDULE.learning_rate)


def test_the_recipe_makes_a_whole_model_of_another_world_that_stock_loaders_read(tmp_path):
    short = Schedule(steps=2, batch=4, learning_rate=1e-3)
    table = World.bundled_path().with_name("contrast.yaml")
    make(tmp_path, table, Recipe(64, *[short] * 7))
    bundle = Bundle.at(tmp_path)
    occupation = World.load(bundle.table).occupations[0]
    generator = load_generator(ModelConfig(world=str(tmp_path)), SamplingConfig(steps=2))
    images = generator.generate(Prompt("one", f"a face photo of a {occupation}", occupation), [0, 1])
    assert images.shape == (2, 3, 64, 64)
    judge = CalibrationJudge(bundle.judge, {"gender": ("female", "male")}, min_confidence=0.0)
    assert set(judge.perceive(images, occupation).statuses) <= {Status.CLASSIFIED, Status.NO_FACE}
