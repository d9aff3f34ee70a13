"""What validate accepts loads and draws; what cannot be run as it was published is refused in words, by both."""

import json
import re
import shutil

import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from audit.calibration.bundle import BUNDLED
from audit.config.sections import ModelConfig, SamplingConfig
from audit.models.check import Sampled, model_problems
from audit.models.files.untrusted_model import UnfitModelError, UntrustedModelError
from audit.models.generator import load_generator
from benchmarks.spoiled_models import ACCEPTED, REFUSED, TEXT, UNET, VAE, change_tensors, edit
from ray_jobs.cli.commands import app

STEPS = SamplingConfig(steps=4, guidance=3.0)
TEXTS = ["a face photo of a doctor", "a face photo of a nurse"]


@pytest.fixture
def model(tiny_pipeline, tmp_path):
    """A copy of a good pipeline, to spoil."""
    return shutil.copytree(tiny_pipeline, tmp_path / "model")


def problems(directory, *, variant=None, hookpoint="mid_block", sampling=STEPS):
    sampled = Sampled(sampling, {("lens", "hookpoint"): hookpoint})
    found = model_problems(directory, ModelConfig(source=str(directory), variant=variant), sampled)
    return {".".join(map(str, problem.location)): problem.message for problem in found}


def drawn(directory, variant=None):
    return load_generator(ModelConfig(source=str(directory), variant=variant), STEPS).sample(TEXTS, [1, 2])


@pytest.mark.parametrize("name", REFUSED)
def test_a_spoiled_model_is_refused_where_it_is_asked_for_and_where_it_is_loaded(model, name):
    spoil, place, message = REFUSED[name]
    spoil(model)
    found = problems(model)
    assert list(found) == [place]
    assert re.search(message, found[place])
    assert "Traceback" not in found[place]
    with pytest.raises((UnfitModelError, UntrustedModelError), match=message):
        load_generator(ModelConfig(source=str(model)), STEPS)


@pytest.mark.parametrize("name", ACCEPTED)
def test_an_odd_but_whole_model_is_accepted_and_draws(model, name):
    ACCEPTED[name](model)
    variant = "fp16" if name == "one-part-s-variant" else None
    assert problems(model, variant=variant) == {}
    assert len(torch.unique(drawn(model, variant))) > 1


@pytest.mark.parametrize("name", ["sample-size-of-two", "no-limit", "limit-unsaid", "names-of-transformers-4"])
def test_what_is_only_written_otherwise_draws_the_same(model, tiny_pipeline, name):
    ACCEPTED[name](model)
    assert torch.equal(drawn(model), drawn(tiny_pipeline))


def test_pictures_need_not_be_square(model):
    edit(model / "unet/config.json", sample_size=[8, 12])
    assert problems(model) == {}
    assert drawn(model).shape == (2, 3, 16, 24)


def test_weights_in_shards_are_read_from_all_of_them(model, tiny_pipeline):
    UNet2DConditionModel.from_pretrained(model / "unet").save_pretrained(model / "unet", max_shard_size="20KB")
    (model / UNET).unlink(missing_ok=True)
    shards = sorted((model / "unet").glob("*-of-*.safetensors"))
    assert len(shards) > 1
    assert problems(model) == {}
    assert torch.equal(drawn(model), drawn(tiny_pipeline))
    kept = shards[-1].read_bytes()
    shards[-1].unlink()
    assert f"expected shards in the same directory, found no {shards[-1].name}" in problems(model)["model.source"]
    tensors = load_file(shards[0])
    shards[-1].write_bytes(kept)
    save_file(dict(list(tensors.items())[1:]), shards[0])
    assert "expected the tensors that the index of its shards names" in problems(model)["model.source"]


