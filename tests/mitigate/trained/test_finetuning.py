"""Finetuning: its loss, its checkpoints, and a training that reaches its target."""

import dataclasses

import numpy as np
import pytest
import torch

from audit.config.mitigations.weights import FinetuningConfig
from audit.config.slices import MeasurementRequest
from audit.mitigate.tools import FitTools
from audit.mitigate.trained import finetuning
from audit.mitigate.trained.finetuning import FinetuningFit, Training
from audit.mitigate.trained.finetuning_loss import CLIP, CODES, PROBABLE, FinetuningLoss, alignment_loss, distance_from
from audit.mitigate.trained.low_rank import BorrowedLowRank
from audit.mitigate.training import Schedule, optimise
from audit.models.generator import DiffusionGenerator
from audit.perception.judges.perceived import NO_GROUP, Perceived
from audit.planning.fits import cost_of_fit, fit_requests, fit_settings
from audit.records.work import Status
from tests.mitigate.fitting import ByBrightness, bundled_clip
from tests.mitigate.trained.fits import PROMPTS, STEPS, InMemory, audit_of, fitted, tools_of

SECTION = {"name": "m", "method": "finetuning", "attribute": "gender"}


@pytest.fixture(scope="module")
def fit(tiny_pipeline):
    audit = audit_of(tiny_pipeline, "finetuning", "gender")
    tools = tools_of(audit)
    return tools, *fitted(audit, tools)


def replaced(request, **settings):
    return dataclasses.replace(request, mitigation=request.mitigation.model_copy(update=settings))


def test_an_interrupted_training_ends_like_one_without_a_break(fit):
    tools, request, examples, whole = fit
    training, checkpoint = Training.of(tools, request, examples), InMemory()

    def until_the_third(step):
        if step == 2:
            raise KeyboardInterrupt
        return training.step(step)

    with pytest.raises(KeyboardInterrupt), tools.model.frozen():
        optimise(training.factors, until_the_third, Schedule("t", 4, 0.05, save_every=2), checkpoint)
    resumed = FinetuningFit().train(tools, request, examples, checkpoint)
    assert resumed.report == whole.report
    for name, tensor in whole.tensors.items():
        assert torch.equal(resumed.tensors[name], tensor), name


def test_the_denoiser_of_a_model_with_a_u_net_may_be_called_so(fit):
    """The former name is read and stored as it was, and trains the same."""
    tools, request, examples, whole = fit
    former = replaced(request, networks=("text_encoder", "unet"))
    assert former.mitigation.fitted_by["networks"] == ["text_encoder", "unet"]
    trained = FinetuningFit().train(tools, former, examples, InMemory())
    assert {name.partition(".")[0] for name in whole.tensors} == {"text_encoder", "unet"}
    assert all(torch.equal(trained.tensors[name], tensor) for name, tensor in whole.tensors.items())


def test_the_gradient_by_the_latents_is_that_of_the_loss(fit):
    tools, request, examples, _ = fit
    request = replaced(request, uncertainty=0.9, images_at_once=2)
    loss, (prompt, seen) = FinetuningLoss(tools, request), examples[0]
    latents = tools.generator.latents([prompt.text] * 4, [1, 2, 3, 4])
    value, gradient = loss.of_images(prompt, latents, seen, 0)
    away = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    near = [loss.of_images(prompt, latents + step * away, seen, 0)[0] for step in (-1e-2, 1e-2)]
    assert value > 0
    assert (near[1] - near[0]) / 2e-2 == pytest.approx(float((gradient * away).sum()), rel=0.05, abs=1e-3)
    at_once = FinetuningLoss(tools, replaced(request, images_at_once=8)).of_images(prompt, latents, seen, 0)
    torch.testing.assert_close(at_once[1], gradient, rtol=1e-3, atol=1e-6)


def test_images_that_are_left_out_have_no_alignment_loss():
    logs = torch.tensor([[0.7, 0.3], [0.7, 0.3], [0.2, 0.8]]).log()
    found = alignment_loss(logs, torch.tensor([1, 1, 1]), torch.tensor([True, False, True]))
    torch.testing.assert_close(found, -torch.tensor([0.3, 1.0, 0.8]).log())


def test_an_image_that_must_flip_may_change_more(fit):
    tools, request, examples, _ = fit
    prompt, seen = examples[0]
    latents = tools.generator.latents([prompt.text] * 4, [1, 2, 3, 4])
    far = {**seen, CLIP: -seen[CLIP]}

    def value(**settings):
        loss = FinetuningLoss(tools, replaced(request, uncertainty=0.99, **settings))
        targets, kept = loss._targets(prompt, latents, 0)
        assert bool(kept.all())
        codes = {"none": targets, "all": 1 - targets}
        return [loss.of_images(prompt, latents, far | {PROBABLE: codes[which]}, 0)[0] for which in ("none", "all")]

    kept, flipped = value(flip_factor=0.25)
    aligned = value(clip_weight=0.0)[0]
    assert flipped - aligned == pytest.approx(0.25 * (kept - aligned), rel=1e-4)


