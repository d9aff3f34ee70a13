"""A compiled denoiser gives the pictures of the plain one within rounding, and hooks on it act as on the plain one."""

import logging
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from audit.config.sections import ModelConfig, SamplingConfig
from audit.models import loading
from audit.models.check import Sampled, model_problems
from audit.models.device import device_here
from audit.models.files.untrusted_model import UnfitModelError
from audit.models.generator import load_generator
from audit.models.hooks import find_hookpoint
from audit.models.intervention import Intervention
from audit.models.kernels.compiled import block_around, compile_blocks, repeated_blocks
from audit.models.liveness import require_live
from benchmarks.tiny_families import FAMILIES

TEXTS = ["a face photo of a doctor"] * 2
SEEDS = [11, 22]
LEVELS = 2
"""Grey levels of 255 by which rounding may change a number of a picture; the pictures spread over 40 of them."""

CASES = [
    ("sd", "mid_block.attentions.0.transformer_blocks.0", {"guidance": 3.0}),
    ("sdxl", "mid_block", {"guidance": 5.0}),
    ("sd3", "transformer_blocks.0", {"guidance": 7.0}),
    ("flux", "transformer_blocks.0", {"guidance": 3.5, "true_guidance": 4.0, "height": 32, "width": 32}),
    ("pixart", "transformer_blocks.0", {"guidance": 4.5}),
    ("sana", "transformer_blocks.0", {"guidance": 4.5}),
]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Directory of the tiny pipeline of a family."""
    made = {}

    def directory(name):
        if name not in made:
            made[name] = FAMILIES[name](tmp_path_factory.mktemp(name))
        return str(made[name])

    return directory


def loaded(source, **sampling):
    return load_generator(ModelConfig(source=source), SamplingConfig(steps=3, batch=2, **sampling))


def edited(path, edit, reverse_step="symmetric"):
    return Intervention((None,) * 2, range(1, 3), reverse_step, edits={path: edit})


def close(found, expected):
    return int((found.int() - expected.int()).abs().max()) <= LEVELS


def assert_acts_as_plain(generator, plain, path):
    """Compare pictures, neutral and real edits, observers and restoration with the plain model's."""
    seen = []
    pictures = generator.sample(TEXTS, SEEDS)
    assert close(pictures, plain.sample(TEXTS, SEEDS))
    require_live(generator, [path], TEXTS[0])
    neutral, observers = edited(path, lambda _step, h: h.clone()), {path: lambda *at: seen.append(at)}
    observed = generator.sample(TEXTS, SEEDS, neutral, observers)
    assert torch.equal(observed, pictures)
    assert [step for step, _ in seen] == list(range(generator.steps))
    moved = edited(path, lambda _step, h: h.roll(1, 1))
    assert close(generator.sample(TEXTS, SEEDS, moved), plain.sample(TEXTS, SEEDS, moved))
    assert not torch.equal(generator.sample(TEXTS, SEEDS, moved), pictures)
    with pytest.raises(ZeroDivisionError):
        generator.sample(TEXTS, SEEDS, edited(path, lambda step, h: h / (1 // (step - 2))))
    assert torch.equal(generator.sample(TEXTS, SEEDS), pictures)


@pytest.mark.parametrize(("name", "path", "sampling"), CASES)
def test_hooks_act_on_a_compiled_model_of_every_family(saved, name, path, sampling):
    plain, generator = loaded(saved(name), **sampling), loaded(saved(name), **sampling)
    assert compile_blocks(generator.denoiser, torch.device("cpu"), "aot_eager")
    assert_acts_as_plain(generator, plain, path)


def test_the_key_compiles_with_inductor_and_is_in_the_record(saved):
    sampling = SamplingConfig(steps=3, batch=2, guidance=3.0, scheduler="DDIMScheduler")
    plain = load_generator(ModelConfig(source=saved("sd")), sampling)
    generator = load_generator(ModelConfig(source=saved("sd"), compile=True), sampling)
    assert_acts_as_plain(generator, plain, "mid_block")
    require_live(generator, ["mid_block.attentions.0.transformer_blocks.0", "down_blocks.1"], TEXTS[0])
    moved = edited("mid_block", lambda _step, h: h.roll(1, 1), "asymmetric")
    assert close(generator.sample(TEXTS, SEEDS, moved), plain.sample(TEXTS, SEEDS, moved))
    channels = ", channels_last" if device_here().type == "cuda" else ""
    assert dict(generator.sampling) == {**plain.sampling, "compiled": f"BasicTransformerBlock{channels}"}
    assert generator.fingerprint == plain.fingerprint


def test_weights_that_change_in_place_act_in_compiled_blocks(saved):
    generator = loaded(saved("sd"), guidance=3.0)
    compile_blocks(generator.denoiser, torch.device("cpu"), "aot_eager")
    before = generator.sample(TEXTS, SEEDS)
    weight = generator.denoiser.get_submodule("mid_block.attentions.0.transformer_blocks.0.attn2.to_k").weight
    own = weight.data
    weight.data = -own
    assert not torch.equal(generator.sample(TEXTS, SEEDS), before)
    weight.data = own
    assert torch.equal(generator.sample(TEXTS, SEEDS), before)


def test_a_place_inside_a_compiled_block_is_refused_and_found_before_any_work(saved):
    inside, block = "mid_block.attentions.0.transformer_blocks.0.attn2", "mid_block.attentions.0.transformer_blocks.0"
    generator = loaded(saved("sd"), guidance=3.0)
    assert find_hookpoint(generator.denoiser, inside)
    assert block_around(generator.denoiser, inside) == block
    assert block_around(generator.denoiser, block) is None
    compile_blocks(generator.denoiser, torch.device("cpu"), "aot_eager")
    with pytest.raises(UnfitModelError, match=r"found one inside .*; choose that block, or set model.compile: false"):
        require_live(generator, [inside], TEXTS[0])
    where = ("mitigations", 0, "hookpoints")
    sampled = Sampled(SamplingConfig(steps=3, guidance=3.0), {where: inside, ("lens", "hookpoint"): "mid_block"})
    model = ModelConfig(source=saved("sd"))
    assert model_problems(Path(model.source), model, sampled) == ()
    [problem] = model_problems(Path(model.source), model.model_copy(update={"compile": True}), sampled)
    assert problem.location == where
    assert "set model.compile: false" in problem.message


def test_a_model_without_repeated_blocks_runs_as_published_and_says_so(saved, caplog):
    sampling = SamplingConfig(steps=2, guidance=1.0)
    with caplog.at_level(logging.WARNING):
        generator = load_generator(ModelConfig(source=saved("ddpm"), compile=True), sampling)
    assert "expected a denoiser with repeated blocks, found UNet2DModel; it runs as published" in caplog.text
    assert "compiled" not in generator.sampling
    plain = load_generator(ModelConfig(source=saved("ddpm")), sampling)
    assert torch.equal(generator.sample([""] * 2, SEEDS), plain.sample([""] * 2, SEEDS))


def test_a_block_that_cannot_be_compiled_is_an_error_with_a_remedy_before_any_image(saved, monkeypatch):
    def broken(_graph, _inputs):
        raise RuntimeError("no compiler here")

    monkeypatch.setattr(loading, "compile_blocks", partial(compile_blocks, backend=broken))
    generator = load_generator(ModelConfig(source=saved("sd"), compile=True), SamplingConfig(steps=2, guidance=3.0))
    with pytest.raises(UnfitModelError, match=r"no compiler here\); install .*set model\.compile: false"):
        require_live(generator, (), TEXTS[0])


def test_on_a_gpu_a_u_net_also_keeps_its_maps_in_channels_last(saved):
    plain, generator = loaded(saved("sd"), guidance=3.0), loaded(saved("sd"), guidance=3.0)
    changed = compile_blocks(generator.denoiser, torch.device("cuda"), "aot_eager")  # the weights stay on the CPU here
    assert changed == "BasicTransformerBlock, channels_last"
    convolutions = [module for module in generator.denoiser.modules() if isinstance(module, nn.Conv2d)]
    assert all(one.weight.is_contiguous(memory_format=torch.channels_last) for one in convolutions)
    layouts = []
    look = Intervention((None,) * 2, range(1), edits={"mid_block": lambda _step, h: layouts.append(h.stride(1)) or h})
    generator.sample(TEXTS, SEEDS, look)
    assert layouts == [1]
    assert_acts_as_plain(generator, plain, "mid_block")


def test_a_transformer_has_no_channels_to_move(saved):
    denoiser = loaded(saved("pixart"), guidance=4.5).denoiser
    assert compile_blocks(denoiser, torch.device("cuda"), "aot_eager") == "BasicTransformerBlock"


def test_a_trial_samples_a_whole_batch_only_if_blocks_are_compiled(saved):
    sampling = SamplingConfig(steps=3, batch=5, guidance=3.0)
    models = [ModelConfig(source=saved("sd"), compile=compiled) for compiled in (False, True)]
    assert [load_generator(model, sampling).trial_batch for model in models] == [2, 5]


def test_blocks_that_repeat_are_those_that_diffusers_names(saved):
    denoiser = loaded(saved("sd"), guidance=3.0).denoiser
    assert {type(block).__name__ for block in repeated_blocks(denoiser).values()} == set(denoiser._repeated_blocks)