def test_an_index_of_shards_leads_out_of_no_directory(model):
    index = {"metadata": {}, "weight_map": {"conv_in.weight": "../vae/diffusion_pytorch_model.safetensors"}}
    (model / "unet/diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    assert "found the path '../vae/diffusion_pytorch_model.safetensors'" in problems(model)["model.source"]


def test_linked_weights_are_followed_as_in_the_hub_s_cache(model, tmp_path):
    (model / UNET).rename(tmp_path / "blob")
    (model / UNET).symlink_to(tmp_path / "blob")
    assert problems(model) == {}


def test_a_variant_must_be_one_of_the_model_s(model):
    assert "found no variant, not 'fp16'; leave model.variant out" in problems(model, variant="fp16")["model.variant"]
    for path in (UNET, VAE, TEXT):
        (model / path).rename((model / path).with_suffix(".fp16.safetensors"))
    assert problems(model, variant="fp16") == {}
    assert "found files of fp16, not 'bf16'" in problems(model, variant="bf16")["model.variant"]


def test_a_model_in_the_names_of_old_releases_loads_to_the_same_numbers(model, tiny_pipeline):
    """As Stable Diffusion 1.x is on the hub: text_model., position_ids, the VAE's attention under its old names."""
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def renamed(name):
        for new, before in old.items():
            if ".attentions." in name:
                name = name.replace(f".{new}.", f".{before}.")
        return name

    change_tensors(model / VAE, lambda t: {renamed(name): value for name, value in t.items()})
    change_tensors(
        model / TEXT,
        lambda t: (
            {f"text_model.{k}": v for k, v in t.items()}
            | {"text_model.embeddings.position_ids": torch.arange(20)[None].float()}
        ),
    )
    edit(
        model / "unet/config.json",
        drop=("time_cond_proj_dim", "addition_embed_type", "class_embed_type", "conv_in_kernel"),
    )
    assert any("query" in name for name in load_file(model / VAE))
    assert problems(model) == {}
    assert torch.equal(drawn(model), drawn(tiny_pipeline))


def test_a_checkpoint_of_many_epochs_ago_still_says_64(model):
    edit(model / "unet/config.json", _diffusers_version="0.6.0")
    assert problems(model) == {}
    assert drawn(model).shape == (2, 3, 128, 128)
    edit(model / "unet/config.json", _diffusers_version="lately")
    assert "expected a version in _diffusers_version, found 'lately'" in problems(model)["model.source"]


@pytest.mark.parametrize(
    ("hookpoint", "message"),
    [
        ("mid_blok", "nearest: mid_block"),
        ("time_proj", r"expected a map"),
        ("down_blocks", "no call of the denoiser passes through it"),
    ],
)
def test_a_hookpoint_must_be_a_map_of_the_unet(model, hookpoint, message):
    assert re.search(message, problems(model, hookpoint=hookpoint)["lens.hookpoint"])


@pytest.mark.parametrize(
    "hookpoint",
    [
        "mid_block",
        "up_blocks.1",
        "mid_block.resnets.0",
        "mid_block.attentions.0",
        "mid_block.attentions.0.transformer_blocks.0",
    ],
)
def test_blocks_resnets_attentions_and_transformer_blocks_are_hookpoints(model, hookpoint):
    assert problems(model, hookpoint=hookpoint) == {}


def test_steps_before_the_first_timestep_are_refused(model):
    edit(model / "scheduler/scheduler_config.json", timestep_spacing="trailing")
    ddim = {"scheduler": "DDIMScheduler"}
    assert problems(model, sampling=SamplingConfig(steps=60, **ddim)) == {}
    found = problems(model, sampling=SamplingConfig(steps=61, **ddim))["sampling.steps"]
    assert found.startswith(
        "expected steps within the timesteps 0 to 999, found 61, which lead from timestep 999 to -1"
    )


def test_several_faults_are_told_at_once(model):
    edit(model / "vae/config.json", scaling_factor=0)
    edit(model / "unet/config.json", num_class_embeds=3, sample_size=None)
    (model / "tokenizer/tokenizer.json").unlink()
    found = model_problems(model, ModelConfig(source=str(model)))
    words = ("num_class_embeds", "sample_size", "scaling_factor", "tokenizer")
    messages = [problem.message for problem in found]
    assert all(any(word in message for message in messages) for word in words), messages


def test_the_bundled_model_passes(tmp_path):
    assert problems(BUNDLED / "pipeline", sampling=SamplingConfig()) == {}


def test_a_loader_that_filled_a_tensor_in_is_not_believed(model, monkeypatch):
    """Were a release of the library to rename a tensor, the comparison before loading could not know."""
    monkeypatch.setattr("audit.models.loading.refuse_unfit", lambda *_: None)
    change_tensors(model / UNET, lambda t: {k: v for k, v in t.items() if k != "conv_out.bias"} | {"x": torch.zeros(1)})
    with pytest.raises(UnfitModelError, match=r"missing keys conv_out\.bias; unexpected keys x"):
        drawn(model)


def test_a_published_model_draws_what_diffusers_draws_from_it(tiny_pipeline):
    stock = StableDiffusionPipeline.from_pretrained(tiny_pipeline, safety_checker=None)
    ours = load_generator(ModelConfig(source=str(tiny_pipeline)), STEPS).pipeline
    for part in ("unet", "vae", "text_encoder"):
        theirs = getattr(stock, part).state_dict()
        assert all(torch.equal(value, theirs[name]) for name, value in getattr(ours, part).state_dict().items())


@pytest.mark.parametrize("name", ["half-a-file", "fp16-alone", "class-labels"])
def test_the_command_line_names_the_fault_at_its_line_and_ends_with_2(model, tmp_path, name):
    spoil, place, message = REFUSED[name]
    spoil(model)
    path = tmp_path / "audit.yaml"
    path.write_text(
        f"name: trial\nmodel:\n  source: {model}\nprompts: {{occupations: [doctor]}}\n"
        "judge: {source: judge.pt}\nquality: {clip: none, features: none}\n"
    )
    done = CliRunner().invoke(app, ["validate", str(path)])
    assert done.exit_code == 2
    assert isinstance(done.exception, SystemExit)
    line = next(line for line in done.output.splitlines() if place in line)
    assert re.search(rf"audit\.yaml:[23]:\d+: {re.escape(place)}: .*{message}", line)
