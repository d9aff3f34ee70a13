"""The bundled calibration model: stock libraries load it, it follows its prompts, and its card is correct."""

import json

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from audit.calibration.bundle import BUNDLED, Bundle
from audit.calibration.labels import ATTRIBUTES
from audit.calibration.networks import DrawingNetwork, to_unit_range
from audit.calibration.world import World
from audit.config.sections import ModelConfig, SamplingConfig
from audit.models.generator import load_generator
from audit.records.work import Prompt
from audit.training.captions import caption

BUNDLE = Bundle.at(BUNDLED)
MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def judge():
    return DrawingNetwork.load(BUNDLE.judge)


@pytest.fixture(scope="module")
def generator():
    return load_generator(ModelConfig(), SamplingConfig(steps=25, guidance=3.0))


def answers(judge, images):
    with torch.inference_mode():
        return {question: logits.argmax(1) for question, logits in judge(to_unit_range(images)).items()}


def test_stock_diffusers_loads_the_pipeline_and_draws():
    pipeline = StableDiffusionPipeline.from_pretrained(BUNDLE.pipeline, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline("a face photo of a nurse", num_inference_steps=2).images[0].size == (64, 64)


def test_every_occupation_is_recognised(generator, judge):
    shown = []
    for occupation in World.bundled().occupations:
        images = generator.generate(Prompt(occupation, caption(occupation), occupation), range(8))
        shown += (answers(judge, images)["occupation"] == judge.answers["occupation"].index(occupation)).tolist()
    assert np.mean(shown) >= 0.9


@pytest.mark.parametrize("gender", ATTRIBUTES["gender"])
def test_a_named_gender_is_shown(generator, judge, gender):
    images = generator.generate(Prompt("p", caption("doctor", gender=gender), "doctor"), range(16))
    assert (answers(judge, images)["gender"] == ATTRIBUTES["gender"].index(gender)).float().mean() >= 0.8


def test_the_bundled_files_fit_into_80_megabytes():
    assert sum(path.stat().st_size for path in BUNDLED.rglob("*") if path.is_file()) <= 80 * MEGABYTE


def test_no_config_of_the_bundle_names_an_absolute_path():
    named = [json.loads(path.read_text()).get("_name_or_path", "") for path in BUNDLED.rglob("config.json")]
    assert not [path for path in named if path.startswith("/")]


def test_no_weights_are_pickled():
    assert not [path for path in BUNDLED.rglob("*") if path.suffix in (".bin", ".pt", ".pth", ".ckpt", ".pkl")]


def test_the_table_of_the_bundle_is_the_bundled_world():
    assert BUNDLE.table.read_bytes() == World.bundled_path().read_bytes()


def test_the_card_has_a_figure_for_every_occupation():
    card = json.loads((BUNDLED / "card.json").read_text())
    assert set(card["occupation_shown"]) == set(World.bundled().occupations)
    for attribute in ATTRIBUTES:
        assert set(card["share_gap"][attribute]) == set(World.bundled().occupations)