def test_images_without_a_face_or_outside_the_groups_take_no_part(fit):
    tools, request, *_ = fit

    class Partly(ByBrightness):
        def perceive(self, images, occupation):
            seen = super().perceive(images, occupation)
            statuses = [Status.NO_FACE, Status.LOW_CONFIDENCE, *[Status.CLASSIFIED] * (len(images) - 2)]
            outside = np.array([False, False, False, True])
            return dataclasses.replace(seen, statuses=statuses, outside={"gender": outside})

    own = FitTools(tools.generator, lambda: Partly(("female", "male")), tools.lens, bundled_clip)
    request = dataclasses.replace(request, sampling=request.sampling.model_copy(update={"batch": 4}))
    latents = tools.generator.latents([PROMPTS[0].text] * 4, [1, 2, 3, 4])
    _, kept = FinetuningLoss(own, replaced(request, uncertainty=0.99))._targets(PROMPTS[0], latents, 0)
    assert kept.tolist() == [False, True, True, False]


def test_a_judge_without_gradients_is_refused(fit):
    tools, request, *_ = fit

    class Blind:
        signature = "blind"

        def perceive(self, images, occupation):
            return None

    own = FitTools(tools.generator, Blind, tools.lens, bundled_clip)
    with pytest.raises(ValueError, match="expected a judge with gradients for finetuning, found blind"):
        _ = FinetuningLoss(own, request).judge


class Bright:
    """A judge of two groups: the probability of the bright one rises with the mean brightness, smoothly."""

    signature = "bright"

    def __init__(self, centre, width):
        self.centre, self.width = centre, width

    def with_gradients(self, pictures, attribute):
        raised = (pictures.mean((1, 2, 3)) - self.centre) / self.width
        return torch.log_softmax(torch.stack([-raised, raised], 1), 1)

    def perceive(self, images, occupation):
        shares = self.with_gradients(images.float() / 255, "gender").exp().numpy()
        return Perceived({"gender": shares}, [Status.CLASSIFIED] * len(images), None)


def test_a_training_moves_the_judged_shares_to_an_uneven_target(tiny_pipeline):
    """No image of the model is bright; three quarters must become so."""
    audit = audit_of(
        tiny_pipeline, "finetuning", "gender", networks=("unet",), rank=4, steps=16, images_per_step=8, noises=8,
        learning_rate=0.03, clip_weight=0.0, gradient_steps=None, images_at_once=8, uncertainty=0.3,
        target={"female": 0.25, "male": 0.75},
    )  # fmt: skip
    [request] = fit_requests(MeasurementRequest.of(audit))
    generator = tools_of(audit).generator
    means = generator.generate(PROMPTS[0], finetuning._seeds(PROMPTS[0], 8)).float().mean((1, 2, 3)) / 255
    spread = float(means.max() - means.min())
    tools = FitTools(generator, lambda: Bright(float(means.max()) + 0.1 * spread, spread / 2), None, bundled_clip)
    fit = FinetuningFit()
    examples = [(PROMPTS[0], fit.examples(tools, request, PROMPTS[0]))]
    trained = fit.train(tools, request, examples, InMemory())
    assert trained.report["distance_before"] == 0.75
    assert trained.report["distance_after"] <= 0.25
    assert trained.report["last_loss"] < trained.report["first_loss"]
    assert trained.report["counted_images"] == 8


def test_the_distance_is_that_of_the_worst_group():
    target = torch.tensor([0.5, 0.5])
    assert distance_from(target, torch.tensor([0, 0, 0, 1, NO_GROUP])) == pytest.approx(0.25)
    assert distance_from(target, torch.tensor([NO_GROUP])) == 1.0


def test_a_change_of_the_text_encoder_trains_no_unet(fit):
    tools, request, examples, _ = fit
    training = Training.of(tools, replaced(request, networks=("text_encoder",)), examples)
    assert {name.partition(".")[0] for name in training.factors} == {"text_encoder"}
    arm = finetuning.with_change(BorrowedLowRank(training.factors), 2, 3)
    assert arm.weights is None
    assert arm.encoders is not None


def test_fewer_steps_of_the_sampler_are_a_setting_of_the_training(fit):
    tools, request, examples, _ = fit
    training = Training.of(tools, replaced(request, sampler_steps=2, gradient_steps=None), examples)
    assert (training.generator.steps, tools.generator.steps) == (2, STEPS)
    loss, gradients = training.step(0)
    assert loss > 0
    assert sum(float(gradient.abs().sum()) for gradient in gradients) > 0


