"""Formulas of one noise level are those of diffusers' schedulers."""

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, FlowMatchEulerDiscreteScheduler

from audit.models.trainable.noise_levels import NoiseLevels

KINDS = ("epsilon", "v_prediction", "sample")


@pytest.fixture
def draws():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(3, 4, 2, 2, generator=generator) for _ in range(2)], torch.tensor([10, 500, 990])


@pytest.mark.parametrize("kind", KINDS)
def test_noisy_latents_and_targets_are_those_of_a_training_with_diffusers(draws, kind):
    (image, noise), times = draws
    scheduler = DDPMScheduler(prediction_type=kind)
    levels = NoiseLevels.of(scheduler)
    torch.testing.assert_close(levels.noisy(image, noise, times), scheduler.add_noise(image, noise, times))
    expected = {"epsilon": noise, "v_prediction": scheduler.get_velocity(image, noise, times), "sample": image}[kind]
    torch.testing.assert_close(levels.target(image, noise, times), expected)


@pytest.mark.parametrize("clipped", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_predicted_image_and_noise_are_those_of_a_ddim_step(draws, kind, clipped):
    (noisy, prediction), _ = draws
    scheduler = DDIMScheduler(prediction_type=kind, clip_sample=clipped, set_alpha_to_one=False)
    scheduler.set_timesteps(10)
    levels, time = NoiseLevels.of(scheduler), scheduler.timesteps[4]
    taken = scheduler.step(prediction, time, noisy)
    times = time.expand(3)
    image = levels.image(noisy, prediction, times)
    torch.testing.assert_close(image, taken.pred_original_sample)
    reached = scheduler.alphas_cumprod[scheduler.timesteps[5]]
    moved = reached.sqrt() * image + (1 - reached).sqrt() * levels.noise(noisy, prediction, times)
    torch.testing.assert_close(moved, taken.prev_sample)


def test_flow_matching_has_no_noise_levels():
    with pytest.raises(ValueError, match=r"expected a model that is trained on noise levels .*FlowMatchEuler"):
        NoiseLevels.of(FlowMatchEulerDiscreteScheduler())
