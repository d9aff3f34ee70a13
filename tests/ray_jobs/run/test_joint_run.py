"""An audit with a joint arm: its parts are fitted and searched, and the joint distribution reaches file and report."""

import json

import pytest

from audit.config.settings import AuditConfig
from audit.planning.fits import FIT_FILE, FITS
from audit.results.run_strengths import searched_of
from audit.storage.run_directory import REPORT, RunDirectory
from ray_jobs.run.audit import run_audit
from reports.export.audit_json import read_audit_json

PARTS = [
    {"method": "mean_difference", "attribute": "gender", "images_per_group": 1},
    {
        "method": "mean_difference", "attribute": "age", "images_per_group": 1, "hookpoints": ["up_blocks.0"],
        "strength": "search", "trial_images": 1,
    },
]  # fmt: skip


@pytest.fixture(scope="module")
def outcome(tmp_path_factory, cluster):
    return run_audit(
        AuditConfig(
            name="joint",
            prompts={"occupations": ["doctor"], "images_per_prompt": 6},
            sampling={"steps": 4, "batch": 6},
            mitigations=[{"name": "both", "method": "joint", "parts": PARTS}],
            second_opinions=[],
            tracking={"enabled": False},
            workers={"count": 1},
            output=str(tmp_path_factory.mktemp("joint") / "runs"),
        )
    )


def test_every_part_is_fitted_and_searched_under_its_own_name(outcome):
    assert outcome.complete
    fits = [json.loads((fit / FIT_FILE).read_text()) for fit in (outcome.run_path.parent / FITS).iterdir()]
    assert {fit["settings"]["attribute"] for fit in fits} == {"gender", "age"}
    assert {arm: set(found["doctor"]) for arm, found in searched_of(RunDirectory(outcome.run_path)).items()} == {
        "both.age": {"young", "adult", "old"}
    }


def test_each_image_is_steered_to_a_combination(outcome):
    run = RunDirectory(outcome.run_path)
    rows = [row for shard in run.finished() for row in run.read_shard(shard).to_pylist() if row["arm"] == "both"]
    assert len({(row["assigned_gender"], row["assigned_age"]) for row in rows}) == len(rows) == 6


def test_the_joint_distribution_is_in_the_result_and_reads_back_as_it_was(outcome):
    assert [(one.prompt_id, one.arm) for one in outcome.result.joint] == [
        (None, "baseline"), ("doctor", "baseline"), (None, "both"), ("doctor", "both"),
    ]  # fmt: skip
    assert read_audit_json(RunDirectory(outcome.run_path)).joint == outcome.result.joint
    whole = outcome.result.joint[2]
    assert [cell.target for cell in whole.cells] == pytest.approx([1 / 6] * 6)
    assert set(whole.shown) == {"gender", "age"}


def test_the_report_shows_it_and_counts_no_steered_attribute_as_a_side_effect(outcome):
    page = (outcome.run_path / REPORT).read_text()
    assert "Shares that images are steered to" in page
    assert "gender (edited)" in page
    assert "age (edited)" in page
    assert "skin tone (edited)" not in page
