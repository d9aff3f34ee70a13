"""Building a lens: counterfactual pairs share their noise, and a lens matches the activations at the hookpoint."""

import copy
from dataclasses import asdict, replace

import pytest
import torch

from audit.config.sections import ModelConfig, SamplingConfig
from audit.config.settings import AuditConfig
from audit.config.slices import DissectionRequest
from audit.dissect import build
from audit.dissect.build import attribute_latents, build_lens
from audit.dissect.examples import mean_activity, write_examples
from audit.dissect.group_heads import UNLABELLED
from audit.dissect.lens import Lens, honesty_in
from audit.dissect.recording.plan import RecordingPlan
from audit.dissect.recording.recorder import Recorder
from audit.dissect.recording.recording import Recording
from audit.dissect.recording.trajectories import plan_trajectories
from audit.dissect.sae_training import train_sae
from audit.dissect.settings import Dissection, lens_name, lens_settings, recording_name
from audit.models.generator import load_generator
from audit.planning.plan import name_groups
from audit.records.work import Prompt
from benchmarks.lens_memory import TintJudge
from tests.pretended_gpu import pretended_gpu

STEPS, TRAJECTORIES = 3, 48
SAMPLING = SamplingConfig(steps=STEPS, guidance=2.0, scheduler="DDIMScheduler")
GROUPS = {"tint": ("dark", "bright")}
PROMPTS = [Prompt(name, f"a face photo of a {name}", name) for name in ("doctor", "nurse")]
TEMPLATE = "a face photo of {a} {occupation}"


class NarrowJudge(TintJudge):
    """Every picture that it classifies as bright is of a tint that the config does not audit."""

    def perceive(self, images, occupation):
        seen = super().perceive(images, occupation)
        return replace(seen, outside={"tint": seen.probabilities["tint"].argmax(1) == 1})


def settings(baseline="zero"):
    return Dissection(
        hookpoint="mid_block",
        whole_map=False,
        expansion=4,
        k=4,
        trajectories=TRAJECTORIES,
        recorded=2048,
        sae_steps=30,
        features_per_group=3,
        baseline=baseline,
        steps=STEPS,
        guidance=2.0,
        batch=16,
        seed=0,
    )


@pytest.fixture(scope="module")
def generator(tiny_pipeline):
    return load_generator(ModelConfig(source=str(tiny_pipeline)), SAMPLING)


def plan_of(*lenses):
    return RecordingPlan.of(PROMPTS, GROUPS, TEMPLATE, lenses)


def recorded(generator, chosen, directory, plan=None, judge=None):
    """Record what is missing, and open the recording of one lens."""
    plan = plan or plan_of(chosen)
    Recorder(generator, judge or TintJudge(), GROUPS, plan).record_all(directory)
    return Recording.open(directory, plan, chosen)


def built(generator, chosen, directory, plan=None):
    recording = recorded(generator, chosen, directory, plan)
    checkpoint = directory / f"training-{chosen.k}.safetensors"
    return build_lens(recording, GROUPS, chosen, asdict(chosen), "fingerprint", checkpoint), recording


def dissect(generator, baseline, directory):
    chosen = settings(baseline)
    return built(generator, chosen, directory)


@pytest.fixture(scope="module")
def dissected(generator, tmp_path_factory):
    return dissect(generator, "zero", tmp_path_factory.mktemp("recording"))


def test_half_of_the_trajectories_name_groups_in_pairs_with_the_same_noise():
    trajectories = plan_trajectories(PROMPTS, GROUPS, TEMPLATE, settings())
    named = [t for t in trajectories if t.partner is not None]
    assert len(trajectories) == TRAJECTORIES
    assert len(named) == TRAJECTORIES // 2
    for trajectory in named:
        partner = trajectories[trajectory.partner]
        assert partner.seed == trajectory.seed
        assert partner.prompt.occupation == trajectory.prompt.occupation
        assert partner.prompt.text != trajectory.prompt.text
    assert len({t.seed for t in trajectories}) == TRAJECTORIES * 3 // 4


def test_groups_are_named_in_natural_word_order():
    groups = {"gender": "female", "age": "old", "skin_tone": "tan"}
    assert name_groups(TEMPLATE, PROMPTS[0], groups) == "a face photo of an old female tan skinned doctor"


def test_the_recording_has_all_trajectories_in_order(dissected):
    _, recording = dissected
    assert recording.maps.shape == (STEPS, TRAJECTORIES, 16 * 4 * 4)
    assert recording.shape == (16, 4, 4)
    assert len(recording.thumbnails) == len(recording.labels["tint"]) == TRAJECTORIES


def test_recorded_maps_are_the_output_of_the_hookpoint(dissected, generator):
    _, recording = dissected
    trajectories = plan_trajectories(PROMPTS, GROUPS, TEMPLATE, settings())[:16]
    seen = []
    texts, seeds = [t.prompt.text for t in trajectories], [t.seed for t in trajectories]
    generator.sample(texts, seeds, observers={"mid_block": lambda _step, h: seen.append(h)})
    assert torch.allclose(recording.at(1, torch.arange(16)), seen[1], atol=1e-2)


