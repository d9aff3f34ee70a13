"""Other shares are planted in a trained model: only its U-Net and text encoder change, the rest is copied."""

from dataclasses import replace

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file

from audit.calibration.bundle import BUNDLED, Bundle
from audit.calibration.world import World
from audit.config.sections import ModelConfig, SamplingConfig
from audit.models.generator import load_generator
from audit.records.work import Prompt
from audit.training.make import QUICK, main, plant

TABLE = World.bundled_path().with_name("altered.yaml")
RECIPE = replace(QUICK, drawings=640, shares=replace(QUICK.shares, steps=2, batch=8))


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    out = tmp_path_factory.mktemp("planted")
    plant(out, TABLE, BUNDLED, RECIPE)
    return out


def tensors(world, part):
    return load_file(next((Bundle.at(world).pipeline / part).glob("*.safetensors")))


def test_only_what_draws_is_trained(planted):
    for part, changed in {"vae": False, "unet": True, "text_encoder": True}.items():
        before, after = tensors(BUNDLED, part), tensors(planted, part)
        assert before.keys() == after.keys()
        assert changed == any(not torch.equal(before[name], after[name]) for name in before), part
    for part in ("judge", "features", "clip"):
        names = sorted(path.name for path in (BUNDLED / part).iterdir())
        assert all((planted / part / name).read_bytes() == (BUNDLED / part / name).read_bytes() for name in names)
    assert World.load(Bundle.at(planted).table).occupations == World.load(TABLE).occupations


def test_no_config_names_a_path_of_the_machine(planted):
    configs = [path.read_text() for path in (planted / "pipeline").rglob("*.json")]
    assert configs
    assert not [text for text in configs if str(BUNDLED) in text]


def test_the_result_is_a_model_that_an_audit_loads(planted):
    generator = load_generator(ModelConfig(world=str(planted)), SamplingConfig(steps=2, guidance=1.0))
    images = generator.generate(Prompt("nurse", "a face photo of a nurse", "nurse"), [1, 2])
    assert images.shape == (2, 3, 64, 64)
    assert StableDiffusionPipeline.from_pretrained(planted / "pipeline").scheduler.config.rescale_betas_zero_snr


def test_a_start_without_a_table_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["make", str(tmp_path), "--start", str(BUNDLED)])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert "--start: expected a table of other shares" in capsys.readouterr().err
