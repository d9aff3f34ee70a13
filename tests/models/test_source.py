"""A fingerprint tells one model's weights from another's, wherever they come from."""

import shutil

import pytest
from huggingface_hub import constants

from audit.config.sections import ModelConfig, SamplingConfig
from audit.models import source
from audit.models.generator import load_generator
from audit.models.source import model_fingerprint

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
