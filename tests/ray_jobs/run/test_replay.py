"""A run is made again to identical rows; one changed weight, package or seed is named, and that alone."""

import json
import shutil

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file
from torchvision.models import squeezenet1_1
from typer.testing import CliRunner

from audit.config.settings import AuditConfig
from audit.models import source
from audit.storage.run_directory import AUDIT, CONFIG, PROVENANCE, RESULTS
from benchmarks.tiny_models import save_tiny_pipeline
from ray_jobs.cli.commands import app
from ray_jobs.run.audit import run_audit
from ray_jobs.run.exit_codes import ExitCode

pytestmark = pytest.mark.usefixtures("cluster")


def call(*arguments):
    return CliRunner().invoke(app, ["replay", *map(str, arguments), "--workers", "1"])


def made_again(run, to, *arguments, code=ExitCode.PASS):
    answer = call(run, "--to", to, "--json", *arguments)
    assert answer.exit_code == code, answer.output
    data = json.loads(answer.stdout)
    assert data["exit_code"] == code
    return data


def words(data, *kinds):
    return [fact["words"] for fact in data["facts"] if not kinds or fact["kind"] in kinds]


def edit(file, **changes):
    data = json.loads(file.read_text())
    file.write_text(json.dumps(data | changes))


@pytest.fixture(scope="module")
def drawn(make_audit, cluster, tmp_path_factory):
    """A finished audit of the renderer, which other tests copy and do not change."""
    return run_audit(make_audit(tmp_path_factory.mktemp("drawn"))).run_path


@pytest.fixture(scope="module")
def sampled(cluster, tmp_path_factory):
    """A finished audit of a tiny pipeline with an edit that is fitted, and the pipeline's directory."""
    place = tmp_path_factory.mktemp("sampled")
    model = save_tiny_pipeline(place / "model")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(squeezenet1_1(num_classes=2).state_dict(), place / "judge.safetensors")
    edit = {"name": "mean", "method": "mean_difference", "attribute": "gender", "images_per_group": 1}
    config = AuditConfig.model_validate(
        {
            "name": "tiny",
            "model": {"source": str(model)},
            "prompts": {"occupations": ["doctor", "nurse"], "images_per_prompt": 4},
            "sampling": {"steps": 2, "batch": 2, "guidance": 3.0},
            "attributes": {"gender": ["female", "male"]},
            "judge": {
                "source": str(place / "judge.safetensors"),
                "min_confidence": 0.0,
                "classifier": {
                    "architecture": "torchvision/squeezenet1_1",
                    "outputs": ["woman", "man"],
                    "groups": {"gender": {"female": ["woman"], "male": ["man"]}},
                },
            },
            "mitigations": [edit | {"hookpoints": ["mid_block"]}],
            "quality": {"clip": "none", "features": "none"},
            "tracking": {"enabled": False},
            "workers": {"count": 1},
            "output": str(place / "runs"),
        }
    )
    return run_audit(config).run_path, model


@pytest.fixture
def copy(drawn, tmp_path):
    """A copy of the finished audit, to be changed."""
    return shutil.copytree(drawn, tmp_path / "runs" / drawn.name)


def test_a_run_records_what_decides_its_rows(sampled):
    run, _ = sampled
    provenance = json.loads((run / AUDIT).read_text())["provenance"]
    assert {"unet", "vae", "text_encoder", "tokenizer", "scheduler", "model_index.json"} <= set(
        provenance["model_parts"]
    )
    assert list(provenance["files"]) == ["judge.source"]
    assert {"torch", "diffusers", "transformers", "numpy", "pillow", "open_clip_torch", "timm", "scipy"} <= set(
        provenance["versions"]
    )
    [compute] = provenance["compute"].values()
    assert set(compute) == {"device", "processor", "instructions"}
    assert provenance["prepared"]["fits"]["mean"]["content"].startswith("sha256:")
    assert provenance["code"].startswith("sha256:")


