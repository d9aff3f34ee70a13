"""The shipped unconditional model: stock diffusers loads it, its pictures are faces, and its card is its own."""

import json

import numpy as np
import pytest
from diffusers import DDIMPipeline

from audit.calibration.bundle import BUNDLED, Bundle, bundle_of, world_table
from audit.calibration.labels import ATTRIBUTES
from audit.calibration.world import World
from audit.config.fields import UNCONDITIONAL
from audit.config.sections import ModelConfig, SamplingConfig
from audit.models.generator import load_generator
from audit.perception.judges.kinds.bundled import CalibrationJudge
from audit.planning.plan import NO_PROMPT
from audit.records.work import Status, derive_seed

DIRECTORY = BUNDLED / "unconditional"
MODEL = ModelConfig(source=UNCONDITIONAL)


def test_its_instruments_are_those_of_the_bundled_world():
    bundle = bundle_of(MODEL)
    assert bundle == Bundle(DIRECTORY, BUNDLED)
    assert (bundle.judge, bundle.pipeline) == (BUNDLED / "judge", DIRECTORY / "pipeline")
    assert world_table(MODEL) == DIRECTORY / "world.yaml"


def test_stock_diffusers_loads_it():
    pipeline = DDIMPipeline.from_pretrained(DIRECTORY / "pipeline")
    assert pipeline.unet.config.sample_size == 32
    assert pipeline.scheduler.config.prediction_type == "v_prediction"


def test_its_card_states_the_planted_shares_of_its_world():
    card, world = json.loads((DIRECTORY / "card.json").read_text()), World.load(DIRECTORY / "world.yaml")
    for attribute, groups in ATTRIBUTES.items():
        shares = [list(world.share(occupation, attribute).values()) for occupation in world.occupations]
        assert card["planted"][attribute] == pytest.approx(dict(zip(groups, np.mean(shares, 0), strict=True)), abs=1e-3)


def test_its_pictures_are_faces_and_mostly_of_men():
    generator = load_generator(MODEL, SamplingConfig(guidance=1.0))
    images = generator.generate(NO_PROMPT, [derive_seed("shipped unconditional", i) for i in range(48)])
    judge = CalibrationJudge(BUNDLED / "judge", ATTRIBUTES, min_confidence=0.5)
    seen = judge.perceive(images, "")
    assert images.shape == (48, 3, 32, 32)
    assert Status.NO_FACE not in seen.statuses
    assert seen.prompt_shown is None
    women = float((seen.codes("gender") == ATTRIBUTES["gender"].index("female")).mean())
    card = json.loads((DIRECTORY / "card.json").read_text())
    assert women == pytest.approx(card["shares"]["gender"]["female"], abs=0.2)
