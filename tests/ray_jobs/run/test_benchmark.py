"""A whole benchmark of two methods on the calibration model, interrupted once, and by its command."""

import json

import pytest
import yaml
from typer.testing import CliRunner

from audit.config.benchmark.read import read_benchmark
from audit.storage.run_directory import FIT_COSTS, SHARDS, RunDirectory
from ray_jobs.cli.commands import app
from ray_jobs.run import benchmark as module
from ray_jobs.run.benchmark import benchmark_id, fit_prompts, run_benchmark


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    directory = tmp_path_factory.mktemp("benchmark")
    plain = {
        "name": "tiny",
        "base": {
            "prompts": {"occupations": ["doctor", "nurse"], "images_per_prompt": 4},
            "sampling": {"steps": 4, "batch": 4},
            "report": {"images_per_prompt": 2},
            "tracking": {"enabled": False},
            "workers": {"count": 1},
            "output": str(directory / "runs"),
        },
        "methods": [
            {"name": "prompt", "method": "prompt"},
            {
                "name": "means", "method": "mean_difference", "images_per_group": 2,
                "settings": {"weak": {"strength": 0}, "full": {"window": [0.5, 1], "reverse_step": "asymmetric"}},
            },
        ],
        "held_out": ["judge"],
        "strips": 1,
    }  # fmt: skip
    path = directory / "tiny.yaml"
    path.write_text(yaml.safe_dump(plain, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def interrupted(config, cluster):
    """Run until the second audit begins, which is stopped as by Ctrl-C."""
    asked, started = read_benchmark(config), []

    def stop(audit, **options):
        started.append(audit.name)
        if len(started) == 2:
            raise KeyboardInterrupt
        return run(audit, **options)

    with pytest.MonkeyPatch.context() as patch:
        run = module.run_audit
        patch.setattr(module, "run_audit", stop)
        with pytest.raises(KeyboardInterrupt):
            run_benchmark(asked)
    return asked


@pytest.fixture(scope="module")
def page_when_stopped(interrupted):
    return next((output(interrupted) / "benchmarks").rglob("benchmark.html")).read_text()


@pytest.fixture(scope="module")
def finished(config, interrupted, page_when_stopped):
    before = {path: path.stat().st_mtime_ns for path in output(interrupted).glob(f"*/{SHARDS}/*.parquet")}
    answer = CliRunner().invoke(app, ["benchmark", str(config), "--json"])
    assert answer.exit_code == 0, answer.output
    return json.loads(answer.stdout), before


def output(asked):
    return module.place_of(asked.output)


def test_a_stopped_benchmark_leaves_a_page_of_what_is_finished(page_when_stopped):
    assert "Not finished: calibration, gender, held-out prompts." in page_when_stopped
    assert "means-full" in page_when_stopped


def test_run_again_it_continues(finished):
    _, before = finished
    assert len(before) == 2
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_every_method_has_a_row_for_seen_and_for_held_out_prompts(finished):
    found, _ = finished
    assert [(row["arm"], row["held_out"], row["prompts"]) for row in found["rows"]] == [
        ("prompt", False, 2), ("means-weak", False, 2), ("means-full", False, 2),
        ("prompt", True, 1), ("means-weak", True, 1), ("means-full", True, 1),
    ]  # fmt: skip
    assert len(found["runs"]) == 2


def test_an_edit_without_strength_changes_nothing(finished):
    for row in finished[0]["rows"]:
        if row["arm"] == "means-weak":
            assert (row["flips"], row["shift"], row["after"]) == (0, 0, row["before"])
            assert row["clip_i"] == pytest.approx(1)


def test_costs_are_those_of_the_plan_and_of_the_fit(finished):
    prompt, _, full = finished[0]["rows"][:3]
    assert (prompt["calls"], full["calls"]) == (1.0, 1.5)
    assert (prompt["fit_images"], prompt["fit_seconds"]) == (0, None)
    assert full["fit_images"] == 2 * 2 * 2
    assert full["fit_seconds"] > 0


def test_held_out_prompts_use_the_fits_of_the_others(finished, interrupted):
    seen, held_out = (RunDirectory(output(interrupted) / run) for run in finished[0]["runs"])
    assert seen.read_json(FIT_COSTS) == held_out.read_json(FIT_COSTS)
    assert len(list((output(interrupted) / "fits").iterdir())) == 1
    assert fit_prompts(interrupted, interrupted.audits[1]) == interrupted.audits[0].config.prompts


def test_the_page_is_finished(finished):
    page = module.place_of(finished[0]["page"]).read_text()
    assert "Not finished" not in page
    assert "held-out prompts" in page
    assert page.count("data:image/webp") == 4 * 2


def test_the_name_follows_what_decides_the_result(config, interrupted):
    other = read_benchmark(config, ["methods.1.settings.full.strength=2"])
    same = read_benchmark(config, ["base.report.images_per_prompt=1"])
    assert benchmark_id(other) != benchmark_id(interrupted) == benchmark_id(same)


def test_the_forecast_counts_every_audit_and_starts_nothing(config, tmp_path):
    answer = CliRunner().invoke(app, ["benchmark", str(config), "--plan", "--json", "--output", str(tmp_path / "new")])
    first, second = json.loads(answer.stdout)["audits"]
    assert (first["images"], second["images"]) == (2 * 4 * 4, 4 * 4)
    assert (first["fit_images"], second["fit_images"]) == (16, 0)
    assert not (tmp_path / "new").exists()


def test_a_mistake_is_an_error_with_its_line_and_exit_code_2(config):
    answer = CliRunner().invoke(app, ["benchmark", str(config), "--set", "methods.0.method=promt"])
    assert answer.exit_code == 2
    assert "did you mean 'prompt'?" in answer.output
    missing = CliRunner().invoke(app, ["benchmark", str(config.parent / "none.yaml")])
    assert missing.exit_code == 2
    assert "Traceback" not in missing.output
