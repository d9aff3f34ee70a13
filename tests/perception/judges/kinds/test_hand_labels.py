"""Labels by hand as a judge: looked up by name, an unlabelled image is in no group, and errors have their lines."""

import numpy as np
import pytest
import torch

from audit.config.sections import JudgeConfig, ModelConfig
from audit.config.settings import AuditConfig
from audit.models.files.untrusted_model import UnfitModelError
from audit.perception.judges.kinds.hand_labels import HandLabels, Labels
from audit.perception.judges.label_rows import LabelErrors
from audit.perception.judges.label_table import image_name, key_name, read_label_table
from audit.perception.judges.registry import answers_of, judge_name, kind_of, load_judge
from audit.preflight.readiness import check_ready
from audit.records.work import Status

GROUPS = {"gender": ("female", "male"), "age": ("young", "old")}
MODEL = ModelConfig(source="x")

TABLE = """prompt_id,index,attribute,group,arm
nurse,0,gender,female,baseline
nurse,0,age,old,baseline
nurse,1,gender,male,baseline
nurse,2,gender,male,baseline
nurse,2,age,adult,baseline
nurse,0,gender,male,edited
nurse,0,age,old,edited
"""


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text(TABLE)
    return path


def test_labels_are_looked_up_and_never_dealt_to_other_groups(table):
    judge = load_judge(JudgeConfig(source=str(table)), MODEL, GROUPS)
    names = [
        key_name("nurse", 0),
        key_name("nurse", 1),
        key_name("nurse", 2),
        key_name("nurse", 3),
        key_name("nurse", 0, "edited"),
    ]
    seen = judge.perceive_named(names)
    unlabelled = [Status.UNLABELLED if i in (1, 3) else Status.CLASSIFIED for i in range(5)]
    assert seen.statuses == unlabelled
    assert seen.codes("gender").tolist() == [0, -1, 1, -1, 1]
    assert seen.codes("age").tolist() == [1, -1, -1, -1, 1]
    assert seen.lies_outside("age").tolist() == [False, False, True, False, False]
    assert seen.probabilities["age"][2].sum() == 0
    assert np.isin(seen.probabilities["gender"], (0, 1)).all()
    assert seen.prompt_shown is None


def test_paths_and_keys_name_the_same_pictures(tmp_path):
    assert image_name("images/nurse/00003-baseline.webp") == key_name("nurse", 3) == "nurse/00003-baseline.webp"
    assert image_name("./nurse/00003-baseline.webp") == key_name("nurse", 3)
    assert image_name("images/other.png") == "images/other.png"
    (tmp_path / "paths.csv").write_text("image,attribute,group\nimages/nurse/00000-baseline.webp,gender,female\n")
    seen = HandLabels(tmp_path / "paths.csv", {"gender": ("female", "male")}).perceive_named([key_name("nurse", 0)])
    assert seen.codes("gender").tolist() == [0]


def test_pixels_have_no_label(table):
    with pytest.raises(UnfitModelError, match="labels by hand are known only for the named images of an audit"):
        HandLabels(table, GROUPS).perceive(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "")


def test_every_error_of_a_table_has_its_line(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text(
        "prompt_id,index,attribute,group\nnurse,x,gender,female\nnurse,1,gender\nnurse,2,age,old\nnurse,2,age,young\n"
    )
    with pytest.raises(LabelErrors) as caught:
        read_label_table(path)
    assert [error.line for error in caught.value.errors] == [2, 3, 5]
    assert "expected one label of age for 'nurse/00002-baseline.webp', found a second; the first is in line 4" in str(
        caught.value
    )
    path.write_text("image,attribute,truth\na.png,gender,female\n")
    with pytest.raises(
        LabelErrors, match="expected a header with image,attribute,group or prompt_id,index,attribute,group"
    ):
        read_label_table(path)


def test_a_judge_of_labels_knows_what_the_table_and_the_config_name(table):
    judge = JudgeConfig(source=str(table))
    assert isinstance(kind_of(judge), Labels)
    known = answers_of(judge, MODEL, {"gender": ("female", "male", "other")})
    assert known == {"gender": ("female", "male", "other"), "age": ("old", "adult")}
    name = judge_name(judge, MODEL)
    table.write_text(TABLE.replace("edited", "mended"))
    assert judge_name(judge, MODEL) != name
    with pytest.raises(UnfitModelError, match="the table of labels cannot judge 'race'"):
        load_judge(judge, MODEL, {"race": ("a", "b")})


def found(config):
    return {".".join(map(str, p.location)): p.message for p in check_ready(AuditConfig.model_validate(config))}


def test_validate_refuses_a_table_with_errors_and_a_lens_from_labels(table, tmp_path):
    plain = {"name": "audit", "attributes": {"gender": ["female", "male"]}, "judge": {"source": str(table)}}
    plain |= {"prompts": {"occupations": ["nurse"], "attribution": False}, "second_opinions": []}
    assert found(plain) == {}
    edits = {"mitigations": [{"name": "edit", "attribute": "gender"}]}
    assert "a lens is made from images without labels by hand" in found(plain | edits)["judge.source"]
    (tmp_path / "empty.csv").write_text("image,attribute,group\n")
    (message,) = found(plain | {"judge": {"source": str(tmp_path / "empty.csv")}}).values()
    assert "empty.csv:1:1: expected labels below the header" in message
    (message,) = found(plain | {"judge": {"source": str(tmp_path / "none.csv")}}).values()
    assert "expected a readable CSV file, found none" in message
    groups = {"attributes": {"gender": ["woman", "man"]}}
    assert "found only female, male" in found(plain | groups)["judge.source"]
