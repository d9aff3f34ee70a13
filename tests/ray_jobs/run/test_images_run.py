"""An audit of pictures on disk gives the figures of the model that drew them, and says what it measured."""

import csv
import json

import pyarrow.parquet as pq
import pytest
from PIL import Image

from audit.calibration.bundle import world_table
from audit.calibration.renderer import render
from audit.calibration.world import World, draw_labels, face_noise
from audit.config.errors import ConfigErrors
from audit.config.file import read_config
from audit.planning.plan import prompts_of_model
from audit.preflight.readiness import check_ready
from audit.records.work import ImageKey
from audit.results.comparison.compare import compare
from audit.storage.run_directory import AUDIT, PROVENANCE, REPORT, RESULTS, SUMMARY, RunDirectory
from ray_jobs.run.audit import plan, run_audit

pytestmark = pytest.mark.usefixtures("in_this_process")

GATES = [{"name": "even", "measure": "fairness_discrepancy", "attribute": "gender", "max": 0.3}]


@pytest.fixture
def drawn(audit, cluster, tmp_path):
    """The audit of the renderer, and a manifest of the same drawings with their seeds, stored as PNG."""
    rendered = audit(gates=GATES)
    world, rows = World.load(world_table(rendered.model)), [("path", "prompt", "occupation", "seed")]
    for prompt in prompts_of_model(rendered.model, rendered.prompts):
        seeds = [ImageKey(prompt.id, index).seed(rendered.seed) for index in range(10)]
        noise = face_noise(seeds)
        for seed, image in zip(seeds, render(draw_labels(world, prompt.occupation, noise), noise).images, strict=True):
            name = f"{prompt.id}-{seed}.png"
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / name)
            rows.append((name, prompt.text, prompt.occupation, seed))
    with (tmp_path / "pictures.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return rendered, tmp_path / "pictures.csv"


def of_pictures(audit, rendered, **model):
    keys = {"source": "images", "drawings": True, "world": rendered.model.world, **model}
    return audit(model=keys, prompts={}, gates=GATES, name="pictures")


def test_the_pictures_of_a_model_give_its_figures_and_compare_in_pairs(audit, drawn):
    rendered, manifest = drawn
    first, second = run_audit(rendered), run_audit(of_pictures(audit, rendered, manifest=str(manifest)))
    tables = [pq.read_table(outcome.run_path / RESULTS) for outcome in (first, second)]
    for name in ("prompt_id", "index", "seed", "status"):
        assert tables[0][name].to_pylist() == tables[1][name].to_pylist()
    figures = [
        [(row.prompt_id, row.attribute, row.shares, row.fairness_discrepancy) for row in outcome.result.results]
        for outcome in (first, second)
    ]
    assert figures[0] == figures[1]
    assert first.result.verdicts == second.result.verdicts
    found = compare(RunDirectory(first.run_path), RunDirectory(second.run_path))
    assert found.cells
    assert all(cell.paired for cell in found.cells)


def test_the_report_says_what_was_audited_and_a_second_run_measures_nothing_again(audit, drawn):
    rendered, manifest = drawn
    config = of_pictures(audit, rendered, manifest=str(manifest))
    outcome = run_audit(config)
    digest = json.loads((outcome.run_path / PROVENANCE).read_text())["model_fingerprint"]
    said = f"20 pictures of the manifest pictures.csv, {digest[:19]}"
    for name in (REPORT, SUMMARY):
        text = (outcome.run_path / name).read_text(encoding="utf-8").replace("&#58;", ":").replace("\\", "")
        assert said in text, name
    assert "Sampler" in (outcome.run_path / REPORT).read_text(encoding="utf-8")
    sampling = json.loads((outcome.run_path / AUDIT).read_text())["provenance"]["sampling"]
    assert (sampling["pictures"], sampling["known_seeds"], sampling["known_texts"]) == (20, 20, 2)
    times = {file: file.stat().st_mtime_ns for file in (outcome.run_path / "shards").iterdir()}
    assert run_audit(config).run_path == outcome.run_path
    assert times == {file: file.stat().st_mtime_ns for file in (outcome.run_path / "shards").iterdir()}
    next(manifest.parent.glob("doctor-*.png")).write_bytes(next(manifest.parent.glob("nurse-*.png")).read_bytes())
    assert run_audit(config).run_path != outcome.run_path  # other pictures are another audit


def test_pictures_of_several_sizes_and_numbers_are_audited_and_failed_ones_are_counted(audit, drawn, tmp_path):
    rendered, _ = drawn
    for name, count in (("doctor", 7), ("nurse", 4)):
        for index, path in enumerate(sorted(tmp_path.glob(f"{name}-*.png"))[:count]):
            place = tmp_path / "folder" / name / f"{index}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            image = Image.open(path)
            (image.resize((96, 80)) if index % 3 == 1 else image).save(place)
    Image.new("RGB", (64, 64)).save(tmp_path / "folder" / "nurse" / "blank.png")
    config = of_pictures(audit, rendered, folder=str(tmp_path / "folder"))
    config = config.model_copy(update={"workers": config.workers.model_copy(update={"error_budget": 0.5})})
    assert [len(shard.indices) for shard in plan(config)] == [4, 3, 4, 1]
    outcome = run_audit(config)
    rows = pq.read_table(outcome.run_path / RESULTS).to_pylist()
    assert [(row["prompt_id"], row["index"]) for row in rows] == [
        *(("doctor", index) for index in range(7)), *(("nurse", index) for index in range(5))
    ]  # fmt: skip
    assert [row["index"] for row in rows if row["status"] == "failed"] == [4]
    assert "5 to 7 images each" in (outcome.run_path / REPORT).read_text(encoding="utf-8")


REFUSED = """\
name: refused
model: {source: images, folder: FOLDER, revision: main, base: x}
prompts: {images_per_prompt: 5, attribution: true, occupations: [doctr]}
sampling: {steps: 10, guidance: 2}
lens: {hookpoint: up_blocks.1}
mitigations: [{name: edit, method: difflens, attribute: gender}]
"""


def test_what_needs_a_network_is_refused_with_the_reason_all_at_once(drawn, tmp_path):
    for name in ("doctor", "nurse"):
        (tmp_path / "folder" / name).mkdir(parents=True)
        next(tmp_path.glob(f"{name}-*.png")).rename(tmp_path / "folder" / name / "0.png")
    (tmp_path / "refused.yaml").write_text(REFUSED.replace("FOLDER", str(tmp_path / "folder")))
    with pytest.raises(ConfigErrors) as caught:
        read_config(tmp_path / "refused.yaml", (), [check_ready])
    said = "\n".join(f"{error.line} {error.where}: {error.message}" for error in caught.value.errors)
    for part in (
        "2 model.revision: expected no revision for 'images', which has no weights to load",
        "3 prompts.images_per_prompt: expected no images_per_prompt for 'images', which uses all pictures",
        "3 prompts.attribution: expected no attribution for 'images', which has no network to analyse",
        "3 prompts.occupations[0]: expected an occupation of the pictures (doctor, nurse), found 'doctr'",
        "4 sampling.steps: expected no sampling.steps for 'images', which is not sampled here",
        "4 sampling.guidance",
        "5 lens.hookpoint: expected no lens for 'images', which has no network to observe or edit",
        "6 mitigations[0]: expected no mitigation for 'images', which has no network to edit",
    ):
        assert part in said


@pytest.mark.parametrize(
    ("model", "part"),
    [
        ({"source": "images"}, "expected folder (a directory with a folder per prompt) or manifest"),
        ({"source": "images", "folder": "a", "manifest": "b"}, "expected folder or manifest, found both"),
        ({"source": "images", "folder": "a", "world": "b"}, "expected no world beside pictures"),
        ({"source": "calibration", "folder": "a"}, "expected no folder beside source: calibration"),
    ],
)
def test_keys_of_pictures_are_complete_and_belong_to_pictures(audit, model, part):
    with pytest.raises(ValueError, match="validation error") as caught:
        audit(model=model, prompts={})
    assert part in str(caught.value)
