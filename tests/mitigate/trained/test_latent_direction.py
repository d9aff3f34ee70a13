"""Latent Direction trains vectors by the error of the prediction, and adds them at every step."""

import pytest
import torch
from diffusers import DDPMScheduler

from audit.mitigate.method import Batch
from audit.mitigate.trained.latent_direction import DrawnExamples, key_of, reconstruction_loss
from tests.mitigate.trained.fits import PROMPTS, STEPS, InMemory, audit_of, fitted, ready, tools_of

PATHS = ("mid_block", "conv_in")


@pytest.fixture(scope="module")
def fit(tiny_pipeline):
    audit = audit_of(tiny_pipeline, "latent_direction", "gender", hookpoints=PATHS)
    tools = tools_of(audit)
    return tools, *fitted(audit, tools)


def test_the_loss_is_the_mean_squared_error_of_the_noise_with_the_vector_added(fit):
    tools, request, examples, trained = fit
    drawn, size = DrawnExamples.of(examples, request), 4
    loss = float(reconstruction_loss(tools.model, drawn.batch(7, size), trained.tensors, PATHS))
    batch, unet = drawn.batch(7, size), tools.generator.denoiser
    scheduler = DDPMScheduler.from_config(tools.generator.pipeline.scheduler.config)
    times = torch.randint(scheduler.config.num_train_timesteps, (size,), generator=batch.generator)
    noise = torch.randn(batch.latents.shape, generator=batch.generator)
    noisy, errors = scheduler.add_noise(batch.latents, noise, times), []
    for row in range(size):  # one image at a time, with hooks of torch and texts from the pipeline itself
        hooks = []
        for path in PATHS:
            vector = trained.tensors[key_of(path, batch.groups[row])]
            hooks.append(unet.get_submodule(path).register_forward_hook(lambda _m, _i, out, v=vector: out + v))
        text = tools.generator.pipeline.encode_prompt(batch.texts[row], "cpu", 1, False)[0]
        with torch.no_grad():
            predicted = unet(noisy[row : row + 1], times[row], encoder_hidden_states=text).sample
        errors.append((predicted - noise[row]).square().mean())
        for hook in hooks:
            hook.remove()
    assert loss == pytest.approx(float(torch.stack(errors).mean()), rel=1e-4)


def test_training_on_named_images_reads_the_prompt_without_the_group(fit):
    _, request, examples, _ = fit
    batch = DrawnExamples.of(examples, request).batch(0, 6)
    assert set(batch.texts) <= {prompt.text for prompt in PROMPTS}
    assert batch.groups == ("female", "male") * 3


def test_a_longer_training_reconstructs_better(fit, tiny_pipeline):
    tools, request, examples, _ = fit
    from audit.mitigate.trained.latent_direction import LatentDirectionFit

    longer = type(request)(
        request.mitigation.model_copy(update={"steps": 60, "batch": 8, "learning_rate": 0.05}),
        request.groups,
        request.template,
        request.sampling,
    )
    vectors = LatentDirectionFit().train(tools, longer, examples, InMemory()).tensors
    nothing = {name: torch.zeros_like(vector) for name, vector in vectors.items()}
    drawn = DrawnExamples.of(examples, request)

    def held_out(values):
        with torch.no_grad():
            return float(reconstruction_loss(tools.model, drawn.batch(10_000, 64), values, PATHS))

    assert held_out(vectors) < held_out(nothing)


def test_each_image_gets_the_vector_of_its_group_at_every_step(fit, tmp_path):
    _, request, _, trained = fit
    assigned = ("male", "female", "male")
    mitigation = request.mitigation.model_copy(update={"strength": 2.0, "window": (0.0, 0.5)})
    arm = ready(mitigation, trained.tensors, tmp_path)(Batch(PROMPTS[0], assigned, STEPS, ""))
    assert (arm.assigned, arm.window, set(arm.edits)) == (assigned, range(2), set(PATHS))
    for path in PATHS:
        vectors = torch.stack([trained.tensors[key_of(path, group)] for group in assigned])
        h = torch.randn(vectors.shape, generator=torch.Generator().manual_seed(0))
        for step in range(STEPS):
            torch.testing.assert_close(arm.edits[path](step, h), h + 2 * vectors)


def test_centred_vectors_have_no_common_part_and_keep_their_differences(fit, tmp_path):
    _, request, _, trained = fit
    batch = Batch(PROMPTS[0], ("male", "female"), STEPS, "")
    centred = ready(request.mitigation.model_copy(update={"centred": True}), trained.tensors, tmp_path)(batch)
    plain = ready(request.mitigation, trained.tensors, tmp_path)(batch)
    for path in PATHS:
        h = torch.zeros(2, *trained.tensors[key_of(path, "male")].shape)
        male, female = centred.edits[path](0, h)
        torch.testing.assert_close(male, -female)
        own = plain.edits[path](0, h)
        torch.testing.assert_close(male - female, own[0] - own[1])
