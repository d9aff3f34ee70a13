"""Audits of two models by the command, interrupted once; their comparison, status, and what later audits use again."""

import json

import pytest
import yaml
from typer.testing import CliRunner

from audit.config.models.read import read_audits
from audit.results.models.compare import MODELS, read_models
from audit.storage.place import place_of
from audit.storage.run_directory import MODEL_RUNS, SHARDS, TIMES, RunDirectory
from ray_jobs.cli.commands import app
from ray_jobs.run.models import audits as module
from ray_jobs.run.summary import NoImagesError


@pytest.fixture(scope="module")
def config(tmp_path_factory, untrained_world):
    directory = tmp_path_factory.mktemp("models")
    table = yaml.safe_load((untrained_world / "world.yaml").read_text())
    for occupation in table["occupations"].values():
        occupation["gender"] = {"female": 0.5, "male": 0.5}
        occupation.pop("together", None)
    (directory / "even.yaml").write_text(yaml.safe_dump(table))
    plain = {
        "name": "pair",
        "models": {
            "drawn": {"source": "rendered", "world": str(untrained_world)},
            "even": {"source": "rendered", "world": str(directory / "even.yaml")},
        },
        "prompts": {"occupations": ["doctor", "nurse"], "images_per_prompt": 6, "attribution": False},
        "sampling": {"batch": 6},
        "judge": {"min_confidence": 0.0},
        "quality": {"clip": "none", "features": "none"},
        "gates": [{"name": "strict", "measure": "fairness_discrepancy", "attribute": "gender", "max": 0.01}],
        "report": {"images_per_prompt": 1, "random_samples": 0},
        "tracking": {"enabled": False},
        "workers": {"count": 1},
        "output": str(directory / "runs"),
    }
    path = directory / "pair.yaml"
    path.write_text(yaml.safe_dump(plain, sort_keys=False))
    return path


def invoke(*words):
    return CliRunner().invoke(app, [*map(str, words)])


@pytest.fixture(scope="module")
def interrupted(config, cluster):
    """Stop as by Ctrl-C when the second model begins."""
    asked, started = read_audits(config), []

    def stop(audit, **options):
        started.append(audit.name)
        if len(started) == 2:
            raise KeyboardInterrupt
        return run(audit, **options)

    with pytest.MonkeyPatch.context() as patch:
        run = module.run_audit
        patch.setattr(module, "run_audit", stop)
        with pytest.raises(KeyboardInterrupt):
            module.run_models(asked)
    [place] = (place_of(asked.output) / "models").iterdir()
    return place, json.loads(invoke("status", place, "--json").stdout)


@pytest.fixture(scope="module")
def finished(config, interrupted):
    output = interrupted[0].parents[1]
    before = {path: path.stat().st_mtime_ns for path in output.glob(f"*/{SHARDS}/*.parquet")}
    answer = invoke("run", config, "--json")
    assert answer.exit_code in (1, 5), answer.output  # the strict gate cannot pass
    return json.loads(answer.stdout), before


def test_a_stopped_comparison_has_the_status_of_every_model(interrupted):
    place, status = interrupted
    assert status["models"]["drawn"]["progress"]["state"] == "done"
    assert status["models"]["even"] is None
    assert RunDirectory(place).read_json(MODEL_RUNS)["name"] == "pair"
    assert not (place / MODELS).exists()


def test_run_again_it_continues_and_compares(finished, interrupted):
    found, before = finished
    assert len(before) == 2
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert [model["name"] for model in found["models"]] == ["drawn", "even"]
    assert len(found["differences"]) == 3 + 2 * (1 + 3 + 4)
    assert found["page"] == str(interrupted[0] / "models.html")
    assert found["incomplete"] == []


def test_the_exit_code_is_that_of_the_worst_audit(finished):
    verdicts = {model["verdict"] for model in finished[0]["models"]}
    assert finished[0]["exit_code"] == (1 if "fail" in verdicts else 5)


def test_images_of_all_models_have_the_same_seeds(finished):
    runs = [RunDirectory(place_of(run["run_path"])) for run in finished[0]["runs"].values()]
    seeds = [run.read_results(["prompt_id", "index", "seed"]).to_pylist() for run in runs]
    assert seeds[0] == seeds[1]


def test_the_time_of_the_workers_is_kept_when_the_run_is_resumed(finished, config):
    runs = [RunDirectory(place_of(run["run_path"])) for run in finished[0]["runs"].values()]
    times = [run.read_json(TIMES) for run in runs]
    assert [time["images"] for time in times] == [12, 12]
    assert all(cost["seconds_per_image"] > 0 for cost in finished[0]["costs"])


def test_a_later_audit_of_one_model_finds_its_run_and_makes_no_shard(finished, config, tmp_path):
    plain = yaml.safe_load(config.read_text())
    single = {key: value for key, value in plain.items() if key not in ("models", "gates")}
    path = tmp_path / "single.yaml"
    path.write_text(yaml.safe_dump(single | {"name": "pair-drawn", "model": plain["models"]["drawn"]}))
    before = {file: file.stat().st_mtime_ns for file in place_of(plain["output"]).glob(f"*/{SHARDS}/*.parquet")}
    answer = invoke("run", path, "--json")
    assert answer.exit_code == 0, answer.output
    assert json.loads(answer.stdout)["run_path"] == finished[0]["runs"]["drawn"]["run_path"]
    assert {file: file.stat().st_mtime_ns for file in place_of(plain["output"]).glob(f"*/{SHARDS}/*.parquet")} == before


def test_finished_runs_are_compared_again_by_name(finished, tmp_path):
    runs = [run["run_path"] for run in finished[0]["runs"].values()]
    answer = invoke("compare", *runs, "--to", tmp_path / "again", "--json")
    assert answer.exit_code == 0, answer.output
    again = json.loads(answer.stdout)
    assert [d["difference"] for d in again["differences"]] == [d["difference"] for d in finished[0]["differences"]]
    assert (tmp_path / "again" / "models.html").is_file()


def test_the_others_are_compared_if_one_model_cannot_be_audited(finished, config, tmp_path, cluster):
    plain = yaml.safe_load(config.read_text())
    third = {"source": "rendered", "world": str(config.parent / "even.yaml"), "dtype": "float16"}
    models = {"broken": third} | plain["models"]
    path = tmp_path / "three.yaml"
    path.write_text(yaml.safe_dump(plain | {"name": "pair", "models": models}, sort_keys=False))
    asked = read_audits(path)

    def fail(audit, **options):
        if audit.name == "pair-broken":
            raise NoImagesError("no image could be classified")
        return run(audit, **options)

    with pytest.MonkeyPatch.context() as patch:
        run = module.run_audit
        patch.setattr(module, "run_audit", fail)
        with pytest.raises(NoImagesError):
            module.run_models(asked)
    places = (place_of(asked.output) / "models").iterdir()
    [stored] = [found for place in places if (found := read_models(RunDirectory(place))).waiting]
    assert stored.waiting == ("broken",)
    assert [model.name for model in stored.models] == ["drawn", "even"]
