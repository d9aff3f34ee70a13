"""Low-rank changes are borrowed and given back bit for bit, and are the LoRAs that other programs read."""

import peft
import pytest
import torch
from safetensors.torch import save_file

from audit.config.sections import ModelConfig, SamplingConfig
from audit.mitigate.trained.finetuning import with_change
from audit.mitigate.trained.low_rank import BorrowedLowRank, added, attention_layers, networks_of, new_factors
from audit.models.files.untrusted_model import UnfitModelError
from audit.models.generator import load_generator
from audit.models.replay import shared_steps
from benchmarks.tiny_families import save_pixart, save_sdxl
from tests.mitigate.trained.fits import PROMPTS

SEEDS, STEPS, BOTH = [11, 22], 3, ("text_encoder", "denoiser")
PROMPT = PROMPTS[0]


def generator_of(directory, guidance=2.0, **settings):
    sampling = SamplingConfig(steps=STEPS, guidance=guidance)
    return load_generator(ModelConfig(source=str(directory), **settings), sampling)


@pytest.fixture(scope="module", params=["sd", "sdxl", "pixart"])
def directory(request, tiny_pipeline, tmp_path_factory):
    return directory_of(request.param, tiny_pipeline, tmp_path_factory)


@pytest.fixture(scope="module", params=["sd", "sdxl"])
def unet_directory(request, tiny_pipeline, tmp_path_factory):
    """A pipeline that loads LoRAs itself."""
    return directory_of(request.param, tiny_pipeline, tmp_path_factory)


def directory_of(family, tiny_pipeline, tmp_path_factory):
    if family == "pixart":
        return save_pixart(tmp_path_factory.mktemp("pixart"), sample_size=8, tokens=24)
    return tiny_pipeline if family == "sd" else save_sdxl(tmp_path_factory.mktemp("sdxl"))


def without_kept_texts(generator):
    """A generator of the same loaded model that has embedded no text yet."""
    return generator.with_steps(STEPS)


def random_factors(generator, parts=BOTH):
    draw = torch.Generator().manual_seed(5)
    new = new_factors(networks_of(generator.pipeline, parts), 2, 0)
    return {name: 0.5 * torch.randn(factor.shape, generator=draw) for name, factor in new.items()}


def state(generator):
    parts = generator.pipeline.components.items()
    networks = {name: part.state_dict() for name, part in parts if isinstance(part, torch.nn.Module)}
    return {f"{name}.{key}": value.clone() for name, own in networks.items() for key, value in own.items()}


def arm(borrowed):
    return with_change(borrowed, len(SEEDS), STEPS)


def test_a_new_change_is_zero_and_leaves_every_bit(directory):
    generator = generator_of(directory)
    plain = generator.generate(PROMPT, SEEDS)
    new = new_factors(networks_of(generator.pipeline, BOTH), 4, 0)
    own = {"text_encoder", "transformer" if hasattr(generator.pipeline, "transformer") else "unet"}
    assert {name.partition(".")[0] for name in new} >= own
    assert torch.equal(generator.generate(PROMPT, SEEDS, arm(BorrowedLowRank(new))), plain)
    again = new_factors(networks_of(generator.pipeline, BOTH), 4, 0)
    assert all(torch.equal(again[name], factor) for name, factor in new.items())


@pytest.mark.parametrize("part", BOTH)
def test_each_part_changes_pictures_and_everything_is_given_back_also_after_an_error(directory, part):
    generator = generator_of(directory)
    plain, before = generator.generate(PROMPT, SEEDS), state(generator)
    borrowed = BorrowedLowRank(random_factors(generator, (part,)))
    assert not torch.equal(generator.generate(PROMPT, SEEDS, arm(borrowed)), plain)
    network = generator.pipeline.text_encoder if part == "text_encoder" else generator.denoiser

    def fail(*_):
        assert any(not torch.equal(value, before[name]) for name, value in state(generator).items())
        raise RuntimeError("in the middle")

    hook = next(iter(attention_layers(network).values())).register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="in the middle"):
        generator.generate(PROMPT, SEEDS, arm(borrowed))
    hook.remove()
    assert all(torch.equal(value, before[name]) for name, value in state(generator).items())
    assert torch.equal(generator.generate(PROMPT, SEEDS), plain)


def test_training_and_audit_see_the_same_change(directory):
    generator = generator_of(directory)
    found = random_factors(generator)
    borrowed = BorrowedLowRank(found)
    with borrowed.encoders(generator.pipeline):
        merged = generator.read_by_denoiser(PROMPT.text)
    with torch.no_grad(), added(networks_of(generator.pipeline, BOTH), found):
        beside = generator.read_by_denoiser(PROMPT.text)
    own = generator.read_by_denoiser(PROMPT.text)
    for argument, rows in merged.items():
        torch.testing.assert_close(rows, beside[argument], rtol=1e-4, atol=1e-5)
        if not argument.endswith("mask"):
            assert not torch.allclose(rows, own[argument], atol=1e-3)


