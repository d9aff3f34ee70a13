"""The shipped wide model: stock diffusers loads it, it follows its prompts, and its judge also sees details."""

import json

import numpy as np
import pytest
import torch
from diffusers import PixArtAlphaPipeline

from audit.calibration.bundle import BUNDLED, Bundle, bundle_of, world_table
from audit.calibration.labels import ATTRIBUTES, DETAILS
from audit.calibration.world import World
from audit.config.fields import WIDE
from audit.config.sections import ModelConfig, SamplingConfig
from audit.config.settings import AuditConfig
from audit.models.generator import load_generator
from audit.perception.judges.kinds.bundled import CalibrationJudge
from audit.preflight.readiness import check_ready
from audit.records.work import Prompt, Status
from audit.training.captions import caption

DIRECTORY = BUNDLED / "wide"
MODEL = ModelConfig(source=WIDE)
WIDTH = 512


@pytest.fixture(scope="module")
def generator():
    return load_generator(MODEL, SamplingConfig(steps=25, guidance=3.0))


@pytest.fixture(scope="module")
def judge():
    return CalibrationJudge(DIRECTORY / "judge", ATTRIBUTES | DETAILS, min_confidence=0.0)


def test_it_has_a_judge_of_its_own_and_the_other_networks_of_the_bundled_world():
    bundle = bundle_of(MODEL)
    assert bundle == Bundle(DIRECTORY, BUNDLED)
    assert (bundle.judge, bundle.features, bundle.clip) == (DIRECTORY / "judge", BUNDLED / "features", BUNDLED / "clip")
    assert world_table(MODEL).read_bytes() == World.bundled_path().read_bytes()


def test_stock_diffusers_loads_it_and_its_stream_is_wide():
    pipeline = PixArtAlphaPipeline.from_pretrained(DIRECTORY / "pipeline", dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    config = pipeline.transformer.config
    assert config.num_attention_heads * config.attention_head_dim == WIDTH
    image = pipeline("a face photo of a nurse", num_inference_steps=2, use_resolution_binning=False).images[0]
    assert image.size == (64, 64)


def test_a_named_group_and_the_occupation_are_shown(generator, judge):
    for attribute, groups in ATTRIBUTES.items():
        for code, group in enumerate(groups):
            text = caption("chef", **{attribute: group})
            seen = judge.perceive(generator.generate(Prompt("p", text, "chef"), range(8)), "chef")
            assert Status.NO_FACE not in seen.statuses, text
            assert (seen.codes(attribute) == code).mean() >= 0.75, text
            assert np.mean(seen.prompt_shown) >= 0.9, text


def test_the_details_that_its_judge_knows_vary_in_its_pictures(generator, judge):
    seen = judge.perceive(generator.generate(Prompt("p", caption("scientist"), "scientist"), range(32)), "scientist")
    for detail in DETAILS:
        assert len(set(seen.codes(detail).tolist())) >= 2, detail


def test_a_config_that_audits_details_is_ready():
    attributes = {name: list(groups) for name, groups in (ATTRIBUTES | DETAILS).items()}
    means = {"name": "m", "method": "mean_difference", "attribute": "gender", "hookpoints": ["transformer_blocks.1"]}
    config = {"name": "w", "model": {"source": WIDE}, "attributes": attributes, "mitigations": [means]}
    assert list(check_ready(AuditConfig.model_validate(config))) == []


def test_its_card_has_a_figure_for_every_occupation_and_detail():
    card = json.loads((DIRECTORY / "card.json").read_text())
    assert set(card["occupation_shown"]) == set(World.bundled().occupations)
    assert {*ATTRIBUTES, *DETAILS} <= set(card["judge_accuracy"])
