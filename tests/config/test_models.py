"""A file with several models becomes one audit each; errors have the place of the file and name the models."""

from pathlib import Path

import jsonschema
import pytest
import yaml

from audit.config.file import ConfigErrors, read_config
from audit.config.models.read import ModelAudits, read_audits
from audit.config.schema import file_schema
from audit.config.settings import AuditConfig
from audit.preflight.readiness import check_ready

SHIPPED = Path(__file__).parents[2] / "configs" / "models.yaml"
PLAIN = {
    "name": "trial",
    "seed": 5,
    "prompts": {"occupations": ["doctor", "nurse"], "attribution": False},
    "sampling": {"batch": 4, "guidance": 2.0},
    "models": {
        "small": {"source": "calibration", "sampling": {"steps": 7, "guidance": 1.0}},
        "drawn": {"source": "rendered"},
    },
}


@pytest.fixture
def written(tmp_path):
    def of(plain):
        path = tmp_path / "models.yaml"
        path.write_text(plain if isinstance(plain, str) else yaml.safe_dump(plain, sort_keys=False))
        return path

    return of


@pytest.fixture
def mistakes(written):
    def of(plain, *overrides, checks=()):
        with pytest.raises(ConfigErrors) as caught:
            read_audits(written(plain), overrides, checks)
        return [str(error).rpartition("models.yaml:")[2] for error in caught.value.errors]

    return of


def test_each_model_is_an_audit_with_the_shared_keys(written):
    found = read_audits(written(PLAIN))
    assert isinstance(found, ModelAudits)
    assert [(a.model, a.config.name) for a in found.audits] == [("small", "trial-small"), ("drawn", "trial-drawn")]
    small, drawn = (audit.config for audit in found.audits)
    assert (small.model.source, drawn.model.source) == ("calibration", "rendered")
    assert small.seed == drawn.seed == 5
    assert small.prompts == drawn.prompts
    assert found.output == "runs"


def test_keys_of_an_entry_replace_the_same_keys_of_the_shared_section(written):
    small, drawn = (audit.config.sampling for audit in read_audits(written(PLAIN)).audits)
    assert (small.steps, small.guidance, small.batch) == (7, 1.0, 4)
    assert (drawn.guidance, drawn.batch) == (2.0, 4)


def test_mitigations_of_an_entry_replace_the_shared_ones(written):
    shared = [{"name": "prompt", "method": "prompt", "attribute": "gender"}]
    entry = PLAIN["models"] | {"drawn": {"source": "rendered", "mitigations": []}}
    small, drawn = read_audits(written(PLAIN | {"mitigations": shared, "models": entry})).audits
    assert ([m.name for m in small.config.mitigations], drawn.config.mitigations) == (["prompt"], ())


def test_an_audit_is_named_as_that_of_the_model_alone(written):
    alone = AuditConfig(
        name="trial-small", seed=5, prompts=PLAIN["prompts"], model={"source": "calibration"},
        sampling={"steps": 7, "guidance": 1.0, "batch": 4},
    )  # fmt: skip
    assert read_audits(written(PLAIN)).audits[0].config == alone


def test_a_file_with_one_model_is_an_ordinary_audit(written):
    found = read_audits(written({"name": "single", "model": {"source": "rendered"}}))
    assert isinstance(found, AuditConfig)
    assert found.model.source == "rendered"


def test_the_resolved_file_is_read_as_the_same_audits(written):
    plain = PLAIN | {"gates": [{"name": "g", "measure": "fairness_discrepancy", "attribute": "gender", "max": 0.2}]}
    found = read_audits(written(plain))
    assert read_audits(written(found.as_file())) == found


def test_overrides_reach_the_models(written):
    found = read_audits(written(PLAIN), ["models.small.sampling.steps=3", "prompts.images_per_prompt=9"])
    assert found.audits[0].config.sampling.steps == 3
    assert {audit.config.prompts.images_per_prompt for audit in found.audits} == {9}


TEXT = """\
name: trial
model: {source: calibration}
models:
  one: {source: calibration, seed: 3}
  two: {model: {source: rendered}}
  three: {source: rendered, wrld: x.yaml}
  four: {source: rendered, samplng: {steps: 3}}
"""


def test_keys_at_the_wrong_place_have_their_line_and_column(mistakes):
    found = mistakes(TEXT)
    assert [line.partition(": expected")[0] for line in found] == [
        "2:1: model", "4:30: models.one.seed", "5:9: models.two.model", "6:29: models.three.wrld",
        "7:28: models.four.samplng",
    ]  # fmt: skip
    assert "which is equal for all models; write it at the top level" in found[1]
    assert "the keys of the section model in models.two itself" in found[2]
    assert found[3].endswith("did you mean 'world'?")
    assert found[4].endswith("did you mean 'sampling'?")


