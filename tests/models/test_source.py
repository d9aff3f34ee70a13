"""A fingerprint tells one model's weights from another's, wherever they come from."""

import hashlib
import shutil

import pytest
from huggingface_hub import constants

from audit.config.sections import ModelConfig, SamplingConfig
from audit.models import source
from audit.models.generator import load_generator
from audit.models.source import model_fingerprint, model_parts

OLD, NEW = "a" * 40, "b" * 40


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The hub's cache on this machine, empty so far, with no hub behind it."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    source._commit.cache_clear()
    yield tmp_path / "models--owner--faces"
    source._commit.cache_clear()


def publish(hub, pipeline, commit, revision="main"):
    shutil.copytree(pipeline, hub / "snapshots" / commit)
    (hub / "refs").mkdir(exist_ok=True)
    (hub / "refs" / revision).write_text(commit)
    source._commit.cache_clear()  # the next audit is another process


def test_other_weights_behind_a_branch_are_another_model(hub, tiny_pipeline):
    model = ModelConfig(source="owner/faces")
    publish(hub, tiny_pipeline, OLD)
    assert model_fingerprint(model) == f"owner/faces@{OLD}"
    publish(hub, tiny_pipeline, NEW)
    assert model_fingerprint(model) == f"owner/faces@{NEW}"


def test_a_tag_and_the_commit_behind_it_are_one_model(hub, tiny_pipeline):
    publish(hub, tiny_pipeline, OLD, revision="v1")
    tagged, pinned = (ModelConfig(source="owner/faces", revision=revision) for revision in ("v1", OLD))
    assert model_fingerprint(tagged) == model_fingerprint(pinned) == f"owner/faces@{OLD}"


def test_a_generator_knows_the_commit_that_it_was_loaded_from(hub, tiny_pipeline):
    publish(hub, tiny_pipeline, OLD)
    generator = load_generator(ModelConfig(source="owner/faces"), SamplingConfig(steps=2))
    assert generator.fingerprint == f"owner/faces@{OLD}"


def test_a_driver_that_reaches_no_hub_has_the_revision_alone(hub, caplog):
    assert model_fingerprint(ModelConfig(source="owner/faces", revision="v2")) == "owner/faces@v2"
    assert "the hub does not say which commit that is" in caplog.text


def test_each_part_of_a_pipeline_has_its_own_hash(tiny_pipeline, tmp_path):
    moved = shutil.copytree(tiny_pipeline, tmp_path / "model")
    before = model_parts(ModelConfig(source=str(tiny_pipeline)))
    assert set(before) == {"unet", "vae", "text_encoder", "tokenizer", "scheduler", "model_index.json"}
    weights = moved / "unet" / "diffusion_pytorch_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    after = model_parts(ModelConfig(source=str(moved)))
    assert {part for part in before if before[part] != after[part]} == {"unet"}


def test_a_checkpoint_its_configs_and_its_loras_are_parts(tiny_pipeline, tmp_path):
    file, lora = tmp_path / "faces.safetensors", tmp_path / "style.safetensors"
    file.write_bytes(b"weights")
    lora.write_bytes(b"low rank")
    adapters = [{"path": str(lora)}]
    parts = model_parts(ModelConfig(source=str(file), config=str(tiny_pipeline), adapters=adapters))
    assert parts["checkpoint"] == f"sha256:{hashlib.sha256(b'weights').hexdigest()}"
    assert parts["LoRA 1"] == f"sha256:{hashlib.sha256(b'low rank').hexdigest()}"
    assert {"unet", "scheduler"} <= set(parts)  # their configs


def test_a_model_on_the_hub_and_a_closed_one_have_no_parts():
    assert model_parts(ModelConfig(source="owner/faces")) == {}
    assert model_parts(ModelConfig(source="images", folder="pictures")) == {}


def test_a_calibration_world_is_a_part():
    assert set(model_parts(ModelConfig(source="rendered"))) == {"world"}
    assert {"world", "unet", "vae"} <= set(model_parts(ModelConfig()))
