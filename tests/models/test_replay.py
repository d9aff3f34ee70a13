"""Arms that act late take the first steps from the baseline: images stay the same, and the denoiser is asked less."""

from contextlib import contextmanager

import pytest
import torch

from audit.config.sections import ModelConfig, SamplingConfig
from audit.models import denoising
from audit.models.generator import load_generator
from audit.models.intervention import Intervention, NoiseGuidance
from audit.models.replay import FrontOutputs, SharedSteps, forward_through, shared_steps
from audit.records.work import Prompt
from benchmarks.tiny_families import FAMILIES

SEEDS = [11, 22, 33]
PROMPT = Prompt("doctor", "a face photo of a doctor", "doctor")
NO_PROMPT = Prompt("no-prompt", "", "")
CASES = [
    *[
        ("sd", "mid_block", {"guidance": 3.0, "scheduler": scheduler})
        for scheduler in (
            None,  # PNDM, as published
            "DDIMScheduler",
            "HeunDiscreteScheduler",
            "EulerAncestralDiscreteScheduler",
            "DPMSolverMultistepScheduler",
            "UniPCMultistepScheduler",
        )
    ],
    ("sd", "up_blocks.0", {"guidance": 1.0}),
    ("sd", "skips:down_blocks.0", {"guidance": 3.0}),
    ("sd", "text:up_blocks.0", {"guidance": 3.0}),
    ("sdxl", "mid_block", {"guidance": 5.0}),
    ("sdxl", "down_blocks.1", {"guidance": 5.0, "scheduler": "EulerAncestralDiscreteScheduler"}),
    ("sd3", "transformer_blocks.0", {"guidance": 7.0, "scheduler": "FlowMatchHeunDiscreteScheduler"}),
    ("sd3", "text-stream:transformer_blocks.0", {"guidance": 7.0}),
    ("flux", "transformer_blocks.0", {"guidance": 3.5, "height": 32, "width": 32}),
    ("flux", "single_transformer_blocks.0", {"guidance": 3.5, "true_guidance": 4.0, "height": 32, "width": 32}),
    ("pixart", "transformer_blocks.0", {"guidance": 4.5}),
    ("sana", "transformer_blocks.0", {"guidance": 4.5}),
    ("lcm", "mid_block", {"guidance": 8.0}),
    ("ddpm", "mid_block", {"guidance": 1.0}),
]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Directory of the tiny pipeline of a family."""
    made = {}

    def directory(name):
        if name not in made:
            made[name] = FAMILIES[name](tmp_path_factory.mktemp(name))
        return made[name]

    return directory


@pytest.fixture(scope="module")
def sd(saved):
    return load_generator(ModelConfig(source=str(saved("sd"))), SamplingConfig(steps=4, guidance=3.0))


def edited(hookpoint, window, **more):
    return Intervention((None,) * 3, window, edits={hookpoint: lambda _step, h: h.roll(1, 1)}, **more)


class Calls:
    """Counts how often the inside of a denoiser runs."""

    def __init__(self, denoiser):
        self.count = 0
        inside = (module for name, module in denoiser.named_modules() if "." in name and not list(module.children()))
        next(inside).register_forward_pre_hook(self._add)

    def _add(self, *_):
        self.count += 1

    def during(self, make):
        before = self.count
        return make(), self.count - before


@pytest.mark.parametrize(("name", "hookpoint", "settings"), CASES)
def test_images_are_those_without_sharing_bit_for_bit(saved, name, hookpoint, settings):
    generator = load_generator(ModelConfig(source=str(saved(name))), SamplingConfig(steps=4, **settings))
    prompt, steps = NO_PROMPT if name == "ddpm" else PROMPT, generator.steps
    calls = Calls(generator.denoiser)
    arms = [edited(hookpoint, range(start, stop)) for start, stop in ((2, steps), (steps - 1, steps), (1, 2), (0, 1))]
    shared = SharedSteps.of(arms, steps)

    plain, each = calls.during(lambda: generator.generate(prompt, SEEDS))
    baseline, same = calls.during(lambda: generator.generate(prompt, SEEDS, shared=shared))
    assert torch.equal(baseline, plain)
    assert each == same
    changed = []
    for arm in arms:
        alone, all_calls = calls.during(lambda: generator.generate(prompt, SEEDS, arm))  # noqa: B023 - called at once
        after, fewer = calls.during(lambda: generator.generate(prompt, SEEDS, arm, shared=shared))  # noqa: B023
        assert torch.equal(after, alone)
        assert all_calls == each
        assert fewer * steps == each * (steps - arm.window.start)
        changed.append(not torch.equal(after, plain))
    assert any(changed)


def test_an_arm_without_a_baseline_computes_the_steps_and_the_next_arm_takes_them(sd):
    calls = Calls(sd.denoiser)
    arms = [edited("mid_block", range(2, sd.steps)), edited("mid_block", range(3, sd.steps))]
    shared = SharedSteps.of(arms, sd.steps)
    _, first = calls.during(lambda: sd.generate(PROMPT, SEEDS, arms[0], shared=shared))
    found, second = calls.during(lambda: sd.generate(PROMPT, SEEDS, arms[1], shared=shared))
    assert (first, second) == (sd.steps, sd.steps - 2)
    assert torch.equal(found, sd.generate(PROMPT, SEEDS, arms[1]))


def test_an_arm_that_never_acts_is_the_baseline_and_other_texts_share_nothing(sd):
    calls = Calls(sd.denoiser)
    never, texts = edited("mid_block", range(0)), Intervention((None,) * 3, range(4), texts=("a nurse",) * 3)
    shared = SharedSteps.of([never, texts], sd.steps)
    plain = sd.generate(PROMPT, SEEDS, shared=shared)
    found, asked = calls.during(lambda: sd.generate(PROMPT, SEEDS, never, shared=shared))
    assert asked == 0
    assert torch.equal(found, plain)
    found, asked = calls.during(lambda: sd.generate(PROMPT, SEEDS, texts, shared=shared))
    assert asked == sd.steps
    assert torch.equal(found, sd.generate(PROMPT, SEEDS, texts))


def test_texts_by_block_noise_and_weights_act_in_their_window_alone(sd):
    window = range(2, sd.steps)
    arms = [
        Intervention((None,) * 3, window, block_texts={"mid_block": ("a nurse",) * 3}),
        Intervention((None,) * 3, window, noise=lambda _step, prediction: prediction * 1.1),
    ]
    shared = SharedSteps.of(arms, sd.steps)
    sd.generate(PROMPT, SEEDS, shared=shared)
    for arm in arms:
        assert shared_steps(arm) == 2
        assert torch.equal(sd.generate(PROMPT, SEEDS, arm, shared=shared), sd.generate(PROMPT, SEEDS, arm))


@contextmanager
def halved(denoiser):
    """Borrow a weight of the last layer."""
    bias = denoiser.conv_out.bias.data
    kept = bias.clone()
    bias.mul_(0.5).add_(0.1)
    try:
        yield
    finally:
        bias.copy_(kept)


def mixed(_step, predictions):
    return predictions.guided + (predictions.concepts - predictions.unconditional).sum(0)


TEXTS = ("a nurse", "an old man", "a woman")
LATE = {
    "asymmetric": {"reverse_step": "asymmetric", "edits": {"mid_block": lambda _step, h: h.roll(1, 1)}},
    "asymmetric-skips": {"reverse_step": "asymmetric", "edits": {"skips:down_blocks.0": lambda _step, h: h * 2}},
    "asymmetric-text": {"reverse_step": "asymmetric", "edits": {"text:up_blocks.0": lambda _step, h: h.roll(1, 1)}},
    "asymmetric-block-texts": {"reverse_step": "asymmetric", "block_texts": {"up_blocks.0": ("a nurse",) * 3}},
    "guidance": {"guidance": NoiseGuidance(TEXTS, mixed)},
    "guidance-of-an-edit": {
        "guidance": NoiseGuidance(TEXTS, mixed),
        "edits": {"skips:down_blocks.0": lambda _step, h: h * 2},
    },
    "asymmetric-guidance": {
        "reverse_step": "asymmetric",
        "guidance": NoiseGuidance(TEXTS, mixed),
        "edits": {"mid_block": lambda _step, h: h.roll(1, 1)},
    },
    "weights": {"weights": halved},
    "texts-by-strength": {"texts": ("a nurse",) * 3, "text_strengths": (0.5,) * 3},
    "embeddings": {"embeddings": lambda own: {name: rows.flip(-1) for name, rows in own.items()}},
}


@pytest.mark.parametrize("name", LATE)
@pytest.mark.parametrize("after_baseline", [True, False], ids=["after-baseline", "first"])
def test_whatever_an_arm_changes_it_is_the_same_beside_others(saved, name, after_baseline):
    generator = ddim(saved, "sd")
    late = Intervention((None,) * 3, range(2, 4), **LATE[name])
    arms = [late, edited("mid_block", range(3, 4)), edited("mid_block", range(1, 2))]
    plain, alone = generator.generate(PROMPT, SEEDS), [generator.generate(PROMPT, SEEDS, arm) for arm in arms]
    assert not torch.equal(alone[0], plain)
    shared = SharedSteps.of(arms, 4)
    if after_baseline:
        assert torch.equal(generator.generate(PROMPT, SEEDS, shared=shared), plain)
    found = [generator.generate(PROMPT, SEEDS, arm, shared=shared) for arm in arms]
    assert all(torch.equal(one, other) for one, other in zip(found, alone, strict=True))
    assert torch.equal(generator.generate(PROMPT, SEEDS, shared=shared), plain)


def test_guidance_by_further_texts_adds_its_calls_in_its_window_alone(saved):
    generator = ddim(saved, "sd")
    calls, late = Calls(generator.denoiser), Intervention((None,) * 3, range(2, 4), **LATE["guidance"])
    shared = SharedSteps.of([late], 4)
    generator.generate(PROMPT, SEEDS, shared=shared)
    _, asked = calls.during(lambda: generator.generate(PROMPT, SEEDS, late, shared=shared))
    assert asked == 2 * (1 + 2)  # two steps; three further texts take two calls


def test_an_observer_sees_every_step_also_of_a_shared_one(sd):
    shared = SharedSteps(sd.steps)
    sd.generate(PROMPT, SEEDS, shared=shared)
    seen = []
    sd.generate(PROMPT, SEEDS, None, {"mid_block": lambda step, _h: seen.append(step)}, shared)
    assert seen == list(range(sd.steps))


def test_no_more_than_the_longest_start_is_kept(sd):
    shared = SharedSteps.of([edited("mid_block", range(1, 4)), edited("mid_block", range(2, 4))], sd.steps)
    sd.generate(PROMPT, SEEDS, shared=shared)
    assert shared.find(1, 0) is not None
    assert shared.find(2, 0) is None


def test_a_kept_output_cannot_be_changed_from_outside():
    shared = SharedSteps(1)
    output = torch.ones(2)
    shared.keep(0, 0, (output,))
    output.zero_()
    shared.find(0, 0)[0].zero_()
    assert torch.equal(shared.find(0, 0)[0], torch.ones(2))


def test_the_network_gets_its_forward_back_also_after_an_error(sd):
    unet = sd.denoiser
    before = unet.forward
    with pytest.raises(RuntimeError), forward_through(unet, lambda own: own()):
        raise RuntimeError
    assert "forward" not in vars(unet)
    assert unet.forward == before
    unet.forward = patched = lambda: 1
    with pytest.raises(RuntimeError), forward_through(unet, lambda own: own()):
        raise RuntimeError
    assert unet.forward is patched
    del unet.forward


ASYMMETRIC = [
    ("sd", ["down_blocks.1"]),
    ("sd", ["down_blocks.1.resnets.0"]),
    ("sd", ["mid_block"]),
    ("sd", ["mid_block.attentions.0"]),
    ("sd", ["up_blocks.0"]),
    ("sd", ["up_blocks.1.resnets.1"]),
    ("sd", ["down_blocks.0", "mid_block", "up_blocks.1"]),
    ("sd", ["skips:down_blocks.0"]),
    ("sd", ["skips:down_blocks.1", "text:up_blocks.0"]),
    ("sd", ["text:mid_block"]),
    ("sd", ["text:up_blocks.0.attentions.0"]),
    ("sdxl", ["mid_block"]),
    ("sdxl", ["text:mid_block.attentions.0.transformer_blocks.0.attn2"]),
    ("sdxl", ["up_blocks.0", "mid_block.attentions.0.transformer_blocks.0"]),
    ("pixart", ["transformer_blocks.0"]),
    ("pixart", ["transformer_blocks.1"]),
    ("pixart", ["text:transformer_blocks.1"]),
    ("ddpm", ["mid_block"]),
]


def ddim(saved, name):
    settings = {"guidance": 1.0 if name == "ddpm" else 4.0, "scheduler": "DDIMScheduler"}
    return load_generator(ModelConfig(source=str(saved(name))), SamplingConfig(steps=4, **settings))


def asymmetric(hookpoints, **more):
    edits = {hookpoint: lambda _step, h: h.roll(1, 1) for hookpoint in hookpoints}
    return Intervention((None,) * 3, range(1, 4), "asymmetric", edits=edits, **more)


@pytest.mark.parametrize(("name", "hookpoints"), ASYMMETRIC, ids=["-".join([name, *one]) for name, one in ASYMMETRIC])
def test_asymmetric_steps_that_replay_what_lies_before_the_edit_are_the_same(saved, monkeypatch, name, hookpoints):
    generator, prompt = ddim(saved, name), NO_PROMPT if name == "ddpm" else PROMPT
    calls = Calls(generator.denoiser)
    found, fewer = calls.during(lambda: generator.generate(prompt, SEEDS, asymmetric(hookpoints)))
    symmetric = Intervention((None,) * 3, range(1, 4), edits=asymmetric(hookpoints).edits)
    assert not torch.equal(found, generator.generate(prompt, SEEDS, symmetric))
    assert not torch.equal(found, generator.generate(prompt, SEEDS))
    monkeypatch.setattr(denoising, "_front_of", lambda *_: None)
    plain, more = calls.during(lambda: generator.generate(prompt, SEEDS, asymmetric(hookpoints)))
    assert torch.equal(found, plain)
    assert (fewer, more) == (4, 4 + 3)  # the first layer is asked once in each step, and twice in an asymmetric one


def test_what_changes_more_than_maps_is_computed_twice(saved):
    generator = ddim(saved, "sd")
    calls = Calls(generator.denoiser)
    by_block = asymmetric(["mid_block"], block_texts={"up_blocks.0": ("a nurse",) * 3})
    _, asked = calls.during(lambda: generator.generate(PROMPT, SEEDS, by_block))
    assert asked == 4 + 3


def test_nothing_stays_on_the_modules_also_after_an_error(saved):
    generator = ddim(saved, "sd")
    plain = generator.generate(PROMPT, SEEDS)

    def fails(step, h):
        if step == 2:
            raise RuntimeError
        return h + 1

    arm = Intervention((None,) * 3, range(4), "asymmetric", edits={"mid_block": fails})
    with pytest.raises(RuntimeError):
        generator.generate(PROMPT, SEEDS, arm)
    unet = generator.denoiser
    assert not any("forward" in vars(module) or module._forward_hooks for module in unet.modules())
    assert torch.equal(generator.generate(PROMPT, SEEDS), plain)


def test_outputs_are_kept_up_to_the_edit_and_replayed_once():
    network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    front, given = FrontOutputs(network), torch.ones(1, 2)
    with front.watched():
        front.begin()
        first = network[0](given)
        front.close()
        second = network[1](first)
        with front.replayed():
            assert network[0](given) is first
            assert network[0](given) is not first
            assert torch.equal(network[1](first), second)
        assert "forward" not in vars(network[0])
        with front.replayed():
            assert network[0](given) is not first
