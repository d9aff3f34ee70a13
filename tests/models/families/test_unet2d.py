"""Unconditional U-Nets on pixels: pictures are those of diffusers' own pipelines, in both layouts of a directory."""

import json
import shutil

import pytest
import torch

from audit.config.sections import ModelConfig, SamplingConfig
from audit.config.settings import AuditConfig
from audit.dissect.recording.trajectories import plan_trajectories
from audit.dissect.settings import Dissection
from audit.models.check import Sampled, model_problems
from audit.models.files.untrusted_model import UnfitModelError
from audit.models.generator import load_generator
from audit.models.intervention import Intervention
from audit.planning.plan import NO_PROMPT
from audit.preflight.readiness import check_ready
from benchmarks.tiny_families import save_ddpm

SEEDS = [7, 8, 9]
STEPS = SamplingConfig(steps=4, guidance=1.0, scheduler="DDIMScheduler")
INSTRUMENTS = {"quality": {"clip": "none", "features": "none"}}


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A DDPM of random weights: 16 x 16 pixels, clipped, as early models are published."""
    return save_ddpm(tmp_path_factory.mktemp("ddpm"))


@pytest.fixture
def model(published, tmp_path):
    return shutil.copytree(published, tmp_path / "model")


def flattened(model):
    """Put all files into one directory, as the first DDPM repositories have them."""
    for part in ("unet", "scheduler"):
        for file in (model / part).iterdir():
            file.rename(model / file.name)
        (model / part).rmdir()
    return model


def generator_of(directory, sampling=STEPS):
    return load_generator(ModelConfig(source=str(directory)), sampling)


def test_a_directory_without_folders_is_the_same_model(published, model):
    sampled = Sampled(STEPS, {("lens", "hookpoint"): "mid_block"})
    assert model_problems(flattened(model), ModelConfig(source=str(model)), sampled) == ()
    drawn = generator_of(model).generate(NO_PROMPT, SEEDS)
    assert torch.equal(drawn, generator_of(published).generate(NO_PROMPT, SEEDS))


def test_hookpoints_are_observed_and_edited(published):
    generator, seen = generator_of(published), []
    plain = generator.generate(NO_PROMPT, SEEDS, observers={"mid_block": lambda _step, h: seen.append(h.shape)})
    assert seen == [(3, 16, 8, 8)] * 4
    nobody = (None, None, None)
    neutral = Intervention(nobody, range(4), "asymmetric", edits={"mid_block": lambda _step, h: h})
    assert torch.equal(generator.generate(NO_PROMPT, SEEDS, neutral), plain)
    edit = Intervention(nobody, range(4), edits={"mid_block": lambda _step, h: h + 5})
    assert not torch.equal(generator.generate(NO_PROMPT, SEEDS, edit), plain)


def test_a_text_is_refused(published):
    with pytest.raises(ValueError, match=r"expected no text and guidance 1 .* found the text 'a doctor'"):
        generator_of(published).sample(["a doctor"], [0])
    with pytest.raises(ValueError, match="found guidance 3"):
        generator_of(published, SamplingConfig(steps=4, guidance=3.0)).sample([""], [0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_class_embeds": 10}, "expected no num_class_embeds, found 10: this U-Net needs a class label"),
        ({"out_channels": 6}, "expected out_channels 3, red, green and blue, found 6"),
        ({"sample_size": None}, "expected sample_size"),
        ({"_class_name": "UNet2DConditionModel"}, "expected the config of a UNet2DModel"),
        ({"block_out_channels": [8, 32]}, "instead of"),
    ],
)
def test_what_cannot_be_run_as_published_is_refused(model, changes, message):
    path = model / "unet" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    assert message in " ".join(problem.message for problem in model_problems(model, ModelConfig(source=str(model))))
    with pytest.raises(UnfitModelError):
        generator_of(model)


def found(source, **sections):
    config = AuditConfig.model_validate({"name": "audit", "model": {"source": str(source)}, **INSTRUMENTS} | sections)
    messages = {".".join(map(str, problem.location)): problem.message for problem in check_ready(config)}
    return {place: message for place, message in messages.items() if place != "judge.source"}


def test_validate_asks_for_no_prompts_and_only_here(published, tiny_pipeline):
    without = {"prompts": "none", "sampling": {"steps": 20}}
    assert found(published, **without) == {}
    assert (
        "reads no prompt, found occupations; set prompts: none"
        in (found(published, prompts={"occupations": ["doctor"]})["prompts.occupations"])
    )
    assert "draws what a prompt says, found 'none'" in found(tiny_pipeline, **without)["prompts.occupations"]


def test_a_gate_on_the_mean_over_prompts_is_refused(published):
    gate = {"name": "balanced", "measure": "fairness_discrepancy", "attribute": "gender", "max": 0.25}
    without = {"prompts": "none", "sampling": {"steps": 20}}
    assert "set prompt: no-prompt" in found(published, **without, gates=[gate])["gates.0.prompt"]
    assert found(published, **without, gates=[gate | {"prompt": NO_PROMPT.id}]) == {}


@pytest.mark.parametrize(
    ("sections", "place"),
    [
        ({"sampling": {"guidance": 3.0}}, "sampling.guidance"),
        ({"lens": {"baseline": "counterfactual"}}, "lens.baseline"),
        ({"mitigations": [{"name": "p", "method": "prompt", "attribute": "gender"}]}, "mitigations.0.method"),
        ({"gates": [{"name": "g", "measure": "prompt_shown", "min": 0.9}]}, "gates.0.measure"),
    ],
)
def test_settings_that_need_a_prompt_are_refused_without_one(sections, place):
    with pytest.raises(ValueError, match="expected") as refused:
        AuditConfig.model_validate({"name": "audit", "prompts": "none", "sampling": {"guidance": 1.0}} | sections)
    assert place in {".".join(map(str, error["loc"])) for error in refused.value.errors()}


def test_every_hookpoint_of_a_config_is_checked_before_any_work(tiny_pipeline):
    edit = {"name": "m", "method": "mean_difference", "attribute": "gender", "hookpoints": ["mid_block", "mid_block.x"]}
    sections = {
        "prompts": {"occupations": ["doctor"]},
        "mitigations": [edit],
        "sampling": {"steps": 20, "guidance": 3.0},
    }
    assert "'mid_block.x' is not a module" in found(tiny_pipeline, **sections)["mitigations.0.hookpoints.1"]
    assert "'mid_block.x' is not a module" in found("calibration", **sections)["mitigations.0.hookpoints.1"]


def test_every_trajectory_of_a_dissection_is_plain():
    settings = Dissection("mid_block", False, 8, 16, 20, 20, 100, 5, "zero", 4, 1.0, 8, 0)
    planned = plan_trajectories([NO_PROMPT], {"gender": ("female", "male")}, "{a} {occupation}", settings)
    assert len(planned) == 20
    assert {trajectory.partner for trajectory in planned} == {None}
