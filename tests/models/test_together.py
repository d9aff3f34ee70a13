"""Interventions of one batch act beside each other: in their order, each in its own window, and all are undone."""

from contextlib import contextmanager

import pytest
import torch

from audit.config.sections import ModelConfig, SamplingConfig
from audit.models.generator import load_generator
from audit.models.intervention import Intervention, NoiseGuidance, together
from audit.models.replay import SharedSteps, shared_steps
from audit.records.work import Prompt

DOCTOR = Prompt("doctor", "a face photo of a doctor", "doctor")
SEEDS, STEPS = [11, 22], 4
OLD, WOMAN = ("a face photo of an old doctor",) * 2, ("a face photo of a female doctor",) * 2


@pytest.fixture(scope="module")
def generator(tiny_pipeline):
    sampling = SamplingConfig(steps=STEPS, guidance=3.0, scheduler="DDIMScheduler")
    return load_generator(ModelConfig(source=str(tiny_pipeline)), sampling)


def one(window=range(STEPS), **changes):
    return Intervention((None,) * 2, window, **changes)


def doubled(_step, h):
    return 2 * h


def raised(_step, h):
    return h + 3


def made(generator, *interventions):
    return generator.generate(DOCTOR, SEEDS, together(interventions))


def test_edits_of_one_hookpoint_act_one_after_the_other_in_order(generator):
    first, second = one(edits={"mid_block": doubled}), one(edits={"mid_block": raised})
    both = made(generator, first, second)
    assert torch.equal(both, made(generator, one(edits={"mid_block": lambda step, h: raised(step, doubled(step, h))})))
    assert not torch.equal(both, made(generator, second, first))


@pytest.mark.parametrize("reverse_step", ["symmetric", "asymmetric"])
def test_every_part_acts_in_its_own_window(generator, reverse_step):
    def edit(step, h):
        return 2 * h if step < 2 else h

    early = one(range(2), edits={"mid_block": doubled}, reverse_step=reverse_step)
    late = one(range(2, STEPS), edits={"conv_in": raised}, reverse_step=reverse_step)
    whole = one(
        edits={"mid_block": edit, "conv_in": lambda step, h: raised(step, h) if step >= 2 else h},
        reverse_step=reverse_step,
    )
    assert torch.equal(made(generator, early, late), made(generator, whole))
    assert not torch.equal(made(generator, early, late), made(generator, early))


def test_texts_by_block_of_several_parts_are_read_each_in_its_window(generator):
    old = one(range(2), block_texts={"mid_block": OLD})
    woman = one(range(2, STEPS), block_texts={"up_blocks.0": WOMAN}, text_strengths=(0.5,) * 2)
    both = made(generator, old, woman)
    assert not torch.equal(both, made(generator, old))
    assert not torch.equal(both, made(generator, woman))
    assert torch.equal(made(generator, old, one(range(0), block_texts={"up_blocks.0": WOMAN})), made(generator, old))


def test_neutral_parts_leave_pictures_bit_identical(generator):
    plain = generator.generate(DOCTOR, SEEDS)
    neutral = (
        one(edits={"mid_block": lambda _step, h: h}),
        one(range(1), edits={"mid_block": lambda _step, h: h.clone()}),
        one(texts=(DOCTOR.text,) * 2),
        one(block_texts={"up_blocks.0": OLD}, text_strengths=(0.0,) * 2),
    )
    assert torch.equal(made(generator, *neutral), plain)


def test_everything_is_restored_after_an_exception_in_a_later_part(generator):
    plain, before = generator.generate(DOCTOR, SEEDS), [p.clone() for p in generator.denoiser.parameters()]

    def fails(step, _h):
        raise RuntimeError(f"step {step}")

    @contextmanager
    def noisy(denoiser):
        kept = {name: p.detach().clone() for name, p in denoiser.named_parameters()}
        try:
            with torch.no_grad():
                for p in denoiser.parameters():
                    p.add_(1)
            yield
        finally:
            with torch.no_grad():
                for name, p in denoiser.named_parameters():
                    p.copy_(kept[name])

    parts = one(edits={"mid_block": doubled}), one(weights=noisy), one(range(1, 2), edits={"mid_block": fails})
    with pytest.raises(RuntimeError, match="step 1"):
        made(generator, *parts)
    assert all(map(torch.equal, before, generator.denoiser.parameters()))
    assert torch.equal(generator.generate(DOCTOR, SEEDS), plain)


def test_a_joint_arm_shares_the_steps_before_its_first_part(generator):
    late, later = one(range(2, STEPS), edits={"mid_block": doubled}), one(range(3, STEPS), edits={"conv_in": raised})
    both = together((later, late))
    assert shared_steps(both) == 2
    assert shared_steps(together((late, one(texts=OLD)))) == 0
    shared = SharedSteps.of([both], STEPS)
    generator.generate(DOCTOR, SEEDS, shared=shared)
    assert torch.equal(generator.generate(DOCTOR, SEEDS, both, shared=shared), generator.generate(DOCTOR, SEEDS, both))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ([{"texts": OLD}, {"texts": WOMAN}], "texts in one"),
        ([{"embeddings": dict}, {"embeddings": dict}], "embeddings in one"),
        ([{"guidance": NoiseGuidance(OLD, lambda _s, p: p.guided)}] * 2, "guidance in one"),
        ([{"block_texts": {"up_blocks.0": OLD}}, {"block_texts": {"up_blocks.0": WOMAN}}], "one text for each block"),
        ([{"edits": {"mid_block": raised}}, {"edits": {"conv_in": raised}, "reverse_step": "asymmetric"}], "one rev"),
    ],
)
def test_what_only_one_part_can_change_is_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        together([one(**own) for own in changes])


def test_no_intervention_at_all_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        together([])
