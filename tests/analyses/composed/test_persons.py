"""A part holds each person's groups and embedding, for as many persons as the prompt names, and nothing for others."""

from types import SimpleNamespace

import numpy as np
import pytest

from audit.analyses.analysis import PictureInstruments
from audit.analyses.composed.persons import PersonsAnalysis, PersonsRequest
from audit.calibration.bundle import bundle_of
from audit.calibration.pairs import draw_pairs
from audit.calibration.world import World
from audit.config.judges import FacesConfig, ZeroShotConfig
from audit.config.sections import JudgeConfig, ModelConfig, QualityConfig
from audit.models.generator import RenderedGenerator
from audit.perception.judges.registry import load_judge
from audit.records.work import ImageKey, PairPrompt, Prompt

WORLD = World.load(World.bundled_path().with_name("pairs.yaml"))
PAIR = PairPrompt("doctor-and-nurse", "a photo of a doctor and a nurse", "doctor and nurse", "doctor", "nurse")
ALONE = Prompt("doctor", "a photo of a doctor", "doctor")
GROUPS = {"gender": ("female", "male")}
ANALYSIS = PersonsAnalysis()


def request(**changes):
    settings = {
        "prompts": (ALONE, PAIR),
        "attributes": GROUPS,
        "images": 20,
        "batch": 12,
        "seed": 0,
        "model": ModelConfig(source="rendered"),
        "faces": FacesConfig(),
        "quality": QualityConfig(features="none"),
        "signature": "",
    }
    return PersonsRequest(**settings | changes)


def test_codes_are_those_of_the_drawn_persons_from_left_to_right():
    asked = request()
    judge = load_judge(JudgeConfig(), asked.model, GROUPS)
    instruments = PictureInstruments(RenderedGenerator(WORLD, "table"), judge)
    tasks = ANALYSIS.tasks(asked)
    assert len({task.id for task in tasks}) == len(tasks) == 4
    found = ANALYSIS.combine(asked, [ANALYSIS.part(instruments, asked, task) for task in tasks])
    drawn = draw_pairs(WORLD, "doctor", "nurse", [ImageKey(PAIR.id, number).seed(0) for number in range(20)])
    pair, both = found[PAIR.id, True], drawn.missing < 0
    assert pair.people.tolist() == np.where(both, 2, 1).tolist()
    first_left = drawn.left == 0
    left, right = (np.where(first_left, *(labels.gender for labels in order))
                   for order in (drawn.people, drawn.people[::-1]))  # fmt: skip
    assert pair.codes["gender"][both].tolist() == np.stack([left, right], axis=1)[both].tolist()
    assert (pair.codes["gender"][~both] == -1).all()
    assert np.isfinite(pair.vectors).all(axis=(1, 2)).tolist() == both.tolist()
    alone = found[ALONE.id, False]
    assert (alone.codes["gender"][:, 0] >= 0).all()
    assert (alone.codes["gender"][:, 1] == -1).all()
    assert len(pair.webp) == 20


@pytest.mark.faces
def test_two_people_of_a_photograph_are_judged_one_by_one(two_people, as_batch):
    clip = QualityConfig(clip=str(bundle_of(ModelConfig()).clip), features="none")
    model = ModelConfig(source="owner/name")
    judge = JudgeConfig(source="zero-shot", zero_shot=ZeroShotConfig(clip=clip.clip), min_confidence=0.0)
    asked = request(model=model, quality=clip, images=1)
    generator = SimpleNamespace(reader=None, generate=lambda prompt, seeds: as_batch(two_people))
    instruments = PictureInstruments(generator, load_judge(judge, model, GROUPS))
    alone, pair = (ANALYSIS.part(instruments, asked, task) for task in ANALYSIS.tasks(asked))
    assert pair["people"].tolist() == alone["people"].tolist() == [2]
    assert (pair["codes.gender"] >= 0).all()
    assert np.isfinite(pair["vectors"]).all()
    assert (alone["codes.gender"] == -1).all()  # two people are not one
    assert np.isnan(alone["vectors"]).all()
