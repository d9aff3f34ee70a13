"""Sampling: what one seed per image, an observer, an edit and an asymmetric step do to the pictures."""

from contextlib import contextmanager

import pytest
import torch

from audit.config.sections import ModelConfig, SamplingConfig
from audit.config.settings import AuditConfig
from audit.models import generator as generators
from audit.models.generator import DiffusionGenerator, RenderedGenerator, load_generator
from audit.models.intervention import Intervention
from audit.models.replay import SharedSteps
from audit.planning.plan import steps_of_arms, window_of
from audit.records.work import Prompt
from tests.pretended_gpu import pretended_gpu

DOCTOR = Prompt("doctor", "a face photo of a doctor", "doctor")
SEEDS = [11, 22, 33]
DDIM = SamplingConfig(steps=4, guidance=3.0, scheduler="DDIMScheduler")


@pytest.fixture(scope="module")
def generator(tiny_pipeline):
    return load_generator(ModelConfig(source=str(tiny_pipeline)), DDIM)


def arm(edit, *, window=range(4), reverse_step="symmetric"):
    return Intervention((None,) * 3, window, reverse_step, edits={"mid_block": edit})


def shifted(_step, h):
    return h + 1.0


def test_the_same_seed_gives_the_same_picture_and_another_seed_another(generator):
    first, again = generator.generate(DOCTOR, SEEDS), generator.generate(DOCTOR, SEEDS)
    assert first.dtype == torch.uint8
    assert first.shape == (3, 3, 16, 16)
    assert torch.equal(first, again)
    assert not torch.equal(first[0], first[1])


def test_a_neutral_edit_leaves_pictures_bit_identical(generator):
    neutral = generator.generate(DOCTOR, SEEDS, arm(lambda _step, h: h + torch.zeros_like(h)))
    assert torch.equal(neutral, generator.generate(DOCTOR, SEEDS))


def test_a_neutral_asymmetric_edit_leaves_pictures_bit_identical(generator):
    neutral = generator.generate(DOCTOR, SEEDS, arm(lambda _step, h: h, reverse_step="asymmetric"))
    assert torch.equal(neutral, generator.generate(DOCTOR, SEEDS))


def test_an_edit_changes_pictures_inside_its_window_alone(generator):
    plain = generator.generate(DOCTOR, SEEDS)
    assert not torch.equal(generator.generate(DOCTOR, SEEDS, arm(shifted)), plain)
    assert torch.equal(generator.generate(DOCTOR, SEEDS, arm(shifted, window=range(0))), plain)


def test_symmetric_and_asymmetric_steps_differ(generator):
    symmetric = generator.generate(DOCTOR, SEEDS, arm(shifted))
    asymmetric = generator.generate(DOCTOR, SEEDS, arm(shifted, reverse_step="asymmetric"))
    assert not torch.equal(symmetric, asymmetric)


@pytest.mark.parametrize(
    ("reverse_step", "window"), [("symmetric", (0, 1)), ("asymmetric", (0, 1)), ("asymmetric", (0.6, 1))]
)
def test_the_network_is_asked_as_often_as_the_plan_says(generator, reverse_step, window):
    passed = []
    unet = generator.denoiser
    handle = unet.mid_block.register_forward_pre_hook(lambda _module, arguments: passed.append(len(arguments[0])))
    edited = arm(shifted, window=window_of(window, 4), reverse_step=reverse_step)
    shared = SharedSteps.of([edited], 4)
    generator.generate(DOCTOR, SEEDS, shared=shared)
    generator.generate(DOCTOR, SEEDS, edited, shared=shared)
    handle.remove()
    mitigation = {"name": "m", "attribute": "age", "reverse_step": reverse_step, "window": window, "strength": 1}
    config = AuditConfig(name="audit", mitigations=[mitigation], sampling={"steps": 4, "guidance": 3.0})
    assert sum(passed) == len(SEEDS) * steps_of_arms(config.mitigations, config.sampling.steps, config.attributes) * 2


def by_text(texts, **more):
    return Intervention((None,) * 3, range(4), texts=texts, **more)


