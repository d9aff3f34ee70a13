"""Pipelines without a family: their images are those of the stock pipeline, and their inside is not reached."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline

from audit.config.sections import ModelConfig, SamplingConfig
from audit.config.settings import AuditConfig
from audit.models.check import Sampled, hookpoints_of, model_problems
from audit.models.families.registry import family_here, places_here, size_here
from audit.models.files.untrusted_model import UnfitModelError
from audit.models.generator import load_generator
from audit.models.intervention import Intervention
from audit.preflight.model import check_methods
from audit.preflight.readiness import check_ready
from audit.records.work import Prompt
from benchmarks.spoiled_models import change_tensors
from benchmarks.tiny_families import save_chroma, save_tiny_pipeline

SEEDS, TEXT = [11, 22, 33], "a face photo of a doctor"
DOCTOR = Prompt("doctor", TEXT, "doctor")
SAMPLING = {
    "chroma": SamplingConfig(steps=3, guidance=4.0, height=32, width=32),
    "pag": SamplingConfig(steps=3, guidance=3.0, negative_prompt="a nurse"),
}


def save_pag(root):
    """Stable Diffusion whose index names the pipeline with perturbed-attention guidance."""
    directory = save_tiny_pipeline(root)
    index = json.loads((directory / "model_index.json").read_text())
    (directory / "model_index.json").write_text(json.dumps(index | {"_class_name": "StableDiffusionPAGPipeline"}))
    return directory


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    makers = {"chroma": save_chroma, "pag": save_pag}
    return {name: make(tmp_path_factory.mktemp(name)) for name, make in makers.items()}


def generator_of(directory, sampling):
    return load_generator(ModelConfig(source=str(directory)), sampling)


@pytest.mark.parametrize("name", SAMPLING)
def test_images_are_those_of_the_stock_pipeline_bit_for_bit(saved, name):
    sampling = SAMPLING[name]
    pipeline = DiffusionPipeline.from_pretrained(saved[name], local_files_only=True)
    more = {key: getattr(sampling, key) for key in ("height", "width", "negative_prompt")}
    expected = pipeline(
        TEXT,
        num_images_per_prompt=3,
        num_inference_steps=3,
        guidance_scale=sampling.guidance,
        generator=[torch.Generator().manual_seed(seed) for seed in SEEDS],
        **{key: value for key, value in more.items() if value is not None},
    ).images
    generator = generator_of(saved[name], sampling)
    drawn = generator.generate(DOCTOR, SEEDS).permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(drawn, np.stack([np.asarray(image) for image in expected]))
    assert generator.sampling["inside"] == "not reached"


def test_an_intervention_may_change_the_text_and_nothing_inside(saved):
    generator = generator_of(saved["chroma"], SAMPLING["chroma"])
    other = Intervention((None,) * 3, range(3), texts=("a nurse",) * 3)
    assert not torch.equal(generator.generate(DOCTOR, SEEDS, other), generator.generate(DOCTOR, SEEDS))
    edit = Intervention((None,) * 3, range(3), edits={"transformer_blocks.0": lambda _step, h: h})
    with pytest.raises(ValueError, match="whose inside can be reached, found ChromaPipeline"):
        generator.generate(DOCTOR, SEEDS, edit)


def test_a_whole_model_is_accepted_and_its_hookpoints_are_refused(saved):
    model = ModelConfig(source=str(saved["chroma"]))
    assert model_problems(saved["chroma"], model, Sampled(SAMPLING["chroma"], {})) == ()
    hooked = Sampled(SAMPLING["chroma"], {("lens", "hookpoint"): "transformer_blocks.0"})
    assert "whose inside is not reached" in model_problems(saved["chroma"], model, hooked)[0].message
    with pytest.raises(UnfitModelError, match="whose inside can be reached"):
        hookpoints_of(saved["chroma"], model)


def test_settings_that_its_call_does_not_have_are_refused(saved):
    found = model_problems(
        saved["chroma"],
        ModelConfig(source=str(saved["chroma"])),
        Sampled(SamplingConfig(steps=3, true_guidance=2.0, scheduler="DDIMScheduler"), {}),
    )
    assert {problem.location[1] for problem in found} == {"true_guidance", "scheduler"}


def test_a_missing_tensor_is_refused(saved, tmp_path):
    model = shutil.copytree(saved["chroma"], tmp_path / "model")
    path = model / "transformer/diffusion_pytorch_model.safetensors"
    change_tensors(path, lambda t: {name: value for name, value in t.items() if name != "proj_out.bias"})
    message = r"transformer: .* found no proj_out\.bias; they would be random"
    with pytest.raises(UnfitModelError, match=message):
        generator_of(model, SAMPLING["chroma"])


def spoiled(model, **changes):
    path = model / "model_index.json"
    index = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in index.items() if value is not None}))
    return model


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scheduler": None}, "expected the parts of ChromaPipeline, found no scheduler"),
        ({"transformer": ["diffusers", "NoSuchModel"]}, "found NoSuchModel, which it lacks"),
        ({"vae": ["diffusers"]}, r"vae of class \['diffusers'\]"),
        ({"tokenizer": ["own_code", "Tokenizer"]}, r"tokenizer of class \['own_code', 'Tokenizer'\]"),
    ],
)
def test_a_directory_that_is_no_whole_pipeline_is_refused_in_words(saved, tmp_path, changes, message):
    model = spoiled(shutil.copytree(saved["chroma"], tmp_path / "model"), **changes)
    (problem,) = model_problems(model, ModelConfig(source=str(model)), Sampled(SAMPLING["chroma"], {}))
    assert re.search(message, problem.message)
    config = ModelConfig(source=str(model))
    assert (size_here(config, SAMPLING["chroma"]), places_here(config)) in ((None, None), (None, ()))


@pytest.mark.parametrize(
    "keys",
    [
        {"method": "fair_pca"},
        {"method": "fair_diffusion"},
        {"method": "uce"},
        {"method": "prompt", "strength": 0.5},
        {"method": "prompt", "strength": "search"},
    ],
)
def test_validate_refuses_a_method_that_reaches_inside_with_one_message(saved, keys):
    assert method_messages(saved, keys) == [
        f"expected a method that changes prompts alone, because {found_name(saved)} is not reached inside, found "
        f"{keys['method']!r}; use method: prompt with its default strength"
    ]


def test_validate_accepts_the_prompt_that_names_the_group(saved):
    assert method_messages(saved, {"method": "prompt"}) == []


def found_name(saved):
    return family_here(ModelConfig(source=str(saved["chroma"]))).name


def method_messages(saved, keys):
    config = AuditConfig.model_validate(
        {
            "name": "audit",
            "model": {"source": str(saved["chroma"])},
            "prompts": {"occupations": ["doctor"]},
            "sampling": {"steps": 3, "guidance": 4.0},
            "mitigations": [{"name": "m", "attribute": "gender", **keys}],
        }
    )
    return [one.message for one in check_methods(config.model, config.sampling, config.mitigations)]


def test_validate_refuses_an_edit_with_the_reason(saved):
    config = AuditConfig.model_validate(
        {
            "name": "audit",
            "model": {"source": str(saved["chroma"])},
            "prompts": {"occupations": ["doctor"]},
            "sampling": {"steps": 3, "guidance": 4.0},
            "quality": {"clip": "none", "features": "none"},
            "mitigations": [{"name": "m", "attribute": "gender"}],
        }
    )
    messages = {".".join(map(str, problem.location)): problem.message for problem in check_ready(config)}
    assert "found 'mid_block'; remove what edits or analyses the model" in messages["lens.hookpoint"]
