"""What other commands would sample is counted as they sample it, for the sections that a config has."""

import subprocess
import sys
from pathlib import Path

import pytest

from audit.analyses.composed.persons import PersonsAnalysis
from audit.analyses.concepts.stored_recording import STAGES
from audit.analyses.stages.concepts import NOISES
from audit.config.settings import AuditConfig
from audit.config.slices import DissectionRequest
from audit.planning.plan import prompts_of_model
from audit.preflight.optional import command_work
from audit.preflight.readiness import planned_commands
from ray_jobs.run.inside.compose import ComposeRequest
from ray_jobs.run.inside.explore import ExploreRequest
from ray_jobs.run.inside.stress import LEAST_IMAGES

PAIRS = {"pairs": [["doctor", "nurse"], ["doctor", "chef"]], "images": 40}


def works(**sections):
    config = AuditConfig.model_validate({"name": "x", "prompts": {"occupations": ["doctor", "nurse"]}} | sections)
    return config, {one.command: one for one in planned_commands(config)}


def test_a_config_without_these_sections_has_no_other_work():
    assert works()[1] == {}
    assert works(compositions=PAIRS, model={"source": "images", "folder": "mine"}, prompts={})[1] == {}


def test_compose_samples_what_was_counted():
    config, found = works(compositions=PAIRS)
    dissection = DissectionRequest.of(config)
    request = ComposeRequest(config.name, config.compositions, dissection, config.quality, config.seed)
    sampled = sum(task.count for task in PersonsAnalysis().tasks(request.persons))
    assert sampled == found["compose"].images == 40 * 5
    assert found["compose"].unet_calls == 200 * config.sampling.steps * 2
    assert found["compose"].summary == "difflens-audit compose samples 200 images more (10,000 denoiser calls)"
    assert works(compositions=PAIRS, model={"source": "rendered"})[1]["compose"].unet_calls == 0


def test_concepts_count_edits_strengths_and_prompts_that_ask_for_the_same():
    section = {
        "images": 6,
        "stages": {"images": 2, "calibration_images": 1, "strengths": [1.0, 2.0], "styles": ["ink"]},
    }
    _, found = works(concepts=section, attributes={"gender": ["female", "male"]})
    edits = len(STAGES) * (5 + 2 + 1)  # windows; parts of the bundled segmenter, groups, styles
    each = 1 * (1 + 2 * edits) + 2 * (1 + edits + 2 + 1)
    made = NOISES * (2 + 1 + 1)  # groups, styles, the text without a style
    assert found["concepts"].images == made + 2 * (6 + each)
    assert works(concepts={"images": 6})[1]["concepts"].images == 12


def test_concepts_without_a_segmenter_count_what_is_known():
    section = {"images": 6, "stages": {"images": 2, "calibration_images": 1, "strengths": [1.0], "styles": ["ink"]}}
    attributes = {"gender": ["female", "male"]}
    _, found = works(concepts=section, model={"source": "owner/name"}, attributes=attributes)
    edits = len(STAGES) * (2 + 1)  # groups and the style; the parts are not known
    each = 1 * (1 + edits) + 2 * (1 + edits + 2 + 1)
    assert found["concepts"].images == NOISES * 4 + 2 * (6 + each)
    assert "samples at least" in found["concepts"].summary


def test_constants_are_those_of_the_analyses():
    assert len(STAGES) == command_work.WINDOWS
    assert NOISES == command_work.NOISES
    assert LEAST_IMAGES == command_work.LEAST_STRESS


def test_stress_at_another_guidance_costs_what_that_guidance_costs():
    section = {"check_prompts": 0, "stress": {"images": 4, "guidance": [1.0, 4.0]}}
    config, found = works(explore=section, sampling={"steps": 10, "guidance": 3.0})
    assert config.sampling.guidance > 1
    assert found["explore"].images == 2 * 4 * 3  # prompts; conditions: plain and two scales
    assert found["explore"].unet_calls == 10 * 2 * 4 * (2 + 1 + 2)


def test_stress_is_counted_as_it_is_run():
    """A word that is a modifier and a phrasing is two conditions."""
    stress = {"images": 4, "phrasings": ["{occupation}"], "guidance": [2.0]}
    section = {"check_prompts": 0, "modifiers": ["{occupation}", "poor"], "stress": stress}
    config, found = works(explore=section)
    prompts = tuple(prompts_of_model(config.model, config.prompts))
    explore = ExploreRequest("x", config.explore, DissectionRequest.of(config), prompts, 0)
    assert found["explore"].images == 4 * len(prompts) * len(explore.stress.conditions) == 4 * 2 * 5


@pytest.mark.parametrize(
    ("section", "images", "bound"),
    [
        ({"check_prompts": 1, "check_images": 5}, 5, ""),
        ({"check_prompts": 0, "open_set": {"images": 64}}, 128, ""),
        (
            {"check_prompts": 0, "open_set": {"images": 64, "vocabulary": "w.txt", "checked_words": 3}},
            128 + 96,
            "at most",
        ),
        ({"check_prompts": 0, "modifiers": ["poor"], "stress": {"images": 2, "guidance": [1.0, 4.0]}}, 32, ""),
        ({"check_prompts": 0, "pictures": {"folder": "mine", "images": 8}}, 24, "at most"),
    ],
)
def test_explore_counts_each_part(section, images, bound):
    _, found = works(explore=section, attributes={"gender": ["female", "male"]})
    assert (found["explore"].images, found["explore"].bound) == (images, bound)


@pytest.mark.parametrize("name", ["compositions", "rendered"])
def test_plan_shows_one_line_for_each_and_imports_no_torch(name):
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom ray_jobs.cli.commands import app\n"
        f"answer = CliRunner().invoke(app, ['plan', 'configs/{name}.yaml'])\n"
        "print(answer.output, answer.exit_code, 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3]
    )
    assert done.stdout.rstrip().endswith("0 False")
    assert ("Not in these figures: difflens-audit compose samples" in done.stdout) == (name == "compositions")