def test_an_intervention_that_says_nothing_leaves_pictures_bit_identical(generator):
    plain = generator.generate(DOCTOR, SEEDS)
    assert torch.equal(generator.generate(DOCTOR, SEEDS, Intervention((None,) * 3, range(4))), plain)
    assert torch.equal(generator.generate(DOCTOR, SEEDS, by_text((DOCTOR.text,) * 3)), plain)
    blocks = {"mid_block": (DOCTOR.text,) * 3}
    same = Intervention((None,) * 3, range(4), block_texts=blocks, noise=lambda _step, prediction: prediction)
    assert torch.equal(generator.generate(DOCTOR, SEEDS, same), plain)


def test_other_texts_draw_what_their_own_prompts_draw(generator):
    texts = ("a nurse", DOCTOR.text, "a photo of a nurse")
    found = generator.generate(DOCTOR, SEEDS, by_text(texts))
    assert torch.equal(found, generator.sample(texts, SEEDS))


def test_a_text_given_to_every_block_is_a_text_given_to_the_network(generator):
    whole = generator.generate(DOCTOR, SEEDS, by_text(("a nurse",) * 3))
    by_block = dict.fromkeys(("down_blocks.1", "mid_block", "up_blocks.0"), ("a nurse",) * 3)
    found = generator.generate(DOCTOR, SEEDS, Intervention((None,) * 3, range(4), block_texts=by_block))
    assert (found.int() - whole.int()).abs().max() <= 1
    one = generator.generate(
        DOCTOR, SEEDS, Intervention((None,) * 3, range(4), block_texts={"mid_block": ("a nurse",) * 3})
    )
    assert not torch.equal(one, whole)
    assert not torch.equal(one, generator.generate(DOCTOR, SEEDS))


def test_a_block_that_reads_no_text_is_refused(generator):
    silent = Intervention((None,) * 3, range(4), block_texts={"conv_in": (DOCTOR.text,) * 3})
    with pytest.raises(TypeError, match="a block with cross-attention"):
        generator.generate(DOCTOR, SEEDS, silent)


def test_several_hookpoints_are_edited_at_once_and_observed_before(generator):
    seen = []
    both = Intervention((None,) * 3, range(4), edits={"mid_block": shifted, "conv_in": shifted})
    found = generator.generate(DOCTOR, SEEDS, both, {"conv_in": lambda _step, h: seen.append(h.mean())})
    assert len(seen) == 4
    singles = [
        generator.generate(DOCTOR, SEEDS, Intervention((None,) * 3, range(4), edits={name: shifted}))
        for name in both.edits
    ]
    assert not any(torch.equal(found, single) for single in singles)


def test_a_change_of_the_prediction_is_that_of_the_guided_one(generator):
    kept = []
    look = Intervention(
        (None,) * 3, range(4), noise=lambda step, prediction: kept.append(prediction) or prediction * 1.1
    )
    assert not torch.equal(generator.generate(DOCTOR, SEEDS, look), generator.generate(DOCTOR, SEEDS))
    assert [tuple(prediction.shape) for prediction in kept] == [(3, 4, 8, 8)] * 4


@contextmanager
def doubled(unet):
    weight = unet.conv_out.weight
    before = weight.detach().clone()
    with torch.inference_mode(mode=False), torch.no_grad():
        weight.mul_(2)
    try:
        yield
    finally:
        with torch.inference_mode(mode=False), torch.no_grad():
            weight.copy_(before)


@pytest.mark.parametrize("fails", [False, True])
def test_borrowed_weights_are_restored_whatever_happens(generator, fails):
    def broken(_step, _h):
        raise RuntimeError("edit failed")

    plain = generator.generate(DOCTOR, SEEDS)
    borrowed = Intervention((None,) * 3, range(4), weights=doubled, edits={"mid_block": broken} if fails else {})
    if fails:
        with pytest.raises(RuntimeError, match="edit failed"):
            generator.generate(DOCTOR, SEEDS, borrowed)
    else:
        assert not torch.equal(generator.generate(DOCTOR, SEEDS, borrowed), plain)
    assert torch.equal(generator.generate(DOCTOR, SEEDS), plain)


def test_hooks_are_gone_after_an_edit_that_raises(generator):
    def broken(_step, _h):
        raise RuntimeError("edit failed")

    plain = generator.generate(DOCTOR, SEEDS)
    with pytest.raises(RuntimeError, match="edit failed"):
        generator.generate(DOCTOR, SEEDS, arm(broken))
    assert torch.equal(generator.generate(DOCTOR, SEEDS), plain)


