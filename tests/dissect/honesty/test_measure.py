"""Planted features pass, noise fails; with permuted labels nothing passes but by chance."""

from dataclasses import replace

import pytest
import torch

from audit.dissect.honesty.files import write_honesty
from audit.dissect.honesty.measure import HALVINGS, dissection_of_settings, measure_honesty
from audit.dissect.lens import BiasFeature, Lens, honesty_in
from audit.dissect.settings import CARD_FILE, HONESTY_FILE
from audit.models.device import device_here
from tests.dissect.honesty.planted import FEATURES, GROUPS, SETTINGS, planted_labels, planted_lens, planted_recording
from tests.pretended_gpu import pretended_gpu

PLANTED = {("tint", "dark"): 0, ("tint", "bright"): 1, ("size", "small"): 2, ("size", "large"): 3}


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    recording = planted_recording(tmp_path_factory.mktemp("planted"), *planted_labels())
    return planted_lens(recording), recording


@pytest.fixture(scope="module")
def honesty(planted):
    lens, recording = planted
    return measure_honesty(lens, recording, SETTINGS)


def test_a_planted_feature_is_first_stable_and_separates_its_group(honesty):
    for group in honesty.groups:
        first = group.features[0]
        assert first.latent == PLANTED[group.attribute, group.group]
        assert first.auc.value > 0.99
        assert first.auc.n == group.images + sum(
            other.images for other in honesty.of(group.attribute) if other is not group
        )
        assert first.chosen == first.halves == 2 * HALVINGS
        assert first.failures == ()
        assert min(group.auc_per_step) > 0.5


def test_noise_fails_for_its_reasons(honesty):
    noise = [one for group in honesty.groups for one in group.features[1:] if one.latent not in PLANTED.values()]
    failing = [one for one in noise if one.failures]
    assert len(noise) >= 4
    assert len(failing) >= 0.8 * len(noise)
    reasons = {reason for one in failing for reason in one.failures}
    assert reasons <= {"no better than chance", "less active in its group", "not stable"} | {
        reason for reason in reasons if reason.startswith("stronger for")
    }


def test_permuted_labels_have_intervals_that_cover_chance(tmp_path):
    covered = tested = passing = features = 0
    for seed in range(4):
        labels, partners = planted_labels(seed)
        recording = planted_recording(tmp_path / str(seed), labels, partners, effect=0.0, seed=seed)
        for group in measure_honesty(planted_lens(recording), recording, SETTINGS).groups:
            found = [one.auc for one in group.features if one.auc is not None]
            tested += len(found)
            covered += sum(auc.low <= 0.5 <= auc.high for auc in found)
            passing += len(group.features) - group.failing
            features += len(group.features)
    assert features == 4 * len(PLANTED) * FEATURES
    assert covered >= 0.85 * tested > 0
    assert passing <= 0.1 * features


def test_a_feature_that_is_stronger_for_another_attribute_fails(planted):
    lens, recording = planted
    shared = {"small": (BiasFeature(0, 9.0, (1.0,)), *lens.features["size"]["small"][1:])}
    both = replace(lens, features={**lens.features, "size": {**lens.features["size"], **shared}})
    found = measure_honesty(both, recording, SETTINGS)
    [tint, *_] = found.groups[0].features
    assert [(other.attribute, other.group) for other in tint.shared] == [("size", "small")]
    assert tint.failures == ("stronger for size: small",)
    assert found.shared("tint", "size") == len(set(both.latents("tint")) & set(both.latents("size")))


def test_maps_show_where_a_feature_is_active(planted, honesty):
    lens, _ = planted
    [first, *_] = honesty.groups[0].features
    expected = lens.firing["tint"]["dark"][:, :, 0].mean(0).view(2, 2)
    assert torch.allclose(torch.tensor(first.map), expected, rtol=1e-2)


def test_the_choice_of_a_half_reads_no_label_of_the_other_half(planted):
    """Permute the labels of one half: the other half chooses the same features."""
    from audit.dissect.honesty.choices import choices_of

    lens, recording = planted
    first = torch.arange(len(recording.partners)) < len(recording.partners) // 2
    other = {name: torch.where(first, labels, 1 - labels) for name, labels in recording.labels.items()}
    [(own, _)] = choices_of(lens, recording, SETTINGS, list(GROUPS), [first])
    [(again, changed)] = choices_of(lens, replace(recording, labels=other), SETTINGS, list(GROUPS), [first])
    assert own.latents == again.latents
    assert 0 in changed.latents["tint"]["bright"]  # latent 0 is raised in dark images


def test_a_rare_group_leaves_its_attribute_out(planted):
    lens, recording = planted
    rare = torch.zeros_like(recording.labels["size"])
    rare[:3] = 1
    found = measure_honesty(lens, replace(recording, labels={**recording.labels, "size": rare}), SETTINGS)
    assert found.attributes == ("tint",)
    assert "3 images show large" in found.left_out["size"]


def test_the_figures_are_stored_beside_the_lens_and_summarised_in_its_card(planted, tmp_path):
    lens, recording = planted
    lens = replace(lens, quality=quality_of(lens))
    written = write_honesty(lens, recording, tmp_path)
    lens.save(tmp_path)
    assert honesty_in(tmp_path) == written
    card = (tmp_path / CARD_FILE).read_text()
    assert "| tint | 6 |" in card
    assert Lens.load(tmp_path).quality["honesty"]["tint"]["features"] == 6


def test_a_lens_of_an_older_release_loads_without_figures(planted, tmp_path):
    lens, _ = planted
    replace(lens, quality=quality_of(lens)).save(tmp_path)
    assert not (tmp_path / HONESTY_FILE).exists()
    assert honesty_in(tmp_path) is None
    assert Lens.load(tmp_path).features == lens.features
    assert "## Features" not in (tmp_path / CARD_FILE).read_text()


def test_a_file_of_another_format_is_refused(tmp_path):
    (tmp_path / HONESTY_FILE).write_text('{"format_version": 99}')
    with pytest.raises(ValueError, match="format 1, found 99"):
        honesty_in(tmp_path)
    (tmp_path / HONESTY_FILE).write_text('{"format_version": 1}')
    with pytest.raises(ValueError, match="expected the figures"):
        honesty_in(tmp_path)


def test_settings_of_a_lens_say_how_it_was_made():
    stored = {name: value for name, value in vars(SETTINGS).items() if name != "recorded"} | {"judge": "bundled"}
    assert dissection_of_settings(stored) == SETTINGS
    with pytest.raises(ValueError, match="incomplete"):
        dissection_of_settings({"k": 4})


def quality_of(lens):
    return {
        "unexplained_variance": [0.1] * lens.steps,
        "dead_latents": 0,
        "latents": lens.sae.shape.n_latents,
        "decoder_cosine_mean": 0.0,
        "decoder_cosine_max": 0.0,
        "completeness_gap": 0.0,
        "head_accuracy": {attribute: [1.0] * lens.steps for attribute in lens.groups},
    }


def test_figures_are_the_same_on_a_gpu(planted, honesty):
    lens, recording = planted
    with pretended_gpu():
        assert measure_honesty(lens.to(device_here()), recording, SETTINGS) == honesty
