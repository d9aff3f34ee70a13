"""A run contains the evidence of its lens, and cannot mix two lenses."""

import json

import pytest

from audit.dissect.settings import lens_name
from audit.dissect.strengths import GroupStrength, Tried
from audit.records.estimates import Estimate
from audit.records.inside.honesty import FeatureHonesty, GroupHonesty, LensHonesty
from audit.results.lens_evidence import keep_evidence, lens_evidence
from audit.results.run_strengths import keep_steering, steering_of
from audit.storage.run_directory import LENS, RunDirectory

PLAIN = {
    "format_version": 2,
    "model_fingerprint": "sha256:00",
    "settings": {"k": 16},
    "quality": {"dead_latents": 3},
    "strengths": {"gender": {"nurse": {"male": GroupStrength(1.5, "searched").as_data()}}},
    "features": {
        "gender": {"female": [{"latent": 7, "score": 0.5, "mean_firing_per_step": [0.0, 1.0, 3.0]}], "male": []}
    },
}


@pytest.fixture
def lens(tmp_path):
    directory = tmp_path / "lens-of-a-model"
    (directory / "examples").mkdir(parents=True)
    (directory / "lens.json").write_text(json.dumps(PLAIN))
    (directory / "sae.safetensors").write_bytes(b"weights")
    for rank in (10, 2, 0):
        (directory / "examples" / f"7-{rank}.webp").write_bytes(b"picture")
    return directory


def test_the_evidence_has_the_card_the_features_and_their_pictures_best_first(lens):
    evidence = lens_evidence(lens)
    assert evidence.card["name"] == lens_name("sha256:00", {"k": 16})
    assert evidence.card["quality"] == {"dead_latents": 3}
    assert evidence.card["strengths"] == {"gender": {"nurse": {"male": 1.5}}}
    assert evidence.card["steering"] == {}
    assert evidence.card["top_images"] == {"7": ["examples/7-0.webp", "examples/7-2.webp", "examples/7-10.webp"]}
    assert evidence.features == {"gender": {"female": [(7, 0.5, 2.0)], "male": []}}  # inactive steps do not count


def test_a_run_copies_all_but_the_weights_and_has_the_same_evidence(lens, tmp_path):
    keep_evidence(lens, tmp_path / "run")
    assert lens_evidence(tmp_path / "run") == lens_evidence(lens)
    assert not list((tmp_path / "run").glob("*.safetensors"))
    keep_evidence(lens, tmp_path / "run")


def test_a_run_has_the_strengths_of_its_prompts_and_their_source(lens, tmp_path):
    run = RunDirectory(tmp_path / "run")
    keep_evidence(lens, run.file(LENS))
    assert steering_of(run) == {}
    tried = (Tried(0.0, 0.1, {}), Tried(1.0, 0.3, {"age": 0.2}))
    used = {"gender": {"doctor": {"male": GroupStrength(1.0, "searched", tried)}}}
    keep_steering(run, used)
    assert steering_of(run) == used
    card = lens_evidence(run.file(LENS)).card
    assert card["strengths"] == {"gender": {"doctor": {"male": 1.0}}}
    found = card["steering"]["gender"]["doctor"]["male"]
    assert (found["control"], found["shown"], found["side_effect"]) == ("none", 0.3, 0.2)


def test_figures_of_the_features_are_copied_and_their_summary_is_for_the_card_alone(lens, tmp_path):
    assert "honesty" not in lens_evidence(lens).card  # a lens of an older release
    group = GroupHonesty("gender", "female", 9, (FeatureHonesty(7, 0.5, Estimate(0.7, 0.6, 0.8, 20), 9, 10),), (1,))
    honesty = LensHonesty((group,), 20, 64, 5, 20, 3)
    (lens / "honesty.json").write_text(json.dumps(honesty.as_data()))
    summarised = {**PLAIN, "quality": {"dead_latents": 3, "honesty": honesty.summary()}}
    (lens / "lens.json").write_text(json.dumps(summarised))
    keep_evidence(lens, tmp_path / "run")
    card = lens_evidence(tmp_path / "run").card
    assert LensHonesty.of_data(card["honesty"]) == honesty
    assert card["quality"] == {"dead_latents": 3}


def test_another_lens_is_refused(lens, tmp_path):
    keep_evidence(lens, tmp_path / "run")
    (lens / "lens.json").write_text(json.dumps({**PLAIN, "strengths": {"gender": {}}}))
    with pytest.raises(ValueError, match=r"started with a different lens from .*lens-of-a-model"):
        keep_evidence(lens, tmp_path / "run")


def test_an_unfinished_lens_is_not_evidence(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected a lens in"):
        lens_evidence(tmp_path)