def test_the_name_of_a_hosted_model_is_a_key_of_an_entry(mistakes, written):
    api = {"source": "api", "model": "image-1", "base_url": "http://localhost:1/v1", "api_key_env": "KEY"}
    plain = PLAIN | {"models": {"hosted": api, "drawn": {"source": "rendered"}}}
    [refused] = mistakes(plain)
    assert "sampling.guidance: for the model hosted: expected no sampling.guidance for 'api'" in refused
    assert refused.endswith("move it from the top level to sampling in the entries of the other models")
    found = read_audits(written({key: value for key, value in plain.items() if key != "sampling"}))
    assert found.audits[0].config.model.model == "image-1"


def test_an_error_of_one_model_names_it_and_an_error_of_all_is_reported_once(mistakes):
    text = """\
name: trial
prompts: {occupations: [doctor, nurse], attribution: false}
judge: {min_confidence: 7}
mitigations:
  - {name: lens, method: difflens, attribute: gender}
models:
  small: {source: calibration}
  drawn: {source: rendered, sampling: {steps: none}}
"""
    found = mistakes(text, checks=[check_ready])
    assert found[0].startswith("3:25: judge.min_confidence: expected at most 1")
    assert found[1].startswith("5:5: mitigations[0]: for the model drawn: expected no mitigation for 'rendered'")
    assert found[1].endswith("or write mitigations: [] in the entry of the model")
    assert found[2].startswith("8:47: models.drawn.sampling.steps: expected a whole number")
    assert len(found) == 3


def test_a_key_that_the_file_lacks_is_named_and_not_to_be_moved(mistakes):
    unknown = PLAIN | {"models": {"other": {"source": "nosuch/model"}, "drawn": {"source": "rendered"}}}
    del unknown["sampling"]
    found = [line for line in mistakes(unknown, checks=[check_ready]) if "sampling.steps" in line.partition(" for ")[0]]
    assert len(found) == 1
    assert found[0].startswith("1:1: sampling.steps: for the model other: expected steps")
    assert "move it" not in found[0]
    entry = {"drawn": {"source": "rendered"}, "small": {"mitigations": [{"name": "x"}]}}
    [missing] = mistakes(PLAIN | {"models": entry})
    assert "models.small.mitigations[0].attribute: expected a value, found none" in missing


def test_occupations_that_one_world_lacks_are_an_error_of_this_model(mistakes, tmp_path):
    world = "audit/calibration/worlds/altered.yaml"
    entries = {"drawn": {"source": "rendered"}, "other": {"source": "rendered", "world": world}}
    found = mistakes(PLAIN | {"models": entries}, checks=[check_ready])
    assert any("for the model other: " in line and "doctor" in line for line in found)
    assert not any("for the model drawn" in line for line in found)


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ({"only": {"source": "rendered"}}, "expected 2 or more items"),
        ([], "expected keys and values"),
        ({"a": "calibration", "b": {}}, "expected keys and values, found 'calibration'"),
        ({"a": {}, "b": {}}, "expected models that differ, found b and a equal"),
        (
            {"a": {"source": "rendered", "world": "x"}, "b": {"world": "x", "source": "rendered"}},
            "expected models that differ, found b and a equal",
        ),
        ({"a b": {}, "c": {"source": "rendered"}}, "expected a name of letters, digits"),
        ({"a" * 21: {}, "c": {"source": "rendered"}}, "20 or fewer characters"),
        (None, "expected keys and values, found nothing"),
    ],
)
def test_what_models_cannot_say_is_refused(mistakes, models, message):
    [found] = mistakes(PLAIN | {"models": models})
    assert message in found


def test_a_command_for_one_model_says_what_to_do(written):
    with pytest.raises(ConfigErrors, match=r"models.yaml:\d+:1: models: expected one model, found several"):
        read_config(written(PLAIN))


def test_the_schema_accepts_models_and_refuses_what_the_reader_refuses():
    validator = jsonschema.Draft202012Validator(file_schema())
    assert validator.is_valid(PLAIN)
    assert not validator.is_valid(PLAIN | {"model": {"source": "rendered"}})
    assert not validator.is_valid(PLAIN | {"models": {"a": {"seed": 3}, "b": {}}})
    assert not validator.is_valid(PLAIN | {"models": {"a": {}}})


def test_the_shipped_comparison_is_ready(monkeypatch):
    monkeypatch.chdir(SHIPPED.parents[1])
    found = read_audits(SHIPPED, (), [check_ready])
    assert [audit.model for audit in found.audits] == ["trained", "altered", "drawn", "drawn-altered"]
