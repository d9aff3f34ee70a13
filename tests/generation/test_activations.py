"""Recorded activations: what the last edit returns, held for the same images in all arms, without changing an image."""

from collections import Counter

import numpy as np
import pytest
import torch

from audit.config.sections import ModelConfig, SamplingConfig
from audit.generation.activations import IMAGES, Recorder, edited_places, is_recorded, vectors_of
from audit.models.generator import load_generator
from audit.models.intervention import Intervention, together
from audit.records.arms.off_path import MOST_STEPS, VECTOR_LENGTH, recorded_steps
from audit.records.work import ImageKey, Prompt
from benchmarks.tiny_families import FAMILIES

PROMPT, SEEDS, STEPS = Prompt("doctor", "a face photo of a doctor", "doctor"), [1, 2, 3], 3


def adding(number, window=range(STEPS), places=("mid_block",)):
    return Intervention((None,) * len(SEEDS), window, edits={path: lambda _step, h: h + number for path in places})


@pytest.fixture(scope="module", params=["sd", "flux"])
def generator(request, tmp_path_factory):
    source = FAMILIES[request.param](tmp_path_factory.mktemp(request.param))
    sampling = SamplingConfig(steps=STEPS, guidance=2.0, height=32, width=32)
    if request.param == "sd":
        sampling = SamplingConfig(steps=STEPS, guidance=2.0, scheduler="DDIMScheduler")
    place = "mid_block" if request.param == "sd" else "transformer_blocks.0"
    return load_generator(ModelConfig(source=str(source)), sampling, place), place


def test_recording_changes_no_bit_and_the_baseline_is_seen_as_an_edit_that_adds_nothing(generator):
    model, place = generator
    plain, null = Recorder((place,), STEPS, 2), Recorder((place,), STEPS, 2)
    observed = model.generate(PROMPT, SEEDS, observers=plain.observers())
    edited = model.generate(PROMPT, SEEDS, null.recorded(adding(0.0, places=(place,))))
    assert torch.equal(observed, model.generate(PROMPT, SEEDS))
    assert torch.equal(edited, observed)
    assert plain.vectors().shape == (2, STEPS, VECTOR_LENGTH)
    np.testing.assert_allclose(null.vectors(), plain.vectors(), rtol=1e-5, atol=1e-5)
    assert np.abs(plain.vectors()).max() > 0


def test_the_result_of_the_last_edit_of_a_place_counts_and_only_in_its_window(generator):
    model, place = generator
    both = together([adding(5.0, places=(place,)), adding(-5.0, range(1, STEPS), places=(place,))])
    seen, alone = Recorder((place,), STEPS, 3), Recorder((place,), STEPS, 3)
    model.generate(PROMPT, SEEDS, seen.recorded(both))
    model.generate(PROMPT, SEEDS, alone.recorded(adding(5.0, range(1, 2), places=(place,))))
    plain = Recorder((place,), STEPS, 3)
    model.generate(PROMPT, SEEDS, observers=plain.observers())
    assert np.isnan(alone.vectors()).all(axis=(0, 2)).tolist() == [True, False, True]
    assert not np.allclose(seen.vectors()[:, 0], plain.vectors()[:, 0])
    assert np.isfinite(seen.vectors()).all()
    assert edited_places(both) == (place,)


def test_places_that_are_edited_in_different_windows_are_both_recorded_at_all_edited_steps(generator):
    model, place = generator
    other = "up_blocks.0" if place == "mid_block" else "single_transformer_blocks.0"
    both = together([adding(5.0, range(1), places=(place,)), adding(5.0, range(1, 2), places=(other,))])
    seen, plain = (Recorder(edited_places(both), STEPS, 3) for _ in range(2))
    changed = model.generate(PROMPT, SEEDS, seen.recorded(both), seen.observers())
    assert torch.equal(changed, model.generate(PROMPT, SEEDS, both))
    model.generate(PROMPT, SEEDS, observers=plain.observers())
    assert np.isnan(seen.vectors()).all(axis=(0, 2)).tolist() == [False, False, True]
    assert np.isfinite(seen.vectors()[:, :2]).all()
    assert np.isfinite(plain.vectors()).all()
    assert not np.allclose(seen.vectors()[:, 0], plain.vectors()[:, 0])


def test_vectors_keep_inner_products_on_average_and_places_apart():
    rng = torch.Generator().manual_seed(0)
    small, large = (torch.randn(40, channels, 4, 4, generator=rng) for channels in (4, 600))
    np.testing.assert_array_equal(vectors_of(small)[:, :64], small.flatten(1))
    assert not vectors_of(small)[:, 64:].any()
    ratios = (vectors_of(large) ** 2).sum(1) / (large.flatten(1) ** 2).sum(1).numpy()
    assert ratios.mean() == pytest.approx(1, abs=0.1)
    np.testing.assert_array_equal(vectors_of(large, 3), np.roll(vectors_of(large), 3, axis=1))


@pytest.mark.parametrize("prompts", [1, 5, 36, 255, 10_000])
def test_about_as_many_images_are_recorded_whatever_the_number_of_prompts(prompts):
    kept = [
        (number, index)
        for number in range(prompts)
        for index in range(600 if prompts < 10 else 40)
        if is_recorded(ImageKey(f"p{number}", index), prompts)
    ]
    each = Counter(number for number, _ in kept)
    assert len(set(each.values())) == 1
    assert 0.7 * IMAGES <= len(kept) <= 1.3 * IMAGES
    assert len([index for _, index in kept if index % 2]) * 2 == len(kept)


def test_few_steps_are_all_recorded_and_many_at_equal_distances():
    assert list(recorded_steps(25)) == list(range(25))
    assert recorded_steps(1000) == range(0, 1000, 20)
    assert len(recorded_steps(1000)) == MOST_STEPS
    assert len(recorded_steps(0)) == 0
