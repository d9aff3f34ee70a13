"""A checkpoint in one file draws what its directory draws, and a file that lacks something is refused in words."""

import json
import re
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from torchvision.models import squeezenet1_1
from typer.testing import CliRunner

from audit.config.sections import ModelConfig, SamplingConfig
from audit.models.check import Sampled, model_problems
from audit.models.files.untrusted_model import UnfitModelError
from audit.models.generator import load_generator
from audit.models.source import model_fingerprint
from audit.preflight.model import check_model
from benchmarks.original_layout import save_original
from benchmarks.tiny_families import save_sdxl
from benchmarks.tiny_models import save_tiny_pipeline
from ray_jobs.cli.commands import app

SAMPLING = SamplingConfig(steps=3, guidance=3.0)
TEXTS = ["a face photo of a doctor", "a face photo of a nurse"]
KINDS = {
    "sd": lambda root: (pipeline := save_tiny_pipeline(root), save_original(pipeline, root / "sd.safetensors")),
    "sd2": lambda root: (
        pipeline := save_tiny_pipeline(root),
        save_original(pipeline, root / "sd2.safetensors", open_clip=True),
    ),
    "sdxl": lambda root: (
        pipeline := save_sdxl(root, second_width=24),
        save_original(pipeline, root / "sdxl.safetensors"),
    ),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    made = {}

    def of(kind):
        if kind not in made:
            root = tmp_path_factory.mktemp(kind)
            directory, file = KINDS[kind](root)
            configs = shutil.copytree(directory, root / "configs", ignore=shutil.ignore_patterns("*.safetensors"))
            made[kind] = directory, file, configs
        return made[kind]

    return of


def single(file, configs, **keys):
    return ModelConfig(source=str(file), config=str(configs), **keys)


def problems(file, configs):
    sampled = Sampled(SAMPLING, {("lens", "hookpoint"): "mid_block"})
    return [problem.message for problem in model_problems(configs, single(file, configs), sampled)]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_images_are_those_of_the_directory_bit_for_bit(saved, kind, dtype):
    directory, file, configs = saved(kind)
    assert problems(file, configs) == []
    from_directory = load_generator(ModelConfig(source=str(directory), dtype=dtype), SAMPLING)
    from_file = load_generator(single(file, configs, dtype=dtype), SAMPLING)
    images = from_file.sample(TEXTS, [1, 2])
    assert len(torch.unique(images)) > 1
    assert torch.equal(images, from_directory.sample(TEXTS, [1, 2]))


def changed(file, tmp_path, change):
    """A copy of a checkpoint whose tensors are changed."""
    tensors = load_file(file)
    change(tensors)
    other = tmp_path / "other.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, other)
    return other


def without(*begins):
    def change(tensors):
        for name in [name for name in tensors if name.startswith(begins)]:
            del tensors[name]

    return change


def with_tensor(name, *shape):
    return lambda tensors: tensors.update({name: torch.zeros(shape)})


UNET = "model.diffusion_model."
REFUSED = {
    "a missing weight": (
        "sd",
        without(UNET + "middle_block.1.norm.weight"),
        r"found no mid_block\.attentions\.0\.norm",
    ),
    "a missing weight of the VAE": ("sd", without("first_stage_model.decoder.conv_in.bias"), "decoder.conv_in.bias"),
    "a missing weight of CLIP": ("sd", without("cond_stage_model.transformer.text_model.final"), "final_layer_norm"),
    "a missing weight of OpenCLIP": ("sd2", without("cond_stage_model.model.ln_final.bias"), "final_layer_norm.bias"),
    "a missing embedding of SDXL": ("sdxl", without(UNET + "label_emb.0.0.weight"), "label_emb.0.0.weight"),
    "no second text encoder": ("sdxl", without("conditioner.embedders.1."), "found no text encoder of width 24"),
    "a surplus weight of the U-Net": (
        "sd",
        with_tensor(UNET + "extra.weight", 3),
        "and no other, found .*extra.weight",
    ),
    "a surplus weight in a block": ("sd", with_tensor(UNET + "middle_block.1.extra", 3), "also mid_block.attentions.0"),
    "a surplus part": ("sd", with_tensor("depth_model.weight", 3), "and no other, found depth_model.weight"),
    "another shape": ("sd", with_tensor(UNET + "input_blocks.0.0.weight", 8, 9, 3, 3), "conv_in.weight of shape"),
    "no VAE": ("sd", without("first_stage_model."), "found no VAE; give the checkpoint of the whole pipeline"),
    "no VAE and no text encoder": ("sd", without("first_stage_model.", "cond_"), "found no VAE and no text encoder"),
    "the mark of v-prediction": ("sd", with_tensor("v_pred", 0), "expected prediction_type 'v_prediction'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_lacks_or_has_more_is_refused_where_it_is_asked_for_and_where_it_is_loaded(saved, tmp_path, name):
    kind, change, message = REFUSED[name]
    _, file, configs = saved(kind)
    other = changed(file, tmp_path, change)
    found = problems(other, configs)
    assert len(found) == 1
    assert re.search(message, found[0])
    with pytest.raises(UnfitModelError, match=message):
        load_generator(single(other, configs), SAMPLING)


def test_what_training_left_over_is_not_read(saved, tmp_path):
    _, file, configs = saved("sd")
    names = ("betas", "alphas_cumprod", "model_ema.decay", "model_ema.diffusion_modelout0weight", "logvar")
    other = changed(file, tmp_path, lambda tensors: [with_tensor(name, 3)(tensors) for name in names])
    assert problems(other, configs) == []
    images = [load_generator(single(one, configs), SAMPLING).sample(TEXTS, [1, 2]) for one in (file, other)]
    assert torch.equal(*images)


@pytest.mark.parametrize(
    ("tensors", "kind"),
    [
        ({"lora_unet_down.lora_down.weight": (2, 3), "lora_unet_down.lora_up.weight": (3, 2)}, "found a LoRA"),
        ({"encoder.conv_in.weight": (3,), "decoder.conv_in.weight": (3,)}, "found a VAE alone"),
        ({"first_stage_model.decoder.conv_in.weight": (3,)}, "found no U-Net and no text encoder"),
        ({"down_blocks.0.resnets.0.norm1.weight": (3,)}, "found a U-Net of diffusers alone"),
        ({"model.diffusion_model.double_blocks.0.img_mlp.0.weight": (3,)}, "found a transformer"),
        ({"control_model.time_embed.0.weight": (3,)}, "found a ControlNet"),
        ({"weight": (3,)}, "found weight; give another file"),
    ],
)
def test_a_file_of_another_kind_is_named(saved, tmp_path, tensors, kind):
    _, _, configs = saved("sd")
    file = tmp_path / "other.safetensors"
    save_file({name: torch.zeros(shape) for name, shape in tensors.items()}, file)
    (found,) = problems(file, configs)
    assert kind in found
    assert found.startswith(str(file))


def test_half_a_file_is_refused(saved, tmp_path):
    _, file, configs = saved("sd")
    half = tmp_path / "half.safetensors"
    half.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    (found,) = problems(half, configs)
    assert "expected a whole safetensors file" in found


def test_the_configs_of_another_model_are_refused(saved):
    (found,) = problems(saved("sd")[1], saved("sdxl")[2])
    assert "found no label_emb" in found


def test_encoders_of_one_width_cannot_be_told_apart(tmp_path):
    directory = save_sdxl(tmp_path)
    found = problems(save_original(directory, tmp_path / "sdxl.safetensors"), directory)
    assert "conditioner.embedders.1.model.positional_embedding" in found[0]


def test_the_fingerprint_is_that_of_the_file_and_of_its_configs(saved, tmp_path):
    _, file, configs = saved("sd")
    own = model_fingerprint(single(file, configs))
    copied = shutil.copy(file, tmp_path / "renamed.safetensors")
    assert model_fingerprint(single(copied, configs)) == own
    other = changed(file, tmp_path, lambda tensors: tensors.update({name: one + 1 for name, one in tensors.items()}))
    assert model_fingerprint(single(other, configs)) != own
    edited = shutil.copytree(configs, tmp_path / "edited")
    scheduler = edited / "scheduler/scheduler_config.json"
    scheduler.write_text(json.dumps(json.loads(scheduler.read_text()) | {"beta_end": 0.02}))
    assert model_fingerprint(single(file, edited)) != own


@pytest.mark.parametrize(
    ("keys", "place", "message"),
    [
        ({"source": "FILE"}, "model.config", "set model.config to the directory"),
        ({"source": "FILE", "config": "nowhere"}, "model.config", "no model_index.json in nowhere"),
        ({"source": "FILE", "config": "CONFIGS", "variant": "fp16"}, "model.variant", "expected none"),
        ({"source": "gone.safetensors", "config": "CONFIGS"}, "model.source", "found none at gone.safetensors"),
        ({"source": "models/old.ckpt"}, "model.source", "expected a checkpoint in safetensors"),
        ({"source": "CONFIGS", "config": "CONFIGS"}, "model.config", "expected none beside"),
    ],
)
def test_each_mistake_is_named_at_its_key(saved, keys, place, message):
    _, file, configs = saved("sd")
    names = {"FILE": str(file), "CONFIGS": str(configs)}
    model = ModelConfig(**{key: names.get(text, text) for key, text in keys.items()})
    found = {".".join(map(str, one.location)): one.message for one in check_model(model, SAMPLING, {})}
    assert message in found[place]


JUDGE = {
    "architecture": "torchvision/squeezenet1_1",
    "outputs": ["woman", "man"],
    "groups": {"gender": {"female": ["woman"], "male": ["man"]}},
}


def test_validate_plan_and_doctor_know_a_checkpoint(saved, tmp_path):
    _, file, configs = saved("sd")
    save_file(squeezenet1_1(num_classes=2).state_dict(), tmp_path / "judge.safetensors")
    config = tmp_path / "audit.yaml"
    keys = {
        "name": "one-file",
        "model": {"source": str(file), "config": str(configs)},
        "prompts": {"occupations": ["doctor"], "images_per_prompt": 4},
        "sampling": {"steps": 2, "guidance": 3.0, "batch": 4},
        "attributes": {"gender": ["female", "male"]},
        "judge": {"source": str(tmp_path / "judge.safetensors"), "classifier": JUDGE},
        "quality": {"clip": "none", "features": "none"},
        "output": str(tmp_path / "runs"),
    }
    config.write_text(json.dumps(keys))

    def said(*command):
        return " ".join(CliRunner().invoke(app, [*command, str(config)]).output.split())

    assert "is valid" in said("validate")
    assert "mid_block" in said("hookpoints")
    assert json.loads(said("plan", "--json"))["unet_calls"] == 4 * 3 * 2  # PNDM takes 3 steps
    assert "checkpoint of the model" not in said("doctor", "--config")
    config.write_text(json.dumps(keys | {"model": keys["model"] | {"source": f"{tmp_path}/gone.safetensors"}}))
    assert "found none at" in said("validate")
    assert "checkpoint of the model" in said("doctor", "--config")