def test_the_empty_prompt_keeps_its_embeddings(tiny_pipeline):
    generator = generator_of(tiny_pipeline)
    seen = []
    hook = generator.denoiser.register_forward_pre_hook(
        lambda _, __, named: seen.append(named["encoder_hidden_states"].clone()), with_kwargs=True
    )
    generator.generate(PROMPT, SEEDS)
    generator.generate(PROMPT, SEEDS, arm(BorrowedLowRank(random_factors(generator, ("text_encoder",)))))
    hook.remove()
    plain, changed = seen[0], seen[-1]
    assert torch.equal(plain[:2], changed[:2])
    assert not torch.equal(plain[2:], changed[2:])


@pytest.mark.parametrize("part", BOTH)
def test_a_fit_is_a_lora_that_peft_loads(unet_directory, part, tmp_path):
    """Without guidance: peft's change of the text encoder would also act on the empty prompt."""
    generator = generator_of(unet_directory, guidance=1.0)
    found = random_factors(generator, (part,))
    assert {name.partition(".")[0].removesuffix("_2") for name in found} == {part.replace("denoiser", "unet")}
    save_file({name: factor.contiguous() for name, factor in found.items()}, tmp_path / "fit.safetensors")
    own = generator.generate(PROMPT, SEEDS, arm(BorrowedLowRank(found, 0.7)))
    with_peft = generator_of(unet_directory, 1.0, adapters=[{"path": str(tmp_path / "fit.safetensors"), "scale": 0.7}])
    loaded = with_peft.generate(PROMPT, SEEDS)
    assert int((own.int() - loaded.int()).abs().max()) <= 2
    assert not torch.equal(own, generator.generate(PROMPT, SEEDS))


@pytest.mark.parametrize("part", ["text_encoder", "transformer"])
def test_a_fit_of_pixart_is_a_lora_that_peft_loads_into_its_network(part, tmp_path):
    """The pipeline of PixArt loads no LoRAs; its users give them to peft, network by network."""
    generator = generator_of(save_pixart(tmp_path, sample_size=8, tokens=24), guidance=1.0)
    plain, found = generator.generate(PROMPT, SEEDS), random_factors(generator, (part,))
    own = generator.generate(PROMPT, SEEDS, arm(BorrowedLowRank(found)))
    state = {name.removeprefix(f"{part}."): factor for name, factor in found.items()}
    targets = sorted({name.rpartition(".lora_")[0] for name in state})
    network = getattr(generator.pipeline, part)
    peft.inject_adapter_in_model(peft.LoraConfig(r=2, lora_alpha=2, target_modules=targets), network)
    loaded = peft.set_peft_model_state_dict(network, state)
    assert not loaded.unexpected_keys
    images = without_kept_texts(generator).generate(PROMPT, SEEDS)
    assert int((own.int() - images.int()).abs().max()) <= 2
    assert not torch.equal(own, plain)


def test_a_model_with_adapters_can_be_changed_too(tiny_pipeline, tmp_path):
    plain = generator_of(tiny_pipeline)
    save_file(random_factors(plain, ("denoiser",)), tmp_path / "own.safetensors")
    generator = generator_of(tiny_pipeline, adapters=[{"path": str(tmp_path / "own.safetensors"), "scale": 0.5}])
    assert attention_layers(generator.denoiser).keys() == attention_layers(plain.denoiser).keys()
    before = generator.generate(PROMPT, SEEDS)
    changed = generator.generate(PROMPT, SEEDS, arm(BorrowedLowRank(random_factors(plain))))
    assert not torch.equal(changed, before)
    assert torch.equal(generator.generate(PROMPT, SEEDS), before)


def test_a_fit_of_another_model_is_refused(tiny_pipeline):
    generator = generator_of(tiny_pipeline)
    other = {name.replace("mid_block", "mid_blok"): factor for name, factor in random_factors(generator).items()}
    with pytest.raises(UnfitModelError, match=r"'mid_blok.*which it lacks; delete the fit"):
        generator.generate(PROMPT, SEEDS, arm(BorrowedLowRank(other)))
    with pytest.raises(UnfitModelError, match="expected attention layers in the Linear, found none"):
        new_factors({"unet": torch.nn.Linear(2, 2)}, 2, 0)


def test_an_arm_with_other_encoders_shares_no_step_with_the_baseline():
    assert shared_steps(with_change(None, 2, 3)) == 0
    borrowed = BorrowedLowRank({"text_encoder.a.q_proj.lora_A.weight": torch.zeros(1, 1)})
    assert borrowed.has("text_encoder")
    assert not borrowed.has("unet")
    assert shared_steps(arm(borrowed)) == 0
    assert not arm(borrowed).changes_texts_alone
