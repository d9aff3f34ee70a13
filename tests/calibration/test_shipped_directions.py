"""One call of the denoiser ranks the calibration model's occupations as planted, with one seed as with sixteen."""

from dataclasses import replace

import pytest
from scipy import stats

from audit.analyses.analysis import Instruments
from audit.analyses.directions import DirectionsAnalysis
from audit.calibration.bundle import world_table
from audit.calibration.world import World
from audit.config.settings import AuditConfig
from audit.config.slices import DissectionRequest
from audit.models.generator import load_generator
from audit.planning.plan import prompts_of_model
from audit.results.exploration.scores import scores_of
from ray_jobs.run.inside.explore import ExploreRequest

ANALYSIS = DirectionsAnalysis()
LEAST = {"gender": 0.95, "age": 0.9, "skin_tone": 0.8}


@pytest.fixture(scope="module")
def request_and_generator():
    config = AuditConfig(name="a")
    prompts = prompts_of_model(config.model, config.prompts)
    request = ExploreRequest("a", config.explore, DissectionRequest.of(config), prompts, 0)
    return request, load_generator(config.model, config.sampling)


def correlations(request, generator, seeds):
    asked = replace(request.directions, seeds=seeds)
    parts = [ANALYSIS.part(Instruments(generator, None), asked, task) for task in ANALYSIS.tasks(asked)]
    scores = scores_of(ANALYSIS.combine(asked, parts), [(p.id, p.text) for p in request.prompts], 0.05)
    world = World.load(world_table(request.dissection.model))
    found = {}
    for attribute, groups in request.attributes.items():
        own = [score for score in scores if score.axis == attribute]
        shares = [world.share(score.prompt, attribute) for score in own]
        places = [sum(share[group] * place for place, group in enumerate(groups)) for share in shares]
        found[attribute] = stats.spearmanr([score.value for score in own], places).statistic
    return found


def test_sixteen_seeds_rank_occupations_as_planted(request_and_generator):
    found = correlations(*request_and_generator, 16)
    assert {name: rho >= LEAST[name] for name, rho in found.items()} == dict.fromkeys(LEAST, True), found


def test_one_seed_ranks_gender_as_planted(request_and_generator):
    assert correlations(*request_and_generator, 1)["gender"] >= LEAST["gender"]
