"""Formulas of one noise level are those of diffusers' schedulers."""

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EDMEulerScheduler,
    FlowMatchEulerDiscreteScheduler,
)

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


def test_a_flow_is_that_of_its_scheduler(draws):
    (image, noise), _ = draws
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(6)
    levels, times = NoiseLevels.of(scheduler), scheduler.timesteps[2].expand(3)
    noisy = levels.noisy(image, noise, times)
    torch.testing.assert_close(noisy, scheduler.scale_noise(image, times, noise))
    flow = levels.target(image, noise, times)
    torch.testing.assert_close(flow, noise - image)
    torch.testing.assert_close(levels.image(noisy, flow, times), image)
    torch.testing.assert_close(levels.noise(noisy, flow, times), noise)
    signal, sigma = levels.at(scheduler.timesteps[3:4])
    moved = signal.float() * image + sigma.float() * noise
    torch.testing.assert_close(moved, scheduler.step(flow, scheduler.timesteps[2], noisy).prev_sample)


def test_a_sampler_of_sigmas_that_solves_a_flow_has_the_levels_of_the_flow():
    scheduler = DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    scheduler.set_timesteps(5)
    _, sigma = NoiseLevels.of(scheduler).at(scheduler.timesteps)
    torch.testing.assert_close(
        sigma.float(), scheduler.sigmas[:-1], atol=1e-3, rtol=0
    )  # its timesteps are whole numbers


def test_another_prediction_is_refused_in_words():
    with pytest.raises(ValueError, match=r"expected a model that is trained on noise levels .*found EDMEulerScheduler"):
        NoiseLevels.of(EDMEulerScheduler())