def test_a_sampled_run_with_a_fit_is_made_again_to_identical_rows_and_from_nothing_of_the_first(sampled, tmp_path):
    run, _ = sampled
    assert list((run.parent / "baselines").glob("*.safetensors"))  # the first run keeps its baseline images
    data = made_again(run, tmp_path / "replays")
    assert (data["verdict"], data["facts"], data["not_recorded"]) == ("identical", [], [])
    assert data["rows"] == {
        "total": 16, "identical": 16, "within": 0, "different": 0, "missing": 0, "extra": 0, "relabelled": 0,
    }  # fmt: skip
    place = tmp_path / "replays" / f"{run.name}-replay"
    assert (place / RESULTS).read_bytes() == (run / RESULTS).read_bytes()
    assert not (tmp_path / "replays" / "baselines").exists()
    assert [one.name for one in (tmp_path / "replays" / "fits").iterdir()] == [
        one.name for one in (run.parent / "fits").iterdir()
    ]
    assert len((place / "replay.csv").read_text().splitlines()) == 17


def test_one_changed_tensor_of_one_part_is_named_and_that_alone(sampled, tmp_path, caplog):
    run, model = sampled
    moved = shutil.copytree(model, tmp_path / "model")
    weights = moved / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    name = next(iter(tensors))
    save_file({**tensors, name: tensors[name] + 0.5}, weights, metadata={"format": "pt"})
    data = made_again(run, tmp_path / "replays", "--set", f"model.source={moved}", code=ExitCode.GATE_FAILED)
    assert data["verdict"] == "different"
    inputs = [fact["name"] for fact in data["facts"] if fact["kind"] == "input"]
    assert inputs == ["model.source", "unet of the model"]
    assert "Differs here: unet of the model: sha256" in caplog.text
    assert data["tolerances"] is None
    assert "unet of the model: sha256" in data["reason"]


def test_a_weight_that_is_changed_in_its_place_is_named_and_that_alone(sampled, tmp_path):
    run, model = sampled
    weights = model / "vae" / "diffusion_pytorch_model.safetensors"
    before, tensors = weights.read_bytes(), load_file(weights)
    name = next(name for name in tensors if name.startswith("decoder"))
    caches = (source._directory_fingerprint, source._directory_parts)
    try:
        save_file({**tensors, name: tensors[name] + 0.5}, weights, metadata={"format": "pt"})
        for cache in caches:  # a new process has none
            cache.cache_clear()
        data = made_again(run, tmp_path / "replays", code=ExitCode.GATE_FAILED)
    finally:
        weights.write_bytes(before)
        for cache in caches:
            cache.cache_clear()
    assert [fact["name"] for fact in data["facts"] if fact["kind"] != "made"] == ["vae of the model"]


def test_one_part_of_a_run_has_the_fits_and_the_rows_of_the_whole(sampled, tmp_path):
    run, _ = sampled
    data = made_again(run, tmp_path / "first", "--prompts", 1)
    assert (data["verdict"], data["rows"]["total"], data["facts"]) == ("identical", 8, [])
    assert data["part"] == "the first 1 of 2 prompts"
    data = made_again(run, tmp_path / "second", "--sample", 0.4)
    assert (data["verdict"], data["rows"]["total"], data["facts"]) == ("identical", 8, [])
    assert data["part"] == "the first 2 of 4 images of each prompt"


def test_an_edited_version_is_named_and_that_alone(copy, tmp_path):
    provenance = json.loads((copy / PROVENANCE).read_text())
    edit(copy / PROVENANCE, versions=provenance["versions"] | {"torch": "2.0.0"})
    data = made_again(copy, tmp_path / "replays")
    assert words(data) == [f"torch {provenance['versions']['torch']} was 2.0.0"]
    assert data["verdict"] == "identical"


@pytest.mark.parametrize("by_option", [True, False])
def test_another_seed_is_named_and_that_alone(copy, tmp_path, by_option):
    if not by_option:
        edit(copy / CONFIG, seed=8)
    option = ["--set", "seed=8"] if by_option else []
    data = made_again(copy, tmp_path / "replays", *option, code=ExitCode.GATE_FAILED)
    assert words(data) == ["seed 8 was 7"]
    assert (data["verdict"], data["rows"]["different"]) == ("different", 20)
    assert data["reason"] == "Explained by: seed 8 was 7."


def test_a_changed_row_is_named_although_no_fact_differs(copy, tmp_path):
    table = pq.read_table(copy / RESULTS)
    statuses = ["no_face", *table["status"].to_pylist()[1:]]
    pq.write_table(table.set_column(table.schema.names.index("status"), "status", [statuses]), copy / RESULTS)
    data = made_again(copy, tmp_path / "replays", code=ExitCode.GATE_FAILED)
    [row] = data["changed_rows"]
    assert (row["prompt_id"], row["index"], row["columns"], row["relabelled"]) == ("doctor", 0, "status", True)
    assert data["reason"].startswith("No recorded fact differs")


