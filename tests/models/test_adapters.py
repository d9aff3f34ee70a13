"""LoRAs: added beside the weights with their scale, refused if they fit only in part, and part of the fingerprint."""

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file

from audit.config.sections import ModelConfig, SamplingConfig
from audit.models.check import model_problems
from audit.models.files.untrusted_model import UnfitModelError
from audit.models.generator import load_generator
from audit.models.kernels.compiled import compile_blocks
from audit.models.source import model_fingerprint
from audit.records.work import Prompt

DOCTOR, SEEDS = Prompt("doctor", "a face photo of a doctor", "doctor"), [11, 22]
SAMPLING = SamplingConfig(steps=3, guidance=3.0)


def generator_of(directory, *adapters):
    model = ModelConfig(
        source=str(directory), adapters=[{"path": str(path), "scale": scale} for path, scale in adapters]
    )
    return load_generator(model, SAMPLING)


@pytest.fixture(scope="module")
def lora(tiny_pipeline, tmp_path_factory):
    """A LoRA of random weights, saved as diffusers saves one."""
    pipeline = generator_of(tiny_pipeline).pipeline
    pipeline.unet.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False))
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft.utils import get_peft_model_state_dict

    directory = tmp_path_factory.mktemp("lora")
    layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(pipeline.unet))
    pipeline.save_lora_weights(directory, unet_lora_layers={name: 8 * value for name, value in layers.items()})
    return directory / "pytorch_lora_weights.safetensors"


def test_images_are_those_of_the_stock_pipeline_with_the_lora(tiny_pipeline, lora):
    from diffusers import StableDiffusionPipeline

    stock = StableDiffusionPipeline.from_pretrained(tiny_pipeline, safety_checker=None)
    stock.load_lora_weights(lora.parent, weight_name=lora.name, adapter_name="own")
    stock.set_adapters(["own"], [0.7])
    generators = [torch.Generator().manual_seed(seed) for seed in SEEDS]
    expected = stock(
        DOCTOR.text,
        num_images_per_prompt=2,
        num_inference_steps=3,
        guidance_scale=3.0,
        generator=generators,
        output_type="np",
    ).images
    drawn = generator_of(tiny_pipeline, (lora, 0.7)).generate(DOCTOR, SEEDS)
    assert torch.equal(drawn, torch.from_numpy(expected).mul(255).round().byte().permute(0, 3, 1, 2))


def test_a_lora_acts_in_compiled_blocks(tiny_pipeline, lora):
    plain, compiled = generator_of(tiny_pipeline, (lora, 0.7)), generator_of(tiny_pipeline, (lora, 0.7))
    assert compile_blocks(compiled.denoiser, torch.device("cpu"), "aot_eager")
    found, expected = compiled.generate(DOCTOR, SEEDS).int(), plain.generate(DOCTOR, SEEDS).int()
    assert int((found - expected).abs().max()) <= 2
    assert not torch.equal(found, generator_of(tiny_pipeline).generate(DOCTOR, SEEDS).int())


def test_the_scale_counts_and_zero_is_the_base_model(tiny_pipeline, lora):
    plain = generator_of(tiny_pipeline).generate(DOCTOR, SEEDS)
    assert torch.equal(generator_of(tiny_pipeline, (lora, 0.0)).generate(DOCTOR, SEEDS), plain)
    one, two = (generator_of(tiny_pipeline, (lora, scale)).generate(DOCTOR, SEEDS) for scale in (1.0, 2.0))
    assert not torch.equal(one, plain)
    assert not torch.equal(one, two)


def test_hookpoints_keep_their_addresses(tiny_pipeline, lora):
    seen = []
    generator_of(tiny_pipeline, (lora, 1.0)).generate(
        DOCTOR, SEEDS, observers={"mid_block.attentions.0": lambda step, h: seen.append(step)}
    )
    assert seen == [0, 1, 2, 3]


def test_file_and_scale_belong_to_the_fingerprint(tiny_pipeline, lora):
    def fingerprint(*adapters):
        return model_fingerprint(ModelConfig(source=str(tiny_pipeline), adapters=list(adapters)))

    one = {"path": str(lora)}
    assert len({fingerprint(), fingerprint(one), fingerprint(one | {"scale": 0.5}), fingerprint(one, one)}) == 4


def changed(lora, tmp_path, change):
    path = tmp_path / "lora.safetensors"
    save_file(change(load_file(lora)), path)
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: {name: value for name, value in t.items() if "mid_block" not in name or "up" in name},
            "both factors",
        ),
        (lambda t: {"conv.weight": torch.zeros(2)}, "expected the tensors of a LoRA, found conv.weight"),
        (lambda t: {name: value.to(torch.int8) for name, value in t.items()}, "expected weights in F64"),
    ],
)
def test_what_is_no_whole_lora_is_refused_by_validate(tiny_pipeline, lora, tmp_path, change, message):
    path = changed(lora, tmp_path, change)
    model = ModelConfig(source=str(tiny_pipeline), adapters=[{"path": str(path)}])
    (problem,) = model_problems(tiny_pipeline, model)
    assert problem.location == ("model", "adapters", 0, "path")
    assert message in problem.message


def test_half_a_file_and_no_file_are_refused(tiny_pipeline, lora, tmp_path):
    half = tmp_path / "half.safetensors"
    half.write_bytes(lora.read_bytes()[:200])
    for path in (half, tmp_path / "absent.safetensors"):
        (problem,) = model_problems(
            tiny_pipeline, ModelConfig(source=str(tiny_pipeline), adapters=[{"path": str(path)}])
        )
        assert "expected a LoRA as a whole safetensors file" in problem.message


def test_a_lora_that_fits_in_part_is_refused(tiny_pipeline, lora, tmp_path):
    def of_another_model(tensors):
        return tensors | {name.replace("mid_block", "mid_block_of_another"): v.clone() for name, v in tensors.items()}

    with pytest.raises(UnfitModelError, match="tensors all fit this model, found"):
        generator_of(tiny_pipeline, (changed(lora, tmp_path, of_another_model), 1.0))
    wide = changed(lora, tmp_path, lambda t: {n: torch.cat([v, v], -1).contiguous() for n, v in t.items()})
    with pytest.raises(UnfitModelError, match="found one that cannot be loaded"):
        generator_of(tiny_pipeline, (wide, 1.0))
