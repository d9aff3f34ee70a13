"""The check of explore.pictures: one message for what cannot be read, at its place in the config."""

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from audit.config.settings import AuditConfig
from audit.preflight.readiness import check_explored, check_ready
from benchmarks.tiny_families import save_chroma, save_ddpm
from ray_jobs.cli.commands import app


def messages(folder, *, pictures=None, **sections):
    section = {"folder": str(folder)} | (pictures or {})
    config = AuditConfig.model_validate({"name": "x", "explore": {"pictures": section}} | sections)
    return [(problem.location, problem.message) for problem in check_explored(config)]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "given" / "below").mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 256, (70, 50, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "given" / "a.jpg")
    Image.fromarray(noise).save(tmp_path / "given" / "below" / "b.png")
    return tmp_path / "given"


def test_pictures_of_any_size_are_ready(folder):
    assert messages(folder) == []
    assert list(check_explored(AuditConfig(name="x"))) == []


def test_all_files_that_cannot_be_read_are_one_message(folder):
    whole = (folder / "a.jpg").read_bytes()
    (folder / "half.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.png").write_bytes(b"")
    (folder / "drawing.gif").write_bytes(b"GIF89a")
    [(place, message)] = messages(folder)
    assert place == ("explore", "pictures", "folder")
    assert "found 3 that cannot" in message
    for name in ("half.jpg", "empty.png", "drawing.gif"):
        assert name in message


def test_a_folder_without_pictures_and_none_at_all_are_refused(tmp_path):
    assert "found none at" in messages(tmp_path / "missing")[0][1]
    assert "expected at least one picture" in messages(tmp_path)[0][1]


def test_an_audit_needs_no_pictures_but_validate_and_explore_do(tmp_path):
    section = {"pictures": {"folder": str(tmp_path / "missing")}}
    config = AuditConfig.model_validate({"name": "x", "output": str(tmp_path), "explore": section})
    assert list(check_ready(config)) == []
    (tmp_path / "audit.yaml").write_text(f"name: x\noutput: {tmp_path}\nexplore: {json.dumps(section)}\n")
    for command in ("validate", "explore"):
        answer = CliRunner().invoke(app, [command, str(tmp_path / "audit.yaml")])
        assert answer.exit_code == 2
        assert "expected a folder of pictures, found none at" in answer.output


@pytest.mark.parametrize(("step", "steps", "found"), [(25, 25, "step 25"), (None, 1, "one step")])
def test_a_step_that_the_sampler_does_not_take_is_refused(folder, step, steps, found):
    [(place, message)] = messages(folder, pictures={"step": step}, sampling={"steps": steps})
    assert place == ("explore", "pictures", "step")
    assert found in message


def test_a_model_that_cannot_be_read_is_refused_once(folder, tmp_path):
    for model in ("rendered", str(save_chroma(tmp_path / "chroma")), str(save_ddpm(tmp_path / "ddpm"))):
        [(place, message)] = messages(folder, model={"source": model})
        assert place == ("explore", "pictures", "folder")
        assert "pictures are read inside a text-to-image model" in message
