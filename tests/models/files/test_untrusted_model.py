"""A model's directory that brings code, pickled weights or odd classes is refused before any loader sees it."""

import json
import shutil
import sys

import pytest
import torch

from audit.calibration.bundle import BUNDLED
from audit.config.sections import ModelConfig, QualityConfig
from audit.models.files.untrusted_model import UntrustedModelError, check_directory, check_pipeline
from audit.models.loading import load_model
from audit.perception.embedders.clip import load_clip

RUNS = """\
import pathlib
from diffusers import UNet2DConditionModel
pathlib.Path({path!r}).touch()
class Evil(UNet2DConditionModel): pass
"""


@pytest.fixture
def model(tiny_pipeline, tmp_path):
    """A copy of a good pipeline, to spoil."""
    return shutil.copytree(tiny_pipeline, tmp_path / "model")


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_plain_pipeline_and_the_bundled_parts_pass(model):
    check_pipeline(model)
    check_directory(BUNDLED / "clip")
    check_pipeline(BUNDLED / "pipeline")


@pytest.mark.parametrize("name", ["unet/evil.py", "setup.py", "vae/deep/er/x.so", "__pycache__/a.pyc"])
def test_code_is_refused_wherever_it_lies(model, name):
    (model / name).parent.mkdir(parents=True, exist_ok=True)
    (model / name).touch()
    with pytest.raises(
        UntrustedModelError, match=rf"expected safetensors weights and plain configs, found code \({name}"
    ):
        check_pipeline(model)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"unet": ["evil", "Evil"]}, r"unet of class \['evil', 'Evil'\]"),
        ({"unet": ["os", "system"]}, "unet of class"),
        ({"vae": ["diffusers", "AutoencoderKL", "x"]}, "vae of class"),
        ({"scheduler": ["subprocess", "Popen"]}, "scheduler of class"),
        ({"scheduler": ["diffusers", "__class__.mro"]}, "scheduler of class"),
        ({"extra": ["antigravity", "fly"]}, "extra of class"),
        ({"_class_name": ["evil", "Evil"]}, r"the pipeline class \['evil', 'Evil'\]"),
        ({"trust_remote_code": True}, "trust_remote_code in model_index.json"),
    ],
)
def test_an_index_that_names_anything_else_is_refused(model, changes, found):
    edit(model / "model_index.json", **changes)
    with pytest.raises(UntrustedModelError, match=found):
        check_pipeline(model)


def test_an_index_that_is_a_bomb_is_refused(model):
    (model / "model_index.json").write_text("[" * 100_000)
    with pytest.raises(UntrustedModelError, match="hundreds of levels"):
        check_pipeline(model)


def test_a_config_that_asks_for_its_own_code_is_refused(model):
    edit(model / "text_encoder" / "config.json", auto_map={"AutoModel": "evil.Evil"})
    with pytest.raises(UntrustedModelError, match=r"auto_map in text_encoder/config\.json"):
        check_pipeline(model)


def test_pickled_weights_alone_are_refused_and_unread_beside_safetensors(model):
    weights = next((model / "unet").glob("*.safetensors"))
    (model / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"\x80\x04cos\nsystem\n.")
    check_pipeline(model)
    weights.unlink()
    with pytest.raises(UntrustedModelError, match=r"pickled weights alone in unet \(diffusion_pytorch_model\.bin\)"):
        check_pipeline(model)


def test_no_code_of_a_hostile_pipeline_runs(model, tmp_path):
    ran = tmp_path / "ran"
    (model / "unet" / "evil.py").write_text(RUNS.format(path=str(ran)))
    edit(model / "model_index.json", unet=["evil", "Evil"])
    with pytest.raises(UntrustedModelError, match="code"):
        load_model(ModelConfig(source=str(model)), torch.device("cpu"))
    assert not ran.exists()
    assert "evil" not in sys.modules


def test_parts_that_are_not_loaded_are_not_imported_either(model):
    edit(model / "model_index.json", feature_extractor=["antigravity", "Fly"], safety_checker=["antigravity", "Fly"])
    load_model(ModelConfig(source=str(model)), torch.device("cpu"))
    assert "antigravity" not in sys.modules


def test_a_model_of_the_hub_is_looked_at_before_it_is_loaded(model, monkeypatch):
    asked = {}
    (model / "evil.py").touch()

    def download(source, **settings):
        asked.update(settings, source=source)
        return str(model)

    monkeypatch.setattr("diffusers.DiffusionPipeline.download", download)
    with pytest.raises(UntrustedModelError, match=r"code \(evil\.py\)"):
        load_model(ModelConfig(source="owner/name", revision="abc"), torch.device("cpu"))
    assert asked == {
        "source": "owner/name", "revision": "abc", "variant": None, "use_safetensors": True, "trust_remote_code": False,
    }  # fmt: skip


def test_a_clip_directory_is_held_to_the_same(tmp_path):
    clip = shutil.copytree(BUNDLED / "clip", tmp_path / "clip")
    quality = QualityConfig(clip=str(clip))
    assert load_clip(quality, ModelConfig()).signature.startswith("net:open_clip")
    (clip / "open_clip_model.safetensors").rename(clip / "open_clip_pytorch_model.bin")
    with pytest.raises(UntrustedModelError, match=r"pickled weights alone \(open_clip_pytorch_model\.bin\)"):
        load_clip(quality, ModelConfig())
