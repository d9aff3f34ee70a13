"""Planted associations are found and confirmed; without them, or if held-out images differ, nothing is reported."""

from dataclasses import replace

import numpy as np
import pytest

from audit.measure.open_set.rate_difference import rate_difference
from audit.results.open_set import findings
from audit.results.open_set.attributes import unnamed_attributes
from audit.results.open_set.findings import Limits, differences_of, holm
from audit.results.open_set.rare import rare_features
from audit.results.open_set.sample import Sample

PROMPTS, IMAGES = 8, 96
LIMITS = Limits(0.05, 0.1)


def a_sample(favoured=0.8, held_out=None, seed=0, named=True, prompts=PROMPTS, images=IMAGES, looks=4.0):
    """Prompt 2 has the hidden attribute at another rate; a named one changes embeddings, and each prompt has a look."""
    random = np.random.default_rng(seed)
    of, number = np.repeat(np.arange(prompts), images), np.tile(np.arange(images), prompts)
    rate = np.where(of == 2, favoured, 0.2)
    if held_out is not None:
        rate = np.where((of == 2) & (number >= images // 2), held_out, rate)
    hidden, group = random.random(len(of)) < rate, (random.random(len(of)) < np.where(of == 3, 0.9, 0.4)).astype(int)
    axes = random.normal(size=(3, 12))
    vectors = 0.35 * random.normal(size=(len(of), 12)) + looks * random.normal(size=(prompts, 12))[of]
    vectors += np.outer(hidden, axes[0]) + np.outer(group, axes[1]) + np.outer(random.random(len(of)) < 0.5, axes[2])
    return Sample(
        tuple(f"p{place}" for place in range(prompts)),
        of,
        number,
        vectors,
        {"gender": group if named else np.full(len(of), -1)},
        {"gender": 2},
    )


def found(sample):
    attributes = unnamed_attributes(sample)
    return attributes, differences_of(sample, attributes, LIMITS)


def test_a_planted_association_is_found_with_its_rates_and_nothing_else():
    attributes, differences = found(a_sample())
    [one] = differences.findings
    assert one.prompt == "p2"
    assert (one.rate, one.others) == pytest.approx((0.8, 0.2), abs=0.12)
    assert one.low < one.difference < one.high
    assert one.p <= 0.05
    assert attributes[one.attribute - 1].states.separation > 3
    assert all(int(key.split("/")[1]) >= IMAGES // 2 for key in one.strip.strongest + one.strip.weakest)


def test_a_state_that_all_images_of_a_prompt_show_is_found_where_looks_differ_little():
    _, differences = found(a_sample(favoured=1.0, looks=0.05))
    [one] = differences.findings
    assert one.prompt == "p2"
    assert one.rate > 0.95
    assert found(a_sample(favoured=1.0))[1].findings == ()  # with other looks, it may be a look


def six_prompts(shown, otherwise, seed=5):
    """Return images of six prompts and an attribute with a rate in prompts 2 and 5, and another in the others."""
    sample = a_sample(favoured=1.0, looks=0.05, prompts=6)
    random, attributes = np.random.default_rng(seed), unnamed_attributes(sample)
    upper = random.random(len(sample.prompts)) < np.where(sample.prompts % 3 == 2, shown, otherwise)
    first, held = sample.half(held_out=False), sample.half(held_out=True)
    return sample, replace(
        attributes[0],
        discovery=replace(attributes[0].discovery, upper=upper[first]),
        held_out=replace(attributes[0].held_out, upper=upper[held]),
        known=np.ones(6, bool),
        confirmable=np.ones(6, bool),
    )


def test_only_tests_with_another_reference_are_made_again(monkeypatch):
    # With hundreds of prompts, every further round of all tests costs minutes.
    sample, one = six_prompts(shown=0.95, otherwise=0.05)
    _, even = six_prompts(shown=0.3, otherwise=0.3, seed=6)
    made = []
    monkeypatch.setattr(findings, "rate_difference", lambda *of: made.append(0) or rate_difference(*of))
    differences = differences_of(sample, [even, one], LIMITS)
    assert {finding.attribute for finding in differences.findings} == {2}
    rounds = 2  # p2 and p5 are taken out, one after the other
    assert len(made) == 6 * 2 + rounds * 6 + len(differences.candidates)


def test_a_prompt_is_compared_with_typical_ones():
    # Two of six prompts nearly always show it; against a mean with them, the others would show it too rarely.
    sample, one = six_prompts(shown=0.95, otherwise=0.05)
    differences = differences_of(sample, [one], LIMITS)
    assert sorted(finding.prompt for finding in differences.findings) == ["p2", "p5"]
    assert all(finding.others < 0.15 for finding in differences.findings)


def test_what_held_out_images_do_not_show_is_not_reported():
    _, differences = found(a_sample(held_out=0.2))
    assert [one.prompt for one in differences.candidates] == [2]
    assert differences.findings == ()


def test_without_an_association_nothing_is_found():
    for seed in range(6):
        _, differences = found(a_sample(favoured=0.2, seed=seed))
        assert differences.findings == ()


def test_a_judge_that_names_nothing_leaves_its_attribute_to_be_found():
    _, differences = found(a_sample(named=False))
    assert {one.prompt for one in differences.findings} == {"p2", "p3"}


def test_noise_and_equal_images_have_no_findings():
    sample = a_sample()
    noise = np.random.default_rng(0).normal(size=sample.vectors.shape)
    for vectors in (noise, np.ones_like(sample.vectors)):
        assert found(replace(sample, vectors=vectors))[1].findings == ()
        assert len(rare_features(replace(sample, vectors=vectors), 2)) <= 2 * PROMPTS


def test_two_prompts_with_few_images_are_enough_to_run():
    _, differences = found(a_sample(prompts=3, images=16))
    assert len(differences.findings) <= 1


def test_rare_features_are_rare_and_far():
    sample = a_sample(favoured=0.05, seed=3)
    rare = rare_features(sample, 3)
    assert rare
    for one in rare:
        assert 0 < one.rate <= 0.2
        assert one.score == pytest.approx((1 - one.rate) * one.distance)
        assert {key.split("/")[0] for key in one.pictures} == {one.prompt}
    assert rare_features(sample, 0) == ()


def test_holm_adjusts_as_the_paper_says():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx((0.03, 0.06, 0.06))
    assert holm([]) == ()
