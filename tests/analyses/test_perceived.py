"""Perceived shares: one part for each prompt, named by its text, with the counts of what the judge perceived."""

from dataclasses import replace

import numpy as np
import pytest

from audit.analyses.analysis import Instruments
from audit.analyses.perceived import PerceivedAnalysis, PerceivedRequest
from audit.config.sections import ModelConfig, SamplingConfig
from audit.models.generator import load_generator
from audit.records.work import Prompt
from benchmarks.lens_memory import TintJudge
from tests.dissect.test_build import NarrowJudge

DOCTOR = Prompt("doctor", "a photo of a doctor", "doctor")
REQUEST = PerceivedRequest((DOCTOR,), {"tint": ("dark", "bright")}, images=6, batch=4, seed=0)
ANALYSIS = PerceivedAnalysis()


@pytest.fixture(scope="module")
def generator(tiny_pipeline):
    return load_generator(ModelConfig(source=str(tiny_pipeline)), SamplingConfig(steps=2, guidance=2.0))


def counts(generator, judge):
    [task] = ANALYSIS.tasks(REQUEST)
    return ANALYSIS.combine(REQUEST, [ANALYSIS.part(Instruments(generator, judge), REQUEST, task)])["tint"]


def test_every_image_is_counted_once_and_a_group_that_is_not_audited_never(generator):
    [[dark, bright]] = counts(generator, TintJudge())
    assert dark + bright == 6
    assert np.array_equal(counts(generator, NarrowJudge()), [[dark, 0]])


def test_another_template_is_another_part():
    other = replace(REQUEST, prompts=(replace(DOCTOR, text="a drawing of a doctor"),))
    assert ANALYSIS.tasks(REQUEST)[0].id != ANALYSIS.tasks(other)[0].id


def test_a_missing_part_does_not_shift_the_prompts(generator):
    with pytest.raises(ValueError, match=r"expected a part for task doctor\."):
        ANALYSIS.combine(REQUEST, [None])
