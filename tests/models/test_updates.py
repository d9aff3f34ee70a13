"""Updates of blocks: output minus input, read in both guidance halves, edited and restored; and predicted images."""

from types import SimpleNamespace

import pytest
import torch

from audit.config.sections import ModelConfig, SamplingConfig
from audit.models.files.untrusted_model import UnfitModelError
from audit.models.generator import WatchedInside, load_generator, without_overflow
from audit.models.hooks import edit_place
from audit.models.intervention import Intervention
from audit.models.schedulers.predicted import predicted_latents

BLOCK = "mid_block.attentions.0"
TEXTS, SEEDS = ["a photo of a doctor"] * 2, [1, 2]


def load(tiny_pipeline, **sampling):
    settings = {"steps": 3, "guidance": 2.0, "scheduler": "DDIMScheduler"} | sampling
    return load_generator(ModelConfig(source=str(tiny_pipeline)), SamplingConfig(**settings))


@pytest.fixture(scope="module")
def generator(tiny_pipeline):
    return load(tiny_pipeline)


def test_an_update_is_output_minus_input_and_its_edit_adds_to_the_input():
    linear = torch.nn.Linear(3, 3)
    x = torch.randn(2, 5, 3)
    seen = []
    with edit_place(linear, "update", lambda h: seen.append(h) or h):
        assert torch.equal(linear(x), linear.forward(x))  # bit for bit
    assert torch.allclose(seen[0].squeeze(-1).transpose(1, 2), linear(x) - x)
    with edit_place(linear, "update", torch.zeros_like):
        assert torch.equal(linear(x), x)


def test_an_update_needs_an_input_of_the_shape_of_the_output_and_is_given_back_after_an_error():
    narrow = torch.nn.Linear(3, 2)
    with pytest.raises(TypeError, match="an update is what a module adds"), edit_place(narrow, "update", lambda h: h):
        narrow(torch.randn(2, 5, 3))
    assert not narrow._forward_hooks


def test_both_halves_are_seen_at_every_step_and_pictures_stay_as_they_are(generator):
    seen, first = {"with": [], "without": []}, []
    inside = WatchedInside(
        conditional={f"update:{BLOCK}": lambda step, h: seen["with"].append((step, h))},
        unconditional={f"update:{BLOCK}": lambda step, h: seen["without"].append((step, h))},
        predicted=lambda step, latents: first.append((step, latents)),
    )
    images = generator.watch(TEXTS, SEEDS, inside)
    assert torch.equal(images, generator.sample(TEXTS, SEEDS))
    for half in seen.values():
        assert [step for step, _ in half] == [0, 1, 2]
        assert all(len(h) == 2 for _, h in half)
    assert not torch.equal(seen["with"][0][1], seen["without"][0][1])
    assert [step for step, _ in first] == [0, 1, 2]
    # The last step of DDIM ends in the image that it predicts, but for the noise of the first training timestep.
    assert (generator.decode(first[-1][1]).int() - images.int()).abs().max() <= 3
    assert (generator.decode(first[0][1]).int() - images.int()).abs().max() > 3


def test_an_update_is_edited_in_its_window_only(generator):
    def with_window(window):
        edits = {f"update:{BLOCK}": lambda _step, h: torch.zeros_like(h)}
        return generator.sample(TEXTS, SEEDS, Intervention((None, None), window, edits=edits))

    assert torch.equal(with_window(range(0)), generator.sample(TEXTS, SEEDS))
    assert not torch.equal(with_window(range(3)), generator.sample(TEXTS, SEEDS))


def test_the_half_without_text_needs_guidance(tiny_pipeline):
    inside = WatchedInside({}, {f"update:{BLOCK}": lambda _step, _h: None})
    with pytest.raises(UnfitModelError, match="expected classifier-free guidance in one batch of 4, found"):
        load(tiny_pipeline, guidance=1.0).watch(TEXTS, SEEDS, inside)


def test_hooks_are_removed_if_an_observer_fails(generator):
    def fail(_step, _h):
        raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        generator.watch(TEXTS, SEEDS, WatchedInside({f"update:{BLOCK}": fail}))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in generator.denoiser.modules())
    assert "step" not in vars(generator.pipeline.scheduler)


KINDS = ["DDIMScheduler", "EulerDiscreteScheduler", "DPMSolverMultistepScheduler"]


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_the_predicted_image_is_exact_for_a_known_noise(name, kind):
    import diffusers

    scheduler = getattr(diffusers, name)(prediction_type=kind)
    scheduler.set_timesteps(10)
    at = scheduler.timesteps[4]
    image, noise = torch.randn(2, 1, 4, 2, 2, generator=torch.Generator().manual_seed(0)).unbind(0)
    level = scheduler.alphas_cumprod[int(at)] if name != KINDS[1] else 1 / (1 + scheduler.sigmas[4] ** 2)
    signal, rest = level**0.5, (1 - level) ** 0.5
    noisy = signal * image + rest * noise
    prediction = noise if kind == "epsilon" else signal * noise - rest * image
    stored = noisy / signal if name == KINDS[1] else noisy
    found = predicted_latents(scheduler, prediction, at, stored)
    assert torch.allclose(found, image, atol=1e-4)


def test_the_predicted_image_of_a_flow_is_exact():
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(10)
    image, noise = torch.randn(2, 1, 4, 2, 2, generator=torch.Generator().manual_seed(0)).unbind(0)
    sigma = scheduler.sigmas[3]
    noisy = (1 - sigma) * image + sigma * noise
    assert torch.allclose(predicted_latents(scheduler, noise - image, scheduler.timesteps[3], noisy), image, atol=1e-5)


REFUSED = [
    ("KDPM2DiscreteScheduler", {}, "expected a scheduler whose predicted images are known, found KDPM2"),
    ("EDMEulerScheduler", {}, "expected a scheduler whose predicted images are known, found EDM"),
    ("DPMSolverMultistepScheduler", {"prediction_type": "flow_prediction"}, "found 'flow_prediction'"),
]


@pytest.mark.parametrize(("name", "settings", "message"), REFUSED)
def test_a_predicted_image_that_would_be_wrong_is_refused(name, settings, message):
    import diffusers

    scheduler = getattr(diffusers, name)(**settings)
    scheduler.set_timesteps(10)
    latents = torch.zeros(1, 4, 2, 2)
    with pytest.raises(UnfitModelError, match=message):
        predicted_latents(scheduler, latents, scheduler.timesteps[4], latents)


@pytest.mark.parametrize(("upcast", "decoded"), [(True, torch.float32), (False, torch.float16)])
def test_a_vae_that_overflows_in_float16_decodes_in_float32_and_is_given_back(upcast, decoded):
    vae = torch.nn.Linear(1, 1).half()
    vae.config, vae.dtype = SimpleNamespace(force_upcast=upcast), torch.float16
    with without_overflow(vae):
        assert vae.weight.dtype == decoded
    assert vae.weight.dtype == torch.float16
