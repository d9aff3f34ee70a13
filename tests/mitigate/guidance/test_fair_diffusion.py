"""Fair Diffusion draws what diffusers' own semantic guidance draws, for any number of groups, at the planned cost."""

import pytest
import torch
from pydantic import TypeAdapter

from audit.config.mitigations.registry import MitigationConfig
from audit.config.sections import ModelConfig, SamplingConfig
from audit.config.settings import AuditConfig
from audit.mitigate.guidance.fair_diffusion import FairDiffusion, SemanticGuidance, signs_of
from audit.mitigate.method import Batch
from audit.models.generator import load_generator
from audit.models.intervention import Predictions
from audit.planning.plan import steps_of_arms
from audit.preflight.model import check_methods
from audit.records.work import Prompt
from benchmarks.tiny_families import save_flux, save_lcm

STEPS, SEEDS, GUIDANCE = 8, [3, 4], 3.0
GROUPS = ("female", "male")
TEMPLATE = "a face photo of {a} {occupation}"
DOCTOR = Prompt("doctor", "a face photo of a doctor", "doctor")
SAMPLING = SamplingConfig(steps=STEPS, guidance=GUIDANCE, scheduler="DDIMScheduler")


def section(**settings):
    plain = {"name": "fd", "method": "fair_diffusion", "attribute": "gender", **settings}
    return TypeAdapter(MitigationConfig).validate_python(plain)


@pytest.fixture(scope="module")
def generator(tiny_pipeline):
    return load_generator(ModelConfig(source=str(tiny_pipeline)), SAMPLING)


def steered(mitigation, *assigned, groups=GROUPS):
    return FairDiffusion().ready(mitigation, None, None)(Batch(DOCTOR, assigned, STEPS, TEMPLATE, groups))


@pytest.mark.parametrize(
    "settings",
    [{}, {"scale": 9.0, "threshold": 0.6, "warm_up": 2, "momentum": 1.0, "group_text": "{group} person"}],
)
def test_pictures_are_those_of_the_semantic_guidance_of_diffusers(generator, settings):
    from diffusers import SemanticStableDiffusionPipeline

    mitigation, own = section(**settings), generator.pipeline
    published = SemanticStableDiffusionPipeline(
        own.vae, own.text_encoder, own.tokenizer, own.unet, own.scheduler, None, None, requires_safety_checker=False
    )
    published.set_progress_bar_config(disable=True)
    ours = generator.generate(DOCTOR, SEEDS, steered(mitigation, "female", "male"))
    plain = generator.generate(DOCTOR, SEEDS)
    named = "a face photo of a {} person" if mitigation.group_text is None else "{} person"
    for image, (seed, away) in enumerate(zip(SEEDS, ("male", "female"), strict=True)):
        drawn = published(
            DOCTOR.text,
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE,
            generator=torch.Generator().manual_seed(seed),
            editing_prompt=[named.format(away), named.format(GROUPS[1 - GROUPS.index(away)])],
            reverse_editing_direction=[True, False],
            edit_warmup_steps=mitigation.warm_up,
            edit_guidance_scale=mitigation.scale,
            edit_threshold=mitigation.threshold,
            edit_momentum_scale=mitigation.momentum,
            edit_mom_beta=mitigation.momentum_decay,
            output_type="np",
        ).images[0]
        expected = torch.from_numpy(drawn * 255).round().permute(2, 0, 1)
        assert (ours[image] - expected).abs().max() <= 1
        assert (plain[image] - expected).abs().max() > 3


def test_two_groups_are_guided_as_published_and_others_share_the_way_away():
    assert signs_of(GROUPS, ("male", "female")).tolist() == [[-1, 1], [1, -1]]
    assert signs_of(("a", "b", "c"), ("b",)).tolist() == [[-0.5], [1], [-0.5]]
    with pytest.raises(ValueError, match="at least two groups"):
        signs_of(("a",), ("a",))


def test_a_step_adds_the_largest_elements_and_the_momentum_of_the_steps_before():
    numbers = torch.Generator().manual_seed(0)
    guided, plain, *concepts = (torch.randn(1, 1, 4, 5, generator=numbers) for _ in range(4))
    settings = section(scale=2.0, threshold=0.5, warm_up=1, momentum=0.3, momentum_decay=0.8)
    guide = SemanticGuidance(settings, signs_of(GROUPS, ("male",)))
    predictions = Predictions(guided, plain, torch.stack(concepts))
    gamma = torch.zeros(20)
    for sign, concept in zip((-1, 1), concepts, strict=True):
        towards = (sign * 2.0 * (concept - plain)).flatten()
        kept = towards.abs().argsort(descending=True)[:10]
        gamma[kept] += towards[kept]
    assert torch.equal(guide(0, predictions), guided)  # the warm-up
    momentum = 0.2 * gamma
    torch.testing.assert_close(guide(1, predictions).flatten(), guided.flatten() + gamma + 0.3 * momentum)
    assert torch.equal(guide(0, predictions), guided)  # a new batch begins
    torch.testing.assert_close(guide(1, predictions).flatten(), guided.flatten() + gamma + 0.3 * momentum)


@pytest.mark.parametrize(("groups", "calls"), [(GROUPS, 2), (("female", "male", "old"), 3)])
def test_the_planned_calls_are_those_of_the_denoiser(generator, groups, calls, monkeypatch):
    rows, forward = [], generator.denoiser.forward
    monkeypatch.setattr(
        generator.denoiser,
        "forward",
        lambda sample, *rest, **named: rows.append(len(sample)) or forward(sample, *rest, **named),
    )
    generator.generate(DOCTOR, SEEDS, steered(section(), "female", "male", groups=groups))
    assert rows == [2 * len(SEEDS)] * STEPS * calls
    planned = steps_of_arms([section()], STEPS, {"gender": groups}) - steps_of_arms([], STEPS, {})
    assert planned == STEPS * calls


@pytest.mark.parametrize("save", [save_flux, save_lcm])
def test_a_model_without_guidance_in_one_batch_is_refused_in_words(tmp_path, save):
    model = ModelConfig(source=str(save(tmp_path)))
    sampling = SamplingConfig(steps=2, guidance=3.0, height=32, width=32)
    [problem] = check_methods(model, sampling, [section()])
    assert problem.location == ("mitigations", 0, "method")
    assert "classifier-free guidance in one batch" in problem.message
    generator = load_generator(model, sampling, "transformer_blocks.0")
    with pytest.raises(ValueError, match="classifier-free guidance in one batch"):
        generator.generate(DOCTOR, SEEDS, steered(section(), "female", "male"))


def test_guidance_that_is_off_is_refused_in_words(tiny_pipeline):
    model, sampling = ModelConfig(source=str(tiny_pipeline)), SamplingConfig(steps=2, guidance=1.0)
    assert len(list(check_methods(model, sampling, [section()]))) == 1
    with pytest.raises(ValueError, match=r"found a batch of 2; set sampling.guidance above 1"):
        load_generator(model, sampling).generate(DOCTOR, SEEDS, steered(section(), "female", "male"))


@pytest.mark.parametrize("text", ["person", "{group} {group}", "{group} {job}", "{group"])
def test_a_text_that_names_no_group_is_a_mistake_of_the_config(text):
    with pytest.raises(ValueError, match=r"expected a text with \{group\} once"):
        AuditConfig(
            name="x",
            mitigations=[{"name": "fd", "method": "fair_diffusion", "attribute": "gender", "group_text": text}],
        )
