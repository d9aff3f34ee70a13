"""Names of features: the word for which a latent fires most, tested on seeds that did not choose it."""

import numpy as np
import pytest

from audit.results.exploration.names import Feature, names_of

WORDS = ("old", "young", "doctor", "nurse")
FEATURES = (Feature("age", "old", 7), Feature("age", "young", 3))


def test_a_planted_word_is_found_and_tested_on_other_noise():
    activity = np.random.default_rng(0).normal(0, 1, (4, 20, 2))
    activity[0, :, 1] += 3  # latent 7 fires for "old"
    old, young = names_of(activity, WORDS, FEATURES, (3, 7))
    assert (old.word, old.latent, old.group) == ("old", 7, "old")
    assert old.area > 0.95
    assert young.area < 0.8


def test_noise_gets_a_name_that_does_not_hold():
    areas = [
        name.area
        for seed in range(40)
        for name in names_of(np.random.default_rng(seed).normal(0, 1, (4, 20, 2)), WORDS, FEATURES, (3, 7))
    ]
    assert np.mean(areas) == pytest.approx(0.5, abs=0.05)


def test_a_latent_that_never_fires_has_the_area_of_chance():
    [name, _] = names_of(np.zeros((4, 6, 2)), WORDS, FEATURES, (3, 7))
    assert name.area == 0.5
