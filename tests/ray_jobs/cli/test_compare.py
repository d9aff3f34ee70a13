"""Tests ``compare``: the exit code for scripts, and the printed changes."""

import json

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from audit.records.attributes import Attribute
from audit.storage.rows import results_schema
from audit.storage.run_directory import AUDIT, RunDirectory
from ray_jobs.cli.commands import app
from ray_jobs.cli.comparison_table import LINES_SHOWN
from ray_jobs.run.exit_codes import ExitCode

GROUPS = {"gender": ["female", "male"]}


def call(*arguments):
    return CliRunner().invoke(app, ["compare", *(str(argument) for argument in arguments)])


@pytest.fixture
def write(tmp_path):
    def write(name, females, prompts=("chef", "nurse"), judge="judge:a", steps=25, version=2):
        rows = [
            {
                "arm": "baseline", "prompt_id": prompt, "index": index, "seed": index, "status": "classified",
                "p_gender_female": float(index < females), "p_gender_male": float(index >= females),
            }
            for prompt in prompts
            for index in range(40)
        ]  # fmt: skip
        run = RunDirectory(tmp_path / name)
        attributes = [Attribute("gender", tuple(GROUPS["gender"]))]
        run.write_results(pa.Table.from_pylist(rows, schema=results_schema(attributes)))
        made = {"model_fingerprint": "sha256:1", "instruments": {"judge": judge}, "versions": {"torch": "2"}}
        config = {"attributes": GROUPS, "sampling": {"steps": steps}}
        run.write_json(AUDIT, {"schema_version": version, "run_id": name, "config": config, "provenance": made})
        return run.path

    return write


def test_only_a_worse_run_fails_and_only_if_requested(write):
    even, skewed = write("even", 20), write("skewed", 38)
    assert call(even, skewed).exit_code == ExitCode.PASS
    assert call(even, skewed, "--fail-on", "worse").exit_code == ExitCode.GATE_FAILED
    assert call(skewed, even, "--fail-on", "worse").exit_code == ExitCode.PASS
    assert call(even, even, "--fail-on", "worse").exit_code == ExitCode.PASS


def test_the_lines_list_inputs_first_and_every_change_with_its_interval(write):
    answer = call(write("first", 20), write("second", 38, judge="judge:b", steps=50))
    lines = answer.stdout.splitlines()
    assert lines[:9] == [
        "first → second",
        "",
        "Changed inputs (1)",
        "  instruments.judge: judge:a → judge:b",
        "Changed config (1)",
        "  sampling.steps: 25 → 50",
        "  instruments.judge, sampling.steps: the runs have different conditions, so the changes below may not be due "
        "to the model.",
        "",
        "9 figures compared by pairs of images; of the changes listed, at most 5\xa0% are expected to be false.",
    ]
    worse = lines[lines.index("Further from the target, or more without a group (3)") + 1 :][:3]
    assert any(line.startswith("  chef · baseline · gender: squared discrepancy -0.013 → 0.4") for line in worse)
    assert any("female 50\xa0% → 95\xa0%, +45 [" in line for line in lines)
    assert "New findings (2)" in lines


def test_a_run_with_mean_probabilities_is_counted_like_the_other_one_with_a_note(write):
    note = "first stores fairness discrepancies of mean probabilities (schema version 2 or older)."
    older, newer = write("first", 20), write("second", 20, version=3)
    assert note in call(older, newer).stdout
    assert note in call(newer, older).stdout
    assert "mean probabilities" not in call(newer, newer).stdout + call(older, older).stdout


@pytest.mark.parametrize("other", [{"judge": "judge:b"}, {"steps": 50}])
def test_nothing_is_judged_better_or_worse_across_two_conditions(write, other):
    """A model does not improve because of another guidance or another judge."""
    for females in ((20, 38), (38, 20)):
        printed = call(write("first", females[0]), write("second", females[1], **other)).stdout
        assert not {"Better", "Worse"} & set(printed.split())
        assert f"{'Further from' if females[0] == 20 else 'Nearer to'} the target" in printed
    assert "Better (3)" in call(write("first", 38), write("second", 20)).stdout


def test_without_a_change_it_reports_no_change_by_more_than_chance(write):
    even = write("even", 20)
    printed = call(even, even).stdout
    assert "No figure changed by more than chance." in printed
    assert "Same inputs" in printed
    assert "Worse" not in printed


def test_json_is_flat_and_repeats_the_exit_code(write):
    answer = call(write("first", 20), write("second", 38), "--json", "--fail-on", "worse")
    data = json.loads(answer.stdout)
    assert (data["runs"], data["exit_code"], data["worse"], data["same_config"]) == (["first", "second"], 1, 3, True)
    cell = next(cell for cell in data["cells"] if cell["figure"] == "share" and cell["group"] == "female")
    assert (cell["prompt_id"], cell["arm"], cell["first"], cell["second"]) == ("chef", "baseline", 0.5, 0.95)
    assert cell["change"]["low"] < 0.45 < cell["change"]["high"]
    assert {finding["kind"] for finding in data["findings"]} == {"new"}


def test_a_long_list_is_cut_with_a_note_on_the_rest(write):
    prompts = [f"p{number}" for number in range(30)]
    printed = call(write("first", 20, prompts), write("second", 38, prompts)).stdout
    assert f"… and {31 - LINES_SHOWN} more (--json lists all)" in printed
    assert len(printed.splitlines()) < 80


def test_a_user_error_gives_one_line_and_code_2(write, tmp_path):
    good = write("good", 20)
    other = write("other", 20, prompts=("judge",))
    for arguments, message in (
        ((good, tmp_path / "absent"), "expected a finished run, found no audit.json and no results.parquet"),
        ((good, other), "have, found none"),
        ((good, good, "--fail-on", "better"), "'better'"),
    ):
        answer = call(*arguments)
        assert answer.exit_code == ExitCode.USAGE
        assert message in answer.stderr
        assert "Traceback" not in answer.output
