"""What other commands would sample is counted as they sample it, for the sections that a config has."""

import subprocess
import sys
from pathlib import Path

import pytest

from audit.analyses.composed.persons import PersonsAnalysis
from audit.analyses.concepts.stored_recording import STAGES
from audit.config.settings import AuditConfig
from audit.config.slices import DissectionRequest
from audit.preflight.readiness import planned_commands
from ray_jobs.run.inside.compose import ComposeRequest

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
    assert found["compose"].summary == "difflens-audit compose samples 200 images more (10,000 U-Net calls)"
    assert works(compositions=PAIRS, model={"source": "rendered"})[1]["compose"].unet_calls == 0


def test_concepts_count_edits_strengths_and_prompts_that_ask_for_the_same():
    section = {
        "images": 6,
        "stages": {"images": 2, "calibration_images": 1, "strengths": [1.0, 2.0], "styles": ["ink"]},
    }
    _, found = works(concepts=section, attributes={"gender": ["female", "male"]})
    edits = len(STAGES) * (5 + 2 + 1)  # windows; parts of the bundled segmenter, groups, styles
    each = 1 * (1 + 2 * edits) + 2 * (1 + edits + 2 + 1)
    assert found["concepts"].images == 2 * (6 + each)
    assert works(concepts={"images": 6})[1]["concepts"].images == 12


def test_concepts_without_a_segmenter_have_no_count():
    assert works(concepts={"images": 6, "stages": {}}, model={"source": "owner/name"})[1] == {}


@pytest.mark.parametrize(
    ("section", "images", "at_most"),
    [
        ({"check_prompts": 1, "check_images": 5}, 5, False),
        ({"check_prompts": 0, "open_set": {"images": 64}}, 128, False),
        ({"check_prompts": 0, "open_set": {"images": 64, "vocabulary": "w.txt", "checked_words": 3}}, 128 + 96, True),
        ({"check_prompts": 0, "modifiers": ["poor"], "stress": {"images": 2, "guidance": [1.0, 4.0]}}, 32, False),
        ({"check_prompts": 0, "pictures": {"folder": "mine", "images": 8}}, 24, True),
    ],
)
def test_explore_counts_each_part(section, images, at_most):
    _, found = works(explore=section, attributes={"gender": ["female", "male"]})
    assert (found["explore"].images, found["explore"].at_most) == (images, at_most)


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