def test_the_observer_sees_the_conditional_half_at_every_step_and_changes_nothing(generator):
    seen = []
    watched = generator.generate(
        DOCTOR, SEEDS, observers={"mid_block": lambda step, h: seen.append((step, tuple(h.shape)))}
    )
    assert [step for step, _ in seen] == [0, 1, 2, 3]
    assert {shape for _, shape in seen} == {(3, 16, 4, 4)}
    assert torch.equal(watched, generator.generate(DOCTOR, SEEDS))


def test_the_first_maps_are_those_that_sampling_begins_with(generator):
    seen = []
    generator.generate(
        DOCTOR, [3, 4], observers={"mid_block": lambda step, h: seen.append(h.clone()) if step == 0 else None}
    )
    torch.testing.assert_close(generator.first_maps(DOCTOR.text, [3, 4]), seen[0])


def test_texts_are_embedded_once_while_few_are_in_use(tiny_pipeline, monkeypatch):
    monkeypatch.setattr(generators, "EMBEDDED_TEXTS", 2)
    fresh = load_generator(
        ModelConfig(source=str(tiny_pipeline)), SamplingConfig(steps=1, guidance=2.0, scheduler="DDIMScheduler")
    )
    pipeline = fresh.pipeline
    asked, encode = [], pipeline.encode_prompt
    monkeypatch.setattr(
        pipeline, "encode_prompt", lambda *texts, **rest: asked.extend(texts[:1]) or encode(*texts, **rest)
    )
    for text in ("doctor", "doctor", "nurse", "doctor", "pilot", "nurse"):
        fresh.sample([text], [0])
    assert [text for text in asked if text] == [
        "doctor",
        "nurse",
        "pilot",
        "nurse",
    ]  # the nurse had been used least lately, and made room


def test_guidance_of_one_runs_the_conditional_model_alone(tiny_pipeline):
    unguided = load_generator(ModelConfig(source=str(tiny_pipeline)), DDIM.model_copy(update={"guidance": 1.0}))
    assert isinstance(unguided, DiffusionGenerator)
    seen = []
    handle = unguided.denoiser.register_forward_pre_hook(lambda _m, inputs: seen.append(len(inputs[0])))
    unguided.generate(DOCTOR, SEEDS)
    handle.remove()
    assert seen == [3] * 4


def test_a_generator_says_what_it_samples_with_and_what_the_model_was_published_with(generator, tiny_pipeline):
    assert generator.sampling == {
        "scheduler": "DDIMScheduler",
        "pipeline": "StableDiffusionPipeline",
        "steps": 4,
        "guidance": 3.0,
        "published_scheduler": "PNDMScheduler",
        "timestep_spacing": "leading",
        "prediction_type": "epsilon",
        "safety_checker": "off (published without one)",
    }


def test_an_unknown_hookpoint_is_refused_with_the_nearest_name(tiny_pipeline):
    generator = load_generator(ModelConfig(source=str(tiny_pipeline)), SamplingConfig(steps=4), hookpoint="mid_blok")
    with pytest.raises(ValueError, match=r"mid_blok.*nearest: mid_block"):
        generator.first_maps(DOCTOR.text, SEEDS)


def test_drawings_have_no_features_to_edit():
    generator = load_generator(ModelConfig(source="rendered"), SamplingConfig())
    assert isinstance(generator, RenderedGenerator)
    assert generator.generate(DOCTOR, SEEDS).shape == (3, 3, 64, 64)
    with pytest.raises(ValueError, match="no network to edit"):
        generator.generate(DOCTOR, SEEDS, arm(shifted))


def test_a_gpu_sends_pictures_as_bytes(tiny_pipeline, monkeypatch):
    expected = load_generator(ModelConfig(source=str(tiny_pipeline)), DDIM).generate(DOCTOR, SEEDS)
    sent, cpu = [], torch.Tensor.cpu
    with pretended_gpu():
        monkeypatch.setattr(torch.Tensor, "cpu", lambda x: sent.append((x.ndim, x.dtype, x.device.type)) or cpu(x))
        found = load_generator(ModelConfig(source=str(tiny_pipeline)), DDIM).generate(DOCTOR, SEEDS)
    assert found.device.type == "cpu"
    assert torch.equal(found, expected)
    assert [one for one in sent if one[0] == 4] == [(4, torch.uint8, "cuda")]
