"""A file of a bundle that was cut, exchanged, lost or added is found before anything is loaded."""

import json

import pytest

from audit.preflight.weights.manifest import MANIFEST, check_bundles, write_manifest
from audit.preflight.weights.needs import Need

NAME = "files/model/unet/weights.safetensors"


@pytest.fixture
def bundle(tmp_path):
    """A bundle with a directory and a file."""
    root = tmp_path / "bundle"
    (root / NAME).parent.mkdir(parents=True)
    (root / NAME).write_bytes(b"0123456789")
    (root / "files/judge").mkdir()
    (root / "files/judge/judge.pt").write_bytes(b"judge")
    write_manifest(root, [{"key": "model.source"}])
    return root


def found(bundle, *names):
    needs = [Need((name.split("/")[1], "source"), "model", str(bundle / name)) for name in names]
    return [(problem.location[0], problem.message) for problem in check_bundles(needs)]


def test_a_bundle_as_it_was_made_is_accepted_and_so_are_files_outside_of_one(bundle, tmp_path):
    (tmp_path / "loose.pt").touch()
    (bundle / "own.pt").touch()
    assert found(bundle, "files/model", "files/judge/judge.pt", "files/../../loose.pt", "files/../own.pt") == []


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda root: (root / NAME).write_bytes(b"01234"), f"{NAME} with 5 bytes instead of 10"),
        (lambda root: (root / NAME).write_bytes(b"0123456780"), f"{NAME} with other content (another sha256)"),
        (lambda root: (root / NAME).unlink(), f"no {NAME}"),
        (lambda root: (root / NAME).with_name("x.safetensors").touch(), "files/model/unet/x.safetensors, which is not"),
    ],
    ids=["cut", "exchanged", "lost", "added"],
)
def test_damage_is_reported_once_for_the_key_that_names_the_file(bundle, damage, reason):
    damage(bundle)
    [(section, message)] = found(bundle, "files/model", "files/judge/judge.pt")
    assert section == "model"
    assert reason in message
    assert message.endswith("copy the bundle again, or run difflens-audit fetch again")


@pytest.mark.parametrize(
    "text", ['{"format": "difflens-audit bundle 1", "files": {"a": {}}}', '{"format": "difflens-audit bundle 1"']
)
def test_a_damaged_manifest_is_an_error_and_no_traceback(bundle, text):
    (bundle / MANIFEST).write_text(text)
    [(_, message)] = found(bundle, "files/model")
    assert "manifest" in message


def test_another_file_called_manifest_is_not_taken_for_one(bundle):
    (bundle / MANIFEST).write_text(json.dumps({"name": "a web application"}))
    assert found(bundle, "files/model") == []