def test_a_resumed_training_with_own_steps_reads_the_empty_prompt_without_the_change(tiny_pipeline):
    """Its first call of the model comes when the factors are no longer 0."""
    audit = audit_of(tiny_pipeline, "finetuning", "gender", sampler_steps=2, gradient_steps=None)
    [request] = fit_requests(MeasurementRequest.of(audit))
    examples = [(PROMPTS[0], FinetuningFit().examples(tools_of(audit), request, PROMPTS[0]))]

    def gradients(tools):
        training = Training.of(tools, request, examples)
        draw = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for factor in training.factors.values():
                factor.copy_(0.3 * torch.randn(factor.shape, generator=draw))
        with tools.model.frozen():
            return training.step(0)

    used = tools_of(audit)
    used.model.is_guided(PROMPTS[0].text)
    (loss, expected), (own, found) = gradients(used), gradients(tools_of(audit))
    assert own == loss
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


def test_an_uncertain_image_keeps_the_group_that_it_shows_most(fit):
    """It is not counted, but an image that stays in its group must not count as one that changes it."""
    tools, request, *_ = fit

    class Unsure(ByBrightness):
        def perceive(self, images, occupation):
            seen = super().perceive(images, occupation)
            statuses = [Status.LOW_CONFIDENCE, Status.NO_FACE, *[Status.CLASSIFIED] * (len(images) - 2)]
            return dataclasses.replace(seen, statuses=statuses)

    own = FitTools(tools.generator, lambda: Unsure(("female", "male")), tools.lens, bundled_clip)
    images = tools.generator.generate(PROMPTS[0], [1, 2, 3])
    seen = FinetuningLoss(own, request).seen(PROMPTS[0], images)
    shown = ByBrightness(("female", "male")).perceive(images, "").probabilities["gender"].argmax(1)
    assert seen[CODES].tolist() == [NO_GROUP, NO_GROUP, shown[2]]
    assert seen[PROBABLE].tolist() == [shown[0], NO_GROUP, shown[2]]


def test_no_more_images_than_a_batch_are_sampled_or_decoded_at_once(fit, monkeypatch):
    tools, request, examples, _ = fit
    found, sizes = [], []
    latents_of, decode = DiffusionGenerator.latents, DiffusionGenerator.decode

    def latents(self, texts, seeds, intervention=None):
        sizes.append(len(seeds))
        return latents_of(self, texts, seeds, intervention)

    def decoded(self, rows):
        sizes.append(len(rows))
        return decode(self, rows)

    for batch in (3, 2):
        own = dataclasses.replace(request, sampling=request.sampling.model_copy(update={"batch": batch}))
        with monkeypatch.context() as patched:
            patched.setattr(DiffusionGenerator, "latents", latents)
            patched.setattr(DiffusionGenerator, "decode", decoded)
            found.append(Training.of(tools, own, examples).step(0))
    assert sizes == [3, 3, 2, 1, 2, 1]
    (loss, gradients), (other, in_batches) = found
    assert other == pytest.approx(loss, rel=1e-4)
    for one, two in zip(gradients, in_batches, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-4)


def test_what_names_a_fit_and_what_it_costs(tiny_pipeline):
    def request_of(**settings):
        return next(fit_requests(MeasurementRequest.of(audit_of(tiny_pipeline, "finetuning", "gender", **settings))))

    plain = fit_settings(request_of(), PROMPTS)
    assert fit_settings(request_of(strength=2.0), PROMPTS) == plain
    for changes in (
        {"target": {"female": 0.3, "male": 0.7}},
        {"rank": 3},
        {"networks": ("unet",)},
        {"uncertainty": 0.3},
    ):
        assert fit_settings(request_of(**changes), PROMPTS) != plain
    cost = cost_of_fit(request_of(), PROMPTS)
    assert cost == {"images": 2 * 2 * 4 + 4 * 3, "training_steps": 4, "gradient_passes": 2 * 4 * 3 * 2}
    assert cost_of_fit(request_of(networks=("text_encoder",)), PROMPTS)["gradient_passes"] == 4 * 3 * 2
    published = FinetuningConfig(**SECTION)
    assert published.gradient_passes(20, guided=True) == 10_000 * 24 * 20
    assert (
        FinetuningConfig(**SECTION, sampler_steps=5, gradient_steps=9).gradient_passes(20, guided=True)
        == 10_000 * 24 * 5
    )


def test_parts_say_what_no_second_method_can_change():
    texts, weights = (FinetuningConfig(**SECTION, networks=(part,)).used_alone for part in ("text_encoder", "unet"))
    assert (texts, weights) == (("the text of the prompt",), ("weights",))
    assert FinetuningConfig(**SECTION, networks=("text_encoder", "unet")).used_alone == (*weights, *texts)
