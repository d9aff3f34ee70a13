"""Directions of prompts: ends of an axis have scores −1 and +1, and neither batch nor length changes what is read."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from audit.analyses.analysis import Instruments
from audit.analyses.directions import MAPS, DirectionsAnalysis, DirectionsRequest
from audit.analyses.sketch import sketched
from audit.config.sections import ModelConfig, SamplingConfig
from audit.models.files.untrusted_model import UnfitModelError
from audit.models.generator import load_generator
from audit.records.inside.exploration import Axis
from benchmarks.tiny_families import save_flux, save_sd3

NEUTRAL, LOW, HIGH = "a photo of a person", "a photo of a cold person", "a photo of a warm person"
REQUEST = DirectionsRequest(
    hookpoint="up_blocks.0",
    step=0,
    seeds=4,
    batch=8,
    neutral=NEUTRAL,
    axes=(Axis("warmth", LOW, HIGH),),
    texts=("a photo of a doctor", "a photo of a nurse", LOW),
)
ANALYSIS = DirectionsAnalysis()


@pytest.fixture(scope="module")
def generator(tiny_pipeline):
    return load_generator(ModelConfig(source=str(tiny_pipeline)), SamplingConfig(steps=3, guidance=2.0))


def parts_of(generator, request):
    return [ANALYSIS.part(Instruments(generator, None), request, task) for task in ANALYSIS.tasks(request)]


def found(generator, request=REQUEST):
    return ANALYSIS.combine(request, parts_of(generator, request))


def test_the_ends_of_an_axis_have_scores_of_minus_one_and_one(generator):
    directions = found(generator)
    assert directions.texts == (NEUTRAL, LOW, HIGH, "a photo of a doctor", "a photo of a nurse")
    assert directions.scores.shape == (5, 1, 4)
    assert directions.scores[1:3, 0].mean(1) == pytest.approx([-1, 1])
    assert directions.text_scores[1:3, 0] == pytest.approx([-1, 1])
    assert not directions.halves[:, 0].any()  # the neutral prompt changes nothing


ALIKE = [{"axes": (Axis("warmth", LOW, LOW),)}, {"hookpoint": "time_embedding.linear_1"}, {"hookpoint": "conv_in"}]
"""Equal texts, and modules that read no text."""


@pytest.mark.parametrize("changes", ALIKE)
def test_an_axis_whose_ends_are_read_alike_is_refused(generator, changes):
    with pytest.raises(UnfitModelError, match=r"axis warmth: expected two ends that differ .* choose other words"):
        found(generator, replace(REQUEST, **changes))


def test_the_batch_changes_no_direction(generator):
    one, other = (found(generator, replace(REQUEST, batch=batch)) for batch in (8, 3))
    assert one.texts == other.texts
    np.testing.assert_allclose(one.scores, other.scores, atol=1e-3)


def test_a_map_is_what_the_hookpoint_returns_in_a_whole_run(generator):
    seen, plain = {}, generator.sample([LOW], [5])
    generator.sample([LOW, HIGH], [5, 6], observers={"up_blocks.0": lambda step, h: seen.setdefault(step, h.clone())})
    for step in (0, 2):
        assert torch.equal(generator.maps([LOW, HIGH], [5, 6], "up_blocks.0", step), seen[step])
    assert torch.equal(generator.sample([LOW], [5]), plain)  # no hook is left behind


def test_a_step_or_module_that_is_not_reached_is_refused(generator):
    with pytest.raises(UnfitModelError, match=r"expected a map of 'mid_block' at step 30, found none in \d steps"):
        generator.maps([LOW], [1], "mid_block", 30)


def test_one_seed_has_equal_halves(generator):
    directions = found(generator, replace(REQUEST, seeds=1))
    assert np.array_equal(directions.halves[0], directions.halves[1])
    assert directions.scores[1:3, 0, 0] == pytest.approx([-1, 1])


def test_a_task_is_named_by_its_texts():
    tasks = ANALYSIS.tasks(REQUEST)
    assert len({task.id for task in tasks}) == len(tasks) == 3
    assert tasks[0].id == ANALYSIS.tasks(replace(REQUEST, texts=()))[0].id


def test_a_missing_part_is_an_error_in_words(generator):
    parts = [parts_of(generator, REQUEST)[0], None, None]
    with pytest.raises(ValueError, match="expected a part for task"):
        ANALYSIS.combine(REQUEST, parts)


@pytest.mark.parametrize("save", [save_sd3, save_flux])
def test_tokens_of_a_transformer_have_directions(tmp_path, save):
    sampling = SamplingConfig(steps=2, guidance=2.0, height=32, width=32)
    generator = load_generator(ModelConfig(source=str(save(tmp_path))), sampling)
    request = replace(REQUEST, hookpoint="transformer_blocks.0", seeds=2)
    directions = found(generator, request)
    assert directions.scores[1:3, 0].mean(1) == pytest.approx([-1, 1], abs=1e-4)


def test_a_sketch_keeps_cosines():
    draws = torch.Generator().manual_seed(1)
    common = torch.randn(1, 50_000, generator=draws)
    vectors = torch.randn(40, 50_000, generator=draws) + common * torch.linspace(0, 2, 40)[:, None]
    short = sketched(vectors)
    assert short.shape == (40, 8192)
    errors = torch.cosine_similarity(short[:, None], short[None], -1) - torch.cosine_similarity(
        vectors[:, None], vectors[None], -1
    )
    assert errors.abs().max() < 5 / 8192**0.5
    assert abs(float(errors.mean())) < 2 / 8192**0.5 / 5
    assert torch.equal(sketched(vectors[:, :100]), vectors[:, :100])


def test_a_part_is_as_short_as_a_sketch(generator):
    part = parts_of(generator, REQUEST)[0]
    assert part[MAPS].shape[:2] == (2, 4)
    assert part[MAPS].shape[2] == min(8192, int(part["width"][0]))
