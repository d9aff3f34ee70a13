"""Calls with gradients give what sampling computes, and leave the model as it was."""

import pytest
import torch

from audit.config.sections import ModelConfig, SamplingConfig
from audit.mitigate.trained.adjusted_gradient import follow
from audit.models.generator import load_generator
from audit.models.trainable.model import TrainableModel
from benchmarks.tiny_families import FAMILIES

TEXT = "a face photo of a doctor"
SEEDS = [1, 2]


def hookpoint_of(generator):
    return "mid_block" if hasattr(generator.denoiser, "mid_block") else "transformer_blocks.0"


def loaded(source, **sampling):
    return load_generator(ModelConfig(source=str(source)), SamplingConfig(steps=3, **sampling))


@pytest.fixture(scope="module", params=["sd", "sdxl", "lcm", "pixart", "sd3", "sana", "flux"])
def generator(request, tmp_path_factory):
    size = {"height": 512, "width": 512} if request.param == "sana" else {}  # its pipeline enlarges pictures otherwise
    return loaded(FAMILIES[request.param](tmp_path_factory.mktemp(request.param)), guidance=3.0, **size)


def test_predictions_are_those_of_the_first_call_of_the_pipeline(generator):
    model = TrainableModel(generator)
    noisy = model.initial_noise(TEXT, SEEDS)
    sampled = generator.first_prediction(TEXT, SEEDS, {})[:, : noisy.shape[1]]  # PixArt also predicts variances
    times = model.timesteps[:1].expand(2)
    torch.testing.assert_close(model.predict(noisy, times, [TEXT] * 2), sampled[-2:], rtol=1e-4, atol=1e-5)
    if len(sampled) > 2:
        without = model.predict(noisy, times, [TEXT] * 2, empty=2)
        torch.testing.assert_close(without, sampled[:2], rtol=1e-4, atol=1e-5)


def test_decoded_latents_are_the_pictures_of_the_pipeline(generator):
    pictures = TrainableModel(generator).pictures(generator.latents([TEXT] * 2, SEEDS))
    difference = pictures.mul(255).round() - generator.sample([TEXT] * 2, SEEDS)
    assert difference.abs().max() <= 1


def test_a_vae_that_overflows_in_half_precision_has_finite_gradients(tmp_path):
    generator = loaded(FAMILIES["sdxl"](tmp_path), guidance=3.0)
    latents, vae, model = generator.latents([TEXT], [1]), generator.pipeline.vae, TrainableModel(generator)
    vae.decoder.conv_in.weight.data.mul_(1e5)  # the last group norm takes it off again
    vae.register_to_config(force_upcast=True)
    vae.half()
    own = latents.clone().requires_grad_(True)
    with model.frozen():
        pictures = model.pictures(own)
        pictures.sum().backward()
    assert vae.dtype == torch.float16
    assert bool(pictures.isfinite().all())
    assert bool(own.grad.isfinite().all())


def test_an_edit_has_a_gradient_and_frozen_weights_have_none(generator):
    model = TrainableModel(generator)
    noisy, times = model.initial_noise(TEXT, SEEDS), torch.tensor([500, 500])
    hookpoint = hookpoint_of(generator)
    shift = torch.zeros(model.map_shape(hookpoint, noisy[:1], TEXT), requires_grad=True)
    with model.frozen():
        model.predict(noisy, times, [TEXT] * 2, {hookpoint: lambda h: h + shift}).square().sum().backward()
    assert shift.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in generator.denoiser.parameters())


def test_what_asked_for_gradients_asks_again_after_an_exception(generator):
    before = [parameter.requires_grad for parameter in generator.denoiser.parameters()]
    assert any(before)
    images = generator.sample([TEXT] * 2, SEEDS)
    with TrainableModel(generator).frozen():
        assert not any(parameter.requires_grad for parameter in generator.denoiser.parameters())
    with pytest.raises(RuntimeError), TrainableModel(generator).frozen():
        raise RuntimeError
    assert [parameter.requires_grad for parameter in generator.denoiser.parameters()] == before
    assert torch.equal(generator.sample([TEXT] * 2, SEEDS), images)


def test_weights_in_half_precision_give_losses_in_single(tiny_pipeline):
    generator = load_generator(
        ModelConfig(source=str(tiny_pipeline), dtype="bfloat16"), SamplingConfig(steps=3, guidance=3.0)
    )
    model = TrainableModel(generator)
    assert model.dtype == torch.bfloat16
    noisy, times = model.initial_noise(TEXT, SEEDS), torch.tensor([500, 500])
    shift = torch.zeros(model.map_shape("mid_block", noisy[:1], TEXT), requires_grad=True)
    predicted = model.predict(noisy, times, [TEXT] * 2, {"mid_block": lambda h: h + shift.to(h.dtype)})
    pictures = model.pictures(model.levels.image(noisy, predicted, times))
    assert predicted.dtype == pictures.dtype == torch.float32
    (gradient,) = torch.autograd.grad(pictures.sum(), shift)
    assert gradient.abs().sum() > 0


def test_a_hookpoint_that_is_not_there_is_named(generator):
    model = TrainableModel(generator)
    hookpoint = hookpoint_of(generator)
    with pytest.raises(ValueError, match=rf"'x{hookpoint}' is not a module .* nearest: {hookpoint}"):
        model.map_shape(f"x{hookpoint}", model.initial_noise(TEXT, [1]), TEXT)


@pytest.mark.parametrize("family", ["sd", "sdxl", "pixart", "sd3", "sana", "flux"])
def test_the_time_embedding_is_the_one_that_the_network_makes_in_a_call(family, tmp_path):
    generator, seen = loaded(FAMILIES[family](tmp_path), guidance=3.0), []
    model, network = TrainableModel(generator), generator.denoiser
    embedding = {
        "pixart": lambda: network.adaln_single.emb,
        "sana": lambda: network.time_embed.emb,
        "sd3": lambda: network.time_text_embed.timestep_embedder,
        "flux": lambda: network.time_text_embed.timestep_embedder,
    }.get(family, lambda: network.time_embedding)()
    hook = embedding.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    times = torch.tensor([500, 20])
    with torch.no_grad():
        model.predict(model.initial_noise(TEXT, SEEDS), times, [TEXT] * 2)
        hook.remove()
        torch.testing.assert_close(model.time_embedding(times), seen[-1])


def test_a_timestep_is_scaled_as_the_pipeline_scales_it(tmp_path):
    generator = loaded(FAMILIES["sana"](tmp_path), guidance=3.0)
    generator.denoiser.register_to_config(timestep_scale=0.001)
    model, seen = TrainableModel(generator), []
    noisy, times = model.initial_noise(TEXT, SEEDS), model.timesteps[:1].expand(2)
    hook = generator.denoiser.time_embed.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    with hook:
        sampled = generator.first_prediction(TEXT, SEEDS, {})
        assert seen.pop().max() <= 1
        torch.testing.assert_close(model.predict(noisy, times, [TEXT] * 2), sampled[2:], rtol=1e-4, atol=1e-5)
        assert seen.pop().max() <= 1
    torch.testing.assert_close(follow(generator, TEXT, SEEDS, None).timesteps, model.timesteps.float())


def test_a_model_without_a_decoder_is_refused_in_words(tmp_path):
    generator = loaded(FAMILIES["ddpm"](tmp_path), guidance=1.0)
    with pytest.raises(ValueError, match=r"expected a latent diffusion model.* choose a method that is not trained"):
        TrainableModel(generator)
