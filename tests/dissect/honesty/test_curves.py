"""Deletion and insertion: identities, and planted features beside random ones."""

import numpy as np
import pytest
import torch

from audit.dissect.honesty.curves import DRAWS, curve_steps, group_curves, random_sets
from tests.dissect.honesty.planted import LATENTS, STEPS, planted_labels, planted_lens, planted_recording


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    recording = planted_recording(tmp_path_factory.mktemp("curves"), *planted_labels())
    return planted_lens(recording), recording


def plain_probability(lens, recording, group):
    """Mean probability of a group in the images that show it, from the maps themselves."""
    rows = (recording.labels["tint"] == group).nonzero().flatten()
    steps = [lens.heads.logits("tint", step, recording.at(step, rows)).softmax(-1)[:, group] for step in range(STEPS)]
    return float(torch.stack(steps).mean())


def edited_probability(lens, recording, group, latents, *, keep):
    """The same after the latents, or all others, are set to their means over all images: decoded in full."""
    rows = torch.arange(recording.layout.recorded)
    shown = recording.labels["tint"] == group
    found = []
    for step in range(STEPS):
        maps = recording.at(step, rows)
        codes = lens.sae.latents_of_map(maps)
        chosen = torch.zeros(LATENTS, dtype=torch.bool)
        chosen[latents] = True
        to_mean = (codes.mean(0, keepdim=True) - codes) * (chosen ^ keep)
        moved = maps + lens.sae.map_delta(to_mean, maps.shape)
        found.append(lens.heads.logits("tint", step, moved[shown]).softmax(-1)[:, group])
    return float(torch.stack(found).mean())


def test_nothing_deleted_is_the_plain_probability(planted):
    lens, recording = planted
    curves = group_curves(lens, recording, "tint")
    for number, group in enumerate(("dark", "bright")):
        assert curves[group].deletion.values[0] == pytest.approx(plain_probability(lens, recording, number), abs=1e-4)


def test_every_point_is_the_probability_of_the_edited_map(planted):
    lens, recording = planted
    curves = group_curves(lens, recording, "tint")
    for number, group in enumerate(("dark", "bright")):
        latents = [feature.latent for feature in lens.features["tint"][group]]
        for count in range(len(latents) + 1):
            deleted = edited_probability(lens, recording, number, latents[:count], keep=False)
            inserted = edited_probability(lens, recording, number, latents[:count], keep=True)
            assert curves[group].deletion.values[count] == pytest.approx(deleted, abs=1e-4)
            assert curves[group].insertion.values[count] == pytest.approx(inserted, abs=1e-4)


def test_all_latents_inserted_is_the_plain_probability(planted):
    lens, recording = planted
    everything = edited_probability(lens, recording, 0, list(range(LATENTS)), keep=True)
    assert everything == pytest.approx(plain_probability(lens, recording, 0), abs=1e-5)


def test_planted_features_move_the_probability_more_than_random_ones(planted):
    curves = group_curves(*planted, "tint")
    for own in curves.values():
        assert own.deletion.is_below_random
        assert own.insertion.is_above_random
        assert own.deletion.random_low[0] == own.deletion.random_high[0] == own.deletion.values[0]


def test_random_sets_have_distinct_latents_of_similar_activity_and_no_features():
    activity = torch.linspace(0, 1, 200)
    drawn = random_sets([50, 120, 121], activity, [50, 120, 121, 122], np.random.default_rng(0))
    assert drawn.shape == (DRAWS, 3)
    for row in drawn.tolist():
        assert len(set(row)) == 3
        assert not {0, 50, 120, 121, 122} & set(row)
    assert torch.all((activity[drawn] - activity[[50, 120, 121]]).abs() < 0.12)
    assert len(torch.unique(drawn[:, 0])) > 5


def test_without_enough_other_latents_there_are_no_sets():
    assert random_sets([0, 1], torch.ones(3), [0, 1], np.random.default_rng(0)).numel() == 0


def test_curves_average_over_a_few_steps_that_span_the_process():
    assert curve_steps(3) == [0, 1, 2]
    assert (len(curve_steps(50)), curve_steps(50)[0], curve_steps(50)[-1]) == (10, 0, 49)
