"""Pictures that are noised and read back: what the denoiser is given, for every family with a VAE."""

import pytest
import torch

from audit.config.sections import ModelConfig, SamplingConfig
from audit.models.files.untrusted_model import UnfitModelError
from audit.models.generator import load_generator
from audit.models.schedulers.trial import scheduler_class
from benchmarks.tiny_families import save_flux, save_lcm, save_pixart, save_sana, save_sd3, save_sdxl
from benchmarks.tiny_models import save_tiny_pipeline

TEXT, SEEDS = "a photo of a person", (3, 4)


def loaded(directory, **sampling):
    return load_generator(
        ModelConfig(source=str(directory)), SamplingConfig(**{"steps": 6, "guidance": 2.0} | sampling)
    )


def pictures(height=16, width=16):
    return torch.randint(0, 256, (2, 3, height, width), generator=torch.Generator().manual_seed(0)).byte()


def noise(latents):
    draws = [torch.Generator().manual_seed(seed) for seed in SEEDS]
    return torch.stack([torch.randn(latents.shape[1:], generator=draw) for draw in draws])


@torch.inference_mode()
def given(generator, step, latents):
    """Return what the denoiser is given for latents, in the conditional half."""
    return generator.maps([TEXT] * 2, SEEDS, "conv_in", step, latents)


@torch.inference_mode()
def test_ddim_is_given_the_noise_level_of_the_step(tiny_pipeline):
    generator = loaded(tiny_pipeline, scheduler="DDIMScheduler")
    latents = generator.encode(pictures())
    found = given(generator, 4, latents)
    scheduler = generator.pipeline.scheduler
    level = scheduler.alphas_cumprod[int(scheduler.timesteps[4])]
    noisy = level**0.5 * latents + (1 - level) ** 0.5 * noise(latents)
    torch.testing.assert_close(found, generator.denoiser.conv_in(noisy), atol=1e-5, rtol=1e-4)


@torch.inference_mode()
def test_a_sampler_of_sigmas_is_given_the_same_level_in_its_own_scale(tmp_path):
    generator = loaded(save_sdxl(tmp_path))
    latents = generator.encode(pictures())
    found = given(generator, 2, latents)
    sigma = generator.pipeline.scheduler.sigmas[2]
    noisy = (latents + sigma * noise(latents)) / (1 + sigma**2) ** 0.5
    torch.testing.assert_close(found, generator.denoiser.conv_in(noisy), atol=1e-5, rtol=1e-4)


SIZED = {"height": 32, "width": 32}
SAVED = {
    "sd": (save_tiny_pipeline, "mid_block", {}),
    "sdxl": (save_sdxl, "mid_block", {}),
    "lcm": (save_lcm, "mid_block", {}),
    "sd3": (save_sd3, "transformer_blocks.0", SIZED),
    "flux": (save_flux, "transformer_blocks.0", SIZED),
    "sana": (save_sana, "transformer_blocks.0", {}),
}


@pytest.mark.parametrize("family", SAVED)
def test_a_map_follows_the_picture_and_takes_one_call_of_the_denoiser(tmp_path, family):
    save, hookpoint, sampling = SAVED[family]
    generator, calls = loaded(save(tmp_path), **sampling), []
    latents = generator.encode(pictures(*generator.size))
    assert torch.equal(latents, generator.encode(pictures(*generator.size)))
    hook = generator.denoiser.get_submodule(hookpoint).register_forward_hook(lambda *_: calls.append(1))
    one, other = (generator.maps([TEXT] * 2, SEEDS, hookpoint, 3, rows) for rows in (latents, latents.flip(0)))
    hook.remove()
    assert len(calls) == 2
    assert one.isfinite().all()
    assert not torch.allclose(one, other)
    late, noisy = (generator.maps([TEXT] * 2, SEEDS, hookpoint, step, latents) for step in (5, 1))
    assert not torch.allclose(late, noisy)


SCHEDULERS = (
    "DDIMScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "UniPCMultistepScheduler",
)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_every_kind_of_scheduler_can_start_from_pictures(tiny_pipeline, scheduler):
    generator = loaded(tiny_pipeline, scheduler=scheduler)
    latents = generator.encode(pictures())
    assert given(generator, 4, latents).isfinite().all()
    assert isinstance(generator.pipeline.scheduler, scheduler_class(scheduler))


def test_nothing_is_left_behind(tiny_pipeline):
    generator = loaded(tiny_pipeline)
    before = generator.sample([TEXT], [5])
    given(generator, 4, generator.encode(pictures()))
    with pytest.raises(UnfitModelError, match="expected latents"):
        given(generator, 4, generator.encode(pictures(32, 32)))
    assert torch.equal(generator.sample([TEXT], [5]), before)


def test_pictures_that_the_pipeline_would_resize_are_refused(tmp_path):
    generator = loaded(save_pixart(tmp_path))
    latents = generator.encode(pictures(*generator.size))
    assert generator.size == (256, 256)
    with pytest.raises(UnfitModelError, match=r"the pipeline resizes its images; set sampling\.height"):
        generator.maps([TEXT] * 2, SEEDS, "transformer_blocks.0", 2, latents[:, :, :4])


def test_the_first_step_is_refused(tiny_pipeline):
    generator = loaded(tiny_pipeline)
    with pytest.raises(UnfitModelError, match="expected a step from 1 on for pictures, found 0"):
        given(generator, 0, generator.encode(pictures()))
