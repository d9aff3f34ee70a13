"""An audit of a tiny model of every family ends with a report: baseline, another prompt, and an edit inside."""

import hashlib
import json

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import squeezenet1_1

from audit.calibration.bundle import BUNDLED
from audit.config.sections import ModelConfig
from audit.config.settings import AuditConfig
from audit.planning.plan import arms_of
from audit.preflight.readiness import check_ready
from audit.storage.run_directory import AUDIT, RESULTS
from benchmarks.original_layout import save_original
from benchmarks.tiny_families import FAMILIES, save_chroma, save_pixart
from benchmarks.tiny_models import save_tiny_pipeline
from ray_jobs.run.audit import run_audit

EDITED = {
    "sd": "mid_block",
    "sdxl": "mid_block",
    "sd3": "transformer_blocks.0",
    "flux": "single_transformer_blocks.0",
    "pixart": "transformer_blocks.0",
    "sana": "transformer_blocks.0",
    "lcm": "mid_block",
}
"""Family → module that a mean difference is added to; the others have no text, or no inside."""

SAMPLING = {
    "flux": {"guidance": 3.5, "height": 32, "width": 32},
    "chroma": {"guidance": 3.0, "height": 32, "width": 32},
    "ddpm": {"scheduler": "DDIMScheduler"},
}

ON_WORKERS = "sd3"
"""The transformer that workers of Ray load; a U-Net is loaded there as a checkpoint in one file."""


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    """A classifier of random weights with two outputs."""
    path = tmp_path_factory.mktemp("judge") / "squeezenet.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(squeezenet1_1(num_classes=2).state_dict(), path)
    return {
        "source": str(path),
        "min_confidence": 0.0,
        "classifier": {
            "architecture": "torchvision/squeezenet1_1",
            "outputs": ["woman", "man"],
            "groups": {"gender": {"female": ["woman"], "male": ["man"]}},
        },
    }


def config_of(name, model, judge, output):
    text = {"occupations": ["doctor"], "images_per_prompt": 2}
    edit = {"name": "mean", "method": "mean_difference", "attribute": "gender", "images_per_group": 1}
    edits = [edit | {"hookpoints": [EDITED[name]]}] if name in EDITED else []
    words = [] if name == "ddpm" else [{"name": "words", "method": "prompt", "attribute": "gender"}]
    guidance = 1.0 if name == "ddpm" else 3.0
    return AuditConfig.model_validate(
        {
            "name": name,
            "model": {"source": str(model)},
            "prompts": text | ({"occupations": "none"} if name == "ddpm" else {}),
            "sampling": {"steps": 2, "batch": 2, "guidance": guidance} | SAMPLING.get(name, {}),
            "attributes": {"gender": ["female", "male"]},
            "judge": judge,
            "mitigations": [*edits, *words],
            "quality": {"clip": "none", "features": "none"},
            "tracking": {"enabled": False},
            "workers": {"count": 1},
            "output": str(output),
        }
    )


@pytest.mark.parametrize("name", [*FAMILIES, "chroma"])
def test_an_audit_of_a_model_ends_with_a_report(request, cluster, judge, tmp_path, name):
    if name != ON_WORKERS:
        request.getfixturevalue("in_this_process")
    model = {**FAMILIES, "chroma": save_chroma}[name](tmp_path / "model")
    config = config_of(name, model, judge, tmp_path / "runs")
    assert list(check_ready(config)) == []
    outcome = run_audit(config)
    assert outcome.complete
    rows = pq.read_table(outcome.run_path / RESULTS).to_pylist()
    assert len(rows) == 2 * len(arms_of(config.mitigations))
    assert {row["status"] for row in rows} == {"classified"}
    published = json.loads((model / "model_index.json").read_text())
    sampling = json.loads((outcome.run_path / AUDIT).read_text())["provenance"]["sampling"]
    assert sampling["pipeline"] == published["_class_name"]
    assert sampling["scheduler"] in outcome.report.read_text()


INSIDE = {"attribute": "gender", "hookpoints": ["transformer_blocks.0"], "images_per_group": 1}
ON_PIXART = [
    {"name": "weights", "method": "uce", "attribute": "gender", "rounds": 2, "images_per_prompt": 2},
    {"name": "gated", "method": "gated_cross_attention", "attribute": "gender", "images_per_group": 1},
    {"name": "vectors", "method": "latent_direction", "steps": 2, "batch": 2} | INSIDE,
    {"name": "asyrp", "method": "latent_editing", "passes": 1, "batch": 2} | INSIDE,
    {"name": "tuned", "method": "finetuning", "attribute": "gender", "networks": ["text_encoder", "denoiser"],
     "rank": 2, "steps": 2, "images_per_step": 2, "noises": 2, "uncertainty": 0.5, "dino_weight": 0},
    {"name": "blocks", "method": "prompt", "attribute": "gender", "blocks": ["transformer_blocks.1"]},
]  # fmt: skip
"""Methods that need cross-attention, or are trained."""


def test_an_audit_of_pixart_with_these_methods_ends_with_a_report_that_names_no_u_net(
    cluster, in_this_process, judge, tmp_path
):
    model = save_pixart(tmp_path / "model", sample_size=8, tokens=24)
    plain = config_of("pixart", model, judge, tmp_path / "runs").model_dump(mode="json", exclude_unset=True)
    plain["sampling"] |= {"scheduler": "DDIMScheduler"}
    plain |= {"mitigations": ON_PIXART, "quality": {"clip": str(BUNDLED / "clip"), "features": "none"}}
    config = AuditConfig.model_validate(plain)
    assert list(check_ready(config)) == []
    outcome = run_audit(config)
    assert outcome.complete
    rows = pq.read_table(outcome.run_path / RESULTS).to_pylist()
    assert {row["arm"] for row in rows} == {"baseline", *(arm["name"] for arm in ON_PIXART)}
    assert {row["status"] for row in rows} == {"classified"}
    assert "U-Net" not in outcome.report.read_text()


def test_an_audit_of_a_checkpoint_in_one_file_ends_with_a_report(cluster, judge, tmp_path):
    model = save_tiny_pipeline(tmp_path / "model")
    file = save_original(model, tmp_path / "faces.safetensors")
    config = config_of("sd", model, judge, tmp_path / "runs")
    config = config.model_copy(update={"model": ModelConfig(source=str(file), config=str(model))})
    assert list(check_ready(config)) == []
    outcome = run_audit(config)
    assert outcome.complete
    rows = pq.read_table(outcome.run_path / RESULTS).to_pylist()
    assert {(row["arm"], row["status"]) for row in rows} == {(arm, "classified") for arm in arms_of(config.mitigations)}
    provenance = json.loads((outcome.run_path / AUDIT).read_text())["provenance"]
    assert provenance["model_fingerprint"].startswith(f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}")