def test_a_run_of_an_older_release_is_made_again_and_what_it_lacks_is_said(copy, tmp_path):
    newer = ("code", "compute", "files", "model_parts", "prepared")
    for name in (AUDIT, PROVENANCE):
        data = json.loads((copy / name).read_text())
        provenance = data["provenance"] if name == AUDIT else data
        for key in newer:
            provenance.pop(key, None)
        provenance["versions"].pop("pillow")
        (copy / name).write_text(json.dumps(data))
    data = made_again(copy, tmp_path / "replays")
    assert (data["verdict"], data["facts"]) == ("identical", [])
    assert {"pillow", "code of the package audit", "hardware of the workers"} <= set(data["not_recorded"])


def test_the_terminal_shows_facts_rows_and_verdict(copy, tmp_path):
    answer = call(copy, "--to", tmp_path / "replays", "--set", "seed=8")
    assert answer.exit_code == ExitCode.GATE_FAILED
    for text in ("Facts that differ (1)", "  seed 8 was 7", "Verdict: different. Explained by: seed 8 was 7."):
        assert text in answer.stdout
    again = call(copy, "--to", tmp_path / "replays")
    assert again.exit_code == ExitCode.USAGE
    assert "expected no finished replay, found one" in again.stderr


def halved(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def without_shards(run):
    data = json.loads((run / AUDIT).read_text())
    data["provenance"]["unfinished_shards"] = ["nurse-0002"]
    (run / AUDIT).write_text(json.dumps(data))


def of_an_endpoint(run):
    data = json.loads((run / AUDIT).read_text())
    data["config"]["model"]["source"] = "api"
    (run / AUDIT).write_text(json.dumps(data))


def without_its_world(run):
    data = json.loads((run / CONFIG).read_text())
    edit(run / CONFIG, model=data["model"] | {"world": str(run / "gone")})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: (run / AUDIT).unlink(), "expected a finished run, found no audit.json"),
        (lambda run: (run / RESULTS).unlink(), "expected a finished run, found no results.parquet"),
        (lambda run: (run / PROVENANCE).unlink(), "expected a finished run, found no provenance.json"),
        (lambda run: shutil.rmtree(run), "found no config.json and no provenance.json and no audit.json"),
        (lambda run: halved(run / AUDIT), "found invalid JSON"),
        (lambda run: halved(run / CONFIG), "config.json: expected a file written by an audit, found invalid JSON"),
        (lambda run: halved(run / PROVENANCE), "found invalid JSON"),
        (lambda run: halved(run / RESULTS), "expected a Parquet file, found something else"),
        (lambda run: edit(run / AUDIT, provenance=[]), "expected names and values under provenance"),
        (lambda run: edit(run / AUDIT, config={}), "expected the groups of each attribute and the model"),
        (without_shards, "found one without 1 of its shards (nurse-0002"),
        (of_an_endpoint, "found pictures of a hosted endpoint"),
        (without_its_world, "model.world"),
    ],
)
def test_a_run_that_cannot_be_made_again_is_refused_in_words(copy, tmp_path, damage, message):
    damage(copy)
    answer = call(copy, "--to", tmp_path / "replays")
    assert answer.exit_code == ExitCode.USAGE, answer.output
    assert message in answer.stderr
    assert "Traceback" not in answer.output
    assert not (tmp_path / "replays").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prompts", 2], "expected fewer than the 2 prompts of the run, found 2"),
        (["--prompts", 1, "--sample", 0.5], "found both options"),
        (["--sample", 0], "found 0"),
        (["--set", "sampling.batch=0"], "sampling.batch"),
    ],
)
def test_a_mistake_in_an_option_is_refused_in_words(drawn, tmp_path, arguments, message):
    answer = call(drawn, "--to", tmp_path / "replays", *arguments)
    assert answer.exit_code == ExitCode.USAGE
    assert message in " ".join(answer.stderr.split())


def test_a_replay_beside_the_first_run_is_refused(drawn):
    answer = call(drawn, "--to", drawn.parent)
    assert answer.exit_code == ExitCode.USAGE
    assert "expected another directory than that of the first run" in answer.stderr
