"""Methods that a model or its settings rule out are refused before any image is sampled."""

import shutil

import pytest
import yaml
from diffusers import UNet2DConditionModel
from typer.testing import CliRunner

from audit.config.settings import AuditConfig
from audit.preflight.readiness import check_ready
from ray_jobs.cli.commands import app
from ray_jobs.run import inputs

EFA = {"name": "efa", "method": "entanglement_free_attention", "attribute": "gender"}
INSIDE = [
    EFA,
    EFA | {"layers": ["mid_block"]},
    {"name": "gated", "method": "gated_cross_attention", "attribute": "gender"},
    {"name": "tuned", "method": "finetuning", "attribute": "gender", "networks": ["text_encoder", "unet"]},
]
OUTSIDE = [
    {"name": "tuned", "method": "finetuning", "attribute": "gender"},
    {"name": "vectors", "method": "latent_direction", "attribute": "gender"},
    {"name": "weights", "method": "uce", "attribute": "gender"},
    {"name": "means", "method": "mean_difference", "attribute": "gender"},
]


def settings(mitigation, **model):
    return {
        "name": "trial",
        "model": model,
        "attributes": {"gender": ["female", "male"]},
        "sampling": {"steps": 5, "guidance": 2.0},
        "mitigations": [mitigation],
        "quality": {"outside": {}},
        "tracking": {"enabled": False},
    }


def problems(mitigation, **model):
    config = AuditConfig.model_validate(settings(mitigation, **model))
    found = {".".join(map(str, one.location)): one.message for one in check_ready(config)}
    return {place: message for place, message in found.items() if place.startswith("mitigations")}


@pytest.mark.parametrize("mitigation", INSIDE, ids=lambda one: one["name"])
def test_a_method_that_hooks_modules_inside_compiled_blocks_is_refused(mitigation):
    [(place, message)] = problems(mitigation, compile=True).items()
    assert place == "mitigations.0.method"
    assert message.startswith(f"expected model.compile: false for {mitigation['method']}")
    assert ("networks: [text_encoder]" in message) == (mitigation["method"] == "finetuning")
    assert problems(mitigation) == {}


@pytest.mark.parametrize("mitigation", OUTSIDE, ids=lambda one: one["name"])
def test_other_methods_work_with_compiled_blocks(mitigation):
    assert problems(mitigation, compile=True) == {}


def test_a_decoder_without_cross_attention_is_found_before_the_fit(tiny_pipeline, tmp_path):
    changed = shutil.copytree(tiny_pipeline, tmp_path / "sd")
    config = dict(UNet2DConditionModel.load_config(changed / "unet"))
    config["up_block_types"] = ("UpBlock2D", "UpBlock2D")
    UNet2DConditionModel.from_config(config).save_pretrained(changed / "unet")
    found = problems(EFA, source=str(changed))
    assert list(found) == ["mitigations.0.layers"]
    assert "down_blocks.1.attentions.0" in found["mitigations.0.layers"]
    assert problems(EFA | {"layers": ["down_blocks.1"]}, source=str(changed)) == {}
    assert problems(EFA, source=str(tiny_pipeline)) == {}


def test_run_ends_with_one_message_before_work_starts(tmp_path, monkeypatch):
    monkeypatch.setattr(inputs, "collect_provenance", pytest.fail)
    path = tmp_path / "audit.yaml"
    path.write_text(yaml.safe_dump(settings(EFA, compile=True) | {"output": str(tmp_path / "runs")}))
    answer = CliRunner().invoke(app, ["run", str(path)])
    assert answer.exit_code == 2
    assert "1 mistake" in answer.output
    assert "set model.compile: false" in answer.output
    assert not (tmp_path / "runs").exists()
