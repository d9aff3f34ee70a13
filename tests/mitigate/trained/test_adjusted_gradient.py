"""The adjusted gradient: its factors in closed form, and its sum against one graph through all steps."""

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler

from audit.mitigate.trained.adjusted_gradient import common_factor, factors, follow
from audit.mitigate.trained.finetuning import Training
from audit.mitigate.trained.low_rank import added, networks_of
from audit.models.trainable.noise_levels import NoiseLevels
from benchmarks.tiny_families import BETAS
from tests.mitigate.trained.fits import PROMPTS, STEPS, audit_of, fitted, tools_of


def scheduler_of(predicted, **settings):
    if predicted == "flow_prediction":
        return FlowMatchEulerDiscreteScheduler(shift=3.0)
    return DDIMScheduler(**BETAS, prediction_type=predicted, clip_sample=False, **settings)


@pytest.mark.parametrize("predicted", ["epsilon", "v_prediction", "sample", "flow_prediction"])
def test_the_factors_are_the_derivatives_of_the_sampler(predicted):
    scheduler = scheduler_of(predicted)
    scheduler.set_timesteps(7)
    latents = torch.randn(1, dtype=torch.float64)
    predictions = [torch.randn(1, dtype=torch.float64, requires_grad=True) for _ in scheduler.timesteps]
    for time, prediction in zip(scheduler.timesteps, predictions, strict=True):
        latents = scheduler.step(prediction, time, latents).prev_sample
    expected = torch.cat(torch.autograd.grad(latents.sum(), predictions))
    found = factors(NoiseLevels.of(scheduler), scheduler.timesteps)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-8)


def test_the_factors_of_predicted_noise_are_differences_of_sigma():
    scheduler = scheduler_of("epsilon")
    times = [900, 500, 100, 0]
    alphas = [*scheduler.alphas_cumprod.double()[times].tolist(), 1.0]
    sigmas = np.sqrt((1 - np.array(alphas)) / np.array(alphas))
    np.testing.assert_allclose(
        factors(NoiseLevels.of(scheduler), torch.tensor(times)).numpy(), np.diff(sigmas), rtol=1e-9
    )


def test_one_over_the_factors_are_the_published_coefficients_up_to_a_constant():
    """√ᾱ √(1−ᾱ) / (1−α), each over the geometric mean, belongs to steps through every timestep."""
    scheduler = scheduler_of("epsilon")
    times = np.arange(999, -1, -1)
    alphas = scheduler.alphas_cumprod.double().numpy()
    ratio = alphas / np.concatenate([[1.0], alphas[:-1]])
    published = (np.sqrt(alphas) * np.sqrt(1 - alphas) / (1 - ratio))[times]
    own = 1 / factors(NoiseLevels.of(scheduler), torch.from_numpy(times.copy())).abs().numpy()
    inside = slice(0, 990)  # the last steps are not small: 1 − ᾱ falls to 0
    np.testing.assert_allclose(own[inside] / published[inside], 2, rtol=0.06)


def test_the_common_factor_is_a_geometric_mean_and_finite_without_a_signal_at_the_start():
    assert common_factor(torch.tensor([-1.0, -4.0])) == pytest.approx(-2.0)
    assert common_factor(torch.tensor([0.0, 9.0])) == pytest.approx(9.0)
    zero = scheduler_of("v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing")
    zero.set_timesteps(5)
    assert -1 < common_factor(factors(NoiseLevels.of(zero), zero.timesteps)) < 0


@pytest.mark.parametrize("parts", [("text_encoder",), ("unet",), ("text_encoder", "unet")])
def test_the_sum_over_steps_is_the_gradient_of_one_graph_through_all(parts, tiny_pipeline):
    """The graph goes through the sampler, not into the network's input, and each prediction's gradient is scaled."""
    audit = audit_of(tiny_pipeline, "finetuning", "gender", networks=parts, rank=2)
    tools = tools_of(audit)
    request, examples, _ = fitted(audit, tools)
    training, model = Training.of(tools, request, examples), tools.model
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for factor in training.factors.values():
            factor += 0.3 * torch.randn(factor.shape, generator=draw)
    seeds, text, guidance = [3, 4], PROMPTS[0].text, audit.sampling.guidance
    followed = follow(tools.generator, text, seeds, None)
    away = torch.randn(followed.latents.shape, generator=draw)
    scale = common_factor(factors(model.levels, followed.timesteps))
    with model.frozen():
        found = training.of_predictions(PROMPTS[0], followed, scale * away, range(STEPS))
        published = tools.generator.pipeline.scheduler.config
        scheduler = DDIMScheduler.from_config(published, clip_sample=False, set_alpha_to_one=True)
        scheduler.set_timesteps(STEPS)
        own = factors(model.levels, followed.timesteps)
        latents, texts = followed.noisy[0], [text] * len(seeds)
        with added(networks_of(tools.generator.pipeline, parts), training.factors):
            read = tools.generator.read_by_denoiser(text) if "text_encoder" in parts else {}
            for step, time in enumerate(scheduler.timesteps):
                times, noisy = time.expand(len(seeds)), followed.noisy[step]
                conditional = model.predict(noisy, times, texts, read=read)
                unconditional = model.predict(noisy, times, texts, empty=len(texts))
                if "unet" not in parts:
                    unconditional = unconditional.detach()
                prediction = unconditional + guidance * (conditional - unconditional)
                prediction.register_hook(lambda g, step=step: g * scale / own[step].float())
                latents = scheduler.step(prediction, time, latents).prev_sample
            expected = torch.autograd.grad(
                (latents * away).sum(), list(training.factors.values()), allow_unused=True, materialize_grads=True
            )
    assert sum(float(one.abs().sum()) for one in expected) > 0
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5 * float(other.abs().max()) + 1e-9)


def test_what_is_followed_is_what_the_sampler_draws(tiny_pipeline):
    tools = tools_of(audit_of(tiny_pipeline, "finetuning", "gender"))
    followed = follow(tools.generator, PROMPTS[0].text, [3, 4], None)
    assert torch.equal(tools.generator.decode(followed.latents), tools.generator.generate(PROMPTS[0], [3, 4]))
    assert followed.noisy.shape[:2] == (STEPS, 2)
    assert not followed.noisy.is_inference()
