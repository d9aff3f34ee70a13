"""Provenance distinguishes runs; a fingerprint depends only on the weights."""

import hashlib
import json
import platform
import shutil
import subprocess
from datetime import UTC, datetime

import pytest

from audit.storage.provenance import collect_provenance, fingerprint, git_revision, package_versions, short_fingerprint


@pytest.fixture
def weights(tmp_path):
    directory = tmp_path / "model"
    (directory / "unet").mkdir(parents=True)
    (directory / "unet" / "weights.safetensors").write_bytes(b"w" * 3_000_000)  # more than one chunk
    (directory / "model_index.json").write_text("{}")
    (directory / "README.md").write_text("not part of the model")
    return directory


def test_a_copy_has_the_same_fingerprint(weights, tmp_path):
    shutil.copytree(weights, tmp_path / "copy")
    assert fingerprint(tmp_path / "copy") == fingerprint(weights)
    (weights / "README.md").write_text("changed")
    assert fingerprint(tmp_path / "copy") == fingerprint(weights)


def test_a_fingerprint_depends_on_every_byte_and_name(weights):
    before = fingerprint(weights)
    with (weights / "unet" / "weights.safetensors").open("r+b") as file:
        file.seek(2_999_999)
        file.write(b"v")
    changed = fingerprint(weights)
    (weights / "unet").rename(weights / "vae")
    assert len({before, changed, fingerprint(weights)}) == 3


def test_a_fingerprint_depends_on_the_file_boundaries(tmp_path):
    for name, parts in {"one": ("ab", "c"), "two": ("a", "bc")}.items():
        (tmp_path / name).mkdir()
        for file, text in zip(("a.json", "b.json"), parts, strict=True):
            (tmp_path / name / file).write_text(text)
    assert fingerprint(tmp_path / "one") != fingerprint(tmp_path / "two")


def test_a_fingerprint_of_no_files_is_an_error(weights):
    with pytest.raises(FileNotFoundError, match="expected files like"):
        fingerprint(weights, ("**/*.bin",))
    with pytest.raises(FileNotFoundError):
        short_fingerprint(weights / "absent.pt")


def test_a_short_fingerprint_of_a_file_is_the_start_of_its_sha256sum(weights):
    file = weights / "unet" / "weights.safetensors"
    assert short_fingerprint(file) == hashlib.sha256(file.read_bytes()).hexdigest()[:12]


def test_a_short_fingerprint_of_a_directory_uses_only_the_matching_files(weights):
    before = short_fingerprint(weights, ("model_index.json",))
    (weights / "unet" / "weights.safetensors").write_bytes(b"v")
    assert short_fingerprint(weights, ("model_index.json",)) == before
    (weights / "model_index.json").write_text("{ }")
    assert short_fingerprint(weights, ("model_index.json",)) != before


def test_provenance_is_plain_data_about_this_machine_and_time():
    found = collect_provenance("sha256:0", devices=["H200"])
    assert json.loads(json.dumps(found)) == found
    assert (found["model_fingerprint"], found["devices"]) == ("sha256:0", ["H200"])
    assert found["python"] == platform.python_version()
    assert found["code"].startswith("sha256:")
    assert abs((datetime.now(UTC) - datetime.fromisoformat(found["created"])).total_seconds()) < 60
    assert collect_provenance("sha256:0")["devices"] == ["cpu"]


def test_a_missing_package_is_reported_as_not_installed():
    assert package_versions(["pydantic", "no-such-package"])["no-such-package"] == "not installed"


def test_the_revision_marks_a_changed_work_tree(tmp_path):
    assert git_revision(tmp_path) is None

    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        subprocess.run(["git", "-C", tmp_path, *identity, *arguments], check=True, capture_output=True)

    git("init")
    (tmp_path / "file").write_text("one")
    git("add", "file")
    git("commit", "-m", "first")
    clean = git_revision(tmp_path)
    (tmp_path / "file").write_text("two")
    assert len(clean) == 40
    assert git_revision(tmp_path) == f"{clean}+changes"