@pytest.mark.parametrize("baseline", ["zero", "counterfactual"])
def test_a_lens_has_features_firing_and_quality_for_every_group(generator, baseline, tmp_path):
    lens, _ = dissect(generator, baseline, tmp_path)
    for group, features in lens.features["tint"].items():
        assert 1 <= len(features) <= 3
        assert all(feature.score > 0 for feature in features)
        assert lens.firing["tint"][group].shape == (STEPS, 16, len(features))
        assert lens.contrast["tint"][group].shape == (STEPS, 16, len(lens.latents("tint")))
    assert len(lens.quality["unexplained_variance"]) == STEPS
    assert lens.quality["completeness_gap"] < 1e-4


def test_mean_activation_includes_inactive_positions(dissected):
    lens, recording = dissected
    [feature, *_] = lens.features["tint"]["dark"]
    rows = (recording.labels["tint"] == 0).nonzero().flatten()
    values = lens.sae.latents_of_map(recording.at(1, rows))[..., feature.latent]
    assert (values == 0).any()
    assert feature.mean_firing_per_step[1] == pytest.approx(float(values.mean()), abs=1e-5)


def trained_on_the_cpu(stream, settings, draws, progress, device, checkpoint):
    """The simulated GPU has no gradients: train on the CPU, then measure and continue on the simulated GPU."""
    sae, quality = train_sae(stream, settings, draws, progress, "cpu", checkpoint)
    return copy.deepcopy(sae).to(device), quality


def test_a_lens_is_the_same_if_the_model_runs_on_a_gpu(dissected, tiny_pipeline, monkeypatch, tmp_path):
    monkeypatch.setattr(build, "train_sae", trained_on_the_cpu)
    with pretended_gpu():
        model = load_generator(ModelConfig(source=str(tiny_pipeline)), SAMPLING)
        lens, _ = dissect(model, "zero", tmp_path)
    assert lens.features == dissected[0].features
    assert all(torch.equal(a, b) for a, b in zip(lens.sae.parameters(), dissected[0].sae.parameters(), strict=True))
    assert torch.equal(lens.firing["tint"]["dark"], dissected[0].firing["tint"]["dark"])


def test_a_lens_can_be_saved_and_loaded(dissected, tmp_path):
    lens, recording = dissected
    write_examples(lens, recording, tmp_path)
    lens.save(tmp_path)
    again = Lens.load(tmp_path)
    assert again.features == lens.features
    assert torch.allclose(again.firing["tint"]["dark"], lens.firing["tint"]["dark"], atol=1e-2)
    assert torch.allclose(again.contrast["tint"]["dark"], lens.contrast["tint"]["dark"], atol=1e-2)
    best = lens.features["tint"]["dark"][0].latent
    assert (tmp_path / "examples" / f"{best}-0.webp").is_file()
    honesty = honesty_in(tmp_path)
    assert honesty.images == TRAJECTORIES
    assert [group.group for group in honesty.groups] == ["dark", "bright"]
    assert len(honesty.groups[0].features[0].map) == 4
    assert "| tint |" in (tmp_path / "card.md").read_text().split("## Features")[1]


def test_the_first_example_is_the_picture_with_the_highest_activation(dissected):
    lens, recording = dissected
    latents = [feature.latent for feature in lens.features["tint"]["dark"]]
    activity = mean_activity(lens, recording, latents)
    maps = recording.at(0, torch.arange(TRAJECTORIES))
    assert activity.shape == (TRAJECTORIES, len(latents))
    assert torch.all(activity * STEPS >= lens.sae.latents_of_map(maps)[..., latents].mean(1) - 1e-5)


def test_a_picture_outside_the_groups_is_not_used_to_train_heads(generator, tmp_path):
    own = settings()
    plan = RecordingPlan(tuple(plan_trajectories(PROMPTS, {}, TEMPLATE, own)[:16]), (own,))
    labels = {}
    for judge in (TintJudge(), NarrowJudge()):
        recording = recorded(generator, own, tmp_path / type(judge).__name__, plan, judge)
        labels[type(judge)] = recording.labels["tint"]
    bright = labels[TintJudge] == 1
    assert 0 < bright.sum() < len(bright)
    assert (labels[NarrowJudge][bright] == UNLABELLED).all()
    assert torch.equal(labels[NarrowJudge][~bright], labels[TintJudge][~bright])


def test_at_a_high_temperature_probabilities_are_linear_in_the_logits(dissected):
    lens, recording = dissected
    usual = attribute_latents(lens.sae, lens.heads, recording, "tint", settings())
    hot = [
        attribute_latents(lens.sae, lens.heads, recording, "tint", replace(settings(), temperature=t))
        for t in (1e3, 1e5)
    ]
    assert not torch.allclose(
        usual.mean() / usual.mean().abs().max(), hot[0].mean() / hot[0].mean().abs().max(), atol=1e-3
    )
    # T = 1000, as in the released code: T times the effect no longer depends on T.
    assert torch.allclose(1e3 * hot[0].mean(), 1e5 * hot[1].mean(), rtol=1e-2, atol=1e-6)


def test_settings_of_a_later_release_name_another_lens_only_if_they_are_changed():
    def name(**lens):
        request = DissectionRequest.of(AuditConfig(name="lens", lens=lens))
        return lens_name("model", lens_settings(request)), recording_name("model", lens_settings(request))

    usual = name()
    for changed in ({"temperature": 1000.0}, {"shared_features": True}, {"dictionary": "matryoshka"}):
        assert name(**changed)[0] != usual[0], changed
        assert name(**changed)[1] == usual[1], changed  # from the same images
    assert name(temperature=1.0, shared_features=False, dictionary="top_k") == usual
