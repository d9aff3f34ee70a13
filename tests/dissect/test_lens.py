"""A lens on disk is complete or absent, records what it fits, and is loaded unchanged."""

import dataclasses

import pytest
import torch

from audit.dissect.group_heads import GroupHeads
from audit.dissect.lens import BiasFeature, Lens, LensMismatch, check_fits, lens_name
from audit.dissect.prediction import StrengthLine
from audit.dissect.sae import SaeShape, SparseAutoencoder
from audit.dissect.strengths import GroupStrength, Tried

GROUPS = {"gender": ("female", "male")}
LINE = StrengthLine(1.0, -0.5, 2.0, error=0.3, error_of_mean=0.6, prompts=16)


@pytest.fixture
def lens():
    generator = torch.Generator().manual_seed(0)
    return Lens(
        sae=SparseAutoencoder(SaeShape(6, 24, 3), generator).requires_grad_(False),
        heads=GroupHeads(GROUPS, {"gender": torch.randn(2, 2, 24, generator=generator)}, {"gender": torch.zeros(2, 2)}),
        features={"gender": {"female": (BiasFeature(3, 0.25, (1.5, 2.0)),), "male": ()}},
        firing={"gender": {"female": torch.rand(2, 4, 1, generator=generator), "male": torch.zeros(2, 4, 0)}},
        strengths={
            "gender": {
                "doctor": {
                    "female": GroupStrength(1.0, "searched", (Tried(0.0, 0.1, {}), Tried(1.0, 0.4, {"age": 0.25}))),
                    "male": GroupStrength(0.5, "searched", (Tried(0.0, 0.9, {}), Tried(0.5, 0.98, {"age": 0.0}))),
                }
            }
        },
        settings={"k": 3, "expansion": 4},
        quality={
            "unexplained_variance": [0.2, 0.1],
            "dead_latents": 1,
            "latents": 24,
            "decoder_cosine_mean": 0.1,
            "decoder_cosine_max": 0.6,
            "head_accuracy": {"gender": [0.9, 1.0]},
            "completeness_gap": 1e-7,
        },
        model_fingerprint="abc",
        hookpoint="mid_block",
        steps=2,
        groups=GROUPS,
        prediction={"gender": {"female": LINE, "male": LINE}},
    )


def test_a_saved_lens_can_be_loaded(lens, tmp_path):
    lens.save(tmp_path, torch.float32)
    loaded = Lens.load(tmp_path)
    plain = (
        "features",
        "strengths",
        "prediction",
        "settings",
        "quality",
        "model_fingerprint",
        "hookpoint",
        "steps",
        "groups",
        "name",
    )
    assert {name: getattr(loaded, name) for name in plain} == {name: getattr(lens, name) for name in plain}
    assert torch.equal(loaded.sae.decoder, lens.sae.decoder)
    torch.testing.assert_close(loaded.firing, lens.firing, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(loaded.heads.weights, lens.heads.weights, atol=1e-3, rtol=1e-3)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "card.md",
        "contrast.safetensors",
        "firing.safetensors",
        "heads.json",
        "heads.safetensors",
        "lens.json",
        "sae.json",
        "sae.safetensors",
    ]


def test_saving_a_loaded_lens_gives_identical_files(lens, tmp_path):
    lens.save(tmp_path / "first")
    Lens.load(tmp_path / "first").save(tmp_path / "second")
    for path in (tmp_path / "first").iterdir():
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes(), path.name


def test_moving_a_lens_copies_all_tensors_and_keeps_the_original(lens):
    there = lens.to("meta")
    tensors = [*there.sae.state_dict().values(), *there.heads.weights.values(), *there.heads.biases.values()]
    tensors += [values for by_group in there.firing.values() for values in by_group.values()]
    assert {tensor.device.type for tensor in tensors} == {there.device.type} == {"meta"}
    assert lens.device.type == lens.sae.encoder.device.type == "cpu"


def test_card_shows_the_figures(lens, tmp_path):
    lens.save(tmp_path)
    card = (tmp_path / "card.md").read_text()
    assert "| unexplained variance, mean over steps | 0.150 |" in card
    assert "| dead latents | 1 of 24 |" in card
    assert "| gender | 0.950 | 0.900 | 0.900 | female 1, male 0 |" in card
    assert "Not controllable: 1 of 2." in card
    assert "| doctor | 1: 0.40 / 0.25 no | 0.5: 0.98 / 0.00 |" in card
    assert "| gender | female | 0.30 | 0.60 | predicted |" in card


def test_an_interrupted_save_leaves_no_complete_lens(lens, tmp_path):
    lens.save(tmp_path)
    unwritable = dataclasses.replace(lens, settings={"k": object()})
    with pytest.raises(TypeError):
        unwritable.save(tmp_path)
    with pytest.raises(FileNotFoundError, match="dissect CONFIG"):
        Lens.load(tmp_path)


def test_a_later_format_is_refused(lens, tmp_path):
    lens.save(tmp_path)
    path = tmp_path / "lens.json"
    path.write_text(path.read_text().replace('"format_version": 2', '"format_version": 3'))
    with pytest.raises(ValueError, match="expected format 2, found 3"):
        Lens.load(tmp_path)


def test_the_name_depends_on_the_content():
    name = lens_name("abc", {"k": 3, "expansion": 4})
    assert name == lens_name("abc", {"expansion": 4, "k": 3})
    assert len({name, lens_name("abc", {"k": 4, "expansion": 4}), lens_name("abd", {"k": 3, "expansion": 4})}) == 3


def test_a_lens_that_fits_is_accepted(lens):
    check_fits(lens, "abc", 2, {"gender": ["female", "male"]})


def test_a_lens_of_another_scheduler_or_size_is_refused(lens):
    groups = {"gender": ["female", "male"]}
    check_fits(lens, "abc", 2, groups, {"scheduler": "DDIMScheduler", "steps": 2})
    with pytest.raises(LensMismatch) as caught:
        check_fits(lens, "abc", 2, groups, {"scheduler": "EulerDiscreteScheduler", "height": 512})
    assert "sampling.scheduler: expected EulerDiscreteScheduler, found DDIMScheduler" in str(caught.value)
    assert "sampling.height: expected 512, found None" in str(caught.value)


def test_all_differences_are_reported_together(lens):
    with pytest.raises(LensMismatch) as caught:
        check_fits(lens, "other", 25, {"gender": ["male", "female"], "age": ["young"]})
    message = str(caught.value)
    for part in (
        "model: expected other, found abc",
        "sampler steps: expected 25, found 2",
        "groups of gender: expected ['male', 'female'], found ['female', 'male']",
        "groups of age: expected ['young'], found none",
        "difflens-audit dissect CONFIG",
    ):
        assert part in message
