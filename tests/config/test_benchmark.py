"""The file of a benchmark becomes audits; errors of any audit are shown where the file has the value."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from audit.config.benchmark.read import read_benchmark
from audit.config.benchmark.sections import BenchmarkConfig
from audit.config.file import ConfigErrors
from audit.config.schema import config_schema

CONFIGS = Path(__file__).parents[2] / "configs" / "benchmarks"
SHIPPED = sorted(CONFIGS.glob("*.yaml"))

PLAIN = {
    "name": "trial",
    "base": {"prompts": {"occupations": ["doctor", "nurse"]}, "seed": 5},
    "methods": [
        {"name": "prompt", "method": "prompt"},
        {"name": "means", "method": "mean_difference", "settings": {"half": {"strength": 0.5}, "full": {}}},
    ],
}


@pytest.fixture
def read(tmp_path):
    def of(plain, *overrides, checks=()):
        path = tmp_path / "benchmark.yaml"
        path.write_text(plain if isinstance(plain, str) else yaml.safe_dump(plain, sort_keys=False))
        return read_benchmark(path, overrides, checks)

    return of


@pytest.fixture
def mistakes(read):
    def of(plain, *overrides):
        with pytest.raises(ConfigErrors) as caught:
            read(plain, *overrides)
        return [str(error).rpartition("benchmark.yaml:")[2] for error in caught.value.errors]

    return of


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_benchmark_loads_and_satisfies_the_schema_it_points_to(path):
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# yaml-language-server: $schema=schema.json\n")
    jsonschema.validate(yaml.safe_load(text), config_schema(BenchmarkConfig))
    assert read_benchmark(path).config.name == path.stem


def test_the_committed_schema_is_current():
    committed = json.loads((CONFIGS / "schema.json").read_text(encoding="utf-8"))
    message = "run python -m audit.config.benchmark.sections > configs/benchmarks/schema.json"
    assert committed == config_schema(BenchmarkConfig), message


def test_every_field_is_documented():
    schema = config_schema(BenchmarkConfig)
    fields = [field for part in (schema, *schema["$defs"].values()) for field in part["properties"].values()]
    assert fields
    assert all("description" in field for field in fields)


def test_each_setting_is_an_arm_and_each_model_and_attribute_an_audit(read):
    plain = PLAIN | {"attributes": ["gender", "age"], "models": {"a": {}, "b": {"sampling": {"steps": 7}}}}
    audits = read(plain).audits
    assert [(audit.model, audit.attributes) for audit in audits] == [
        ("a", ("gender",)), ("a", ("age",)), ("b", ("gender",)), ("b", ("age",)),
    ]  # fmt: skip
    assert [one.name for one in audits[1].config.mitigations] == ["prompt", "means-half", "means-full"]
    assert {one.attribute for one in audits[1].config.mitigations} == {"age"}
    assert [one.strength for one in audits[1].config.mitigations] == [1.0, 0.5, 1.0]
    assert audits[0].methods == {"prompt": "prompt", "means-half": "means", "means-full": "means"}
    assert [audit.config.sampling.steps for audit in audits][2:] == [7, 7]
    assert {audit.config.seed for audit in audits} == {5}
    assert len({audit.config.name for audit in audits}) == 4


def test_a_method_can_have_other_keys_on_one_model(read):
    means = PLAIN["methods"][1] | {"models": {"b": {"hookpoints": ["transformer_blocks.1"]}}}
    audits = read(PLAIN | {"models": {"a": {}, "b": {}}, "methods": [PLAIN["methods"][0], means]}).audits
    assert [[one.strength for one in audit.config.mitigations] for audit in audits] == [[1.0, 0.5, 1.0]] * 2
    assert [audit.config.mitigations[1].hookpoints for audit in audits] == [("mid_block",), ("transformer_blocks.1",)]
    assert audits[1].config.mitigations[2].hookpoints == ("transformer_blocks.1",)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"c": {}}, "expected names of the models (a, b), found 'c'"),
        ({"b": {"strength": 2.0}}, "found 'strength' in both"),
    ],
)
def test_keys_for_a_model_that_would_not_count_are_refused(mistakes, keys, message):
    plain = PLAIN | {"models": {"a": {}, "b": {}}, "methods": [PLAIN["methods"][1] | {"models": keys}]}
    (found,) = mistakes(plain)
    assert message in found
    assert "methods: means: models" in found


def test_held_out_prompts_are_an_audit_of_their_own(read):
    seen, held_out = read(PLAIN | {"held_out": ["judge"]}).audits
    assert (seen.held_out, held_out.held_out) == (False, True)
    assert held_out.config.prompts.occupations == ("judge",)
    assert held_out.config.prompts.model_copy(update={"occupations": ("doctor", "nurse")}) == seen.config.prompts
    assert held_out.config.mitigations == seen.config.mitigations


def test_a_control_is_an_audit_with_its_own_prompts_and_the_same_methods(read):
    named = {"name": "female", "template": "a photo of a female {occupation}"}
    things = {"name": "judges", "occupations": ["judge"]}
    main, first, second = read(PLAIN | {"controls": [named, things]}).audits
    assert (main.control, first.control, second.control) == ("", "female", "judges")
    assert (main.is_main, first.is_main) == (True, False)
    assert first.config.prompts.model_copy(update={"template": main.config.prompts.template}) == main.config.prompts
    assert first.config.prompts.template == "a photo of a female {occupation}"
    assert second.config.prompts.occupations == ("judge",)
    assert first.config.mitigations == main.config.mitigations == second.config.mitigations
    assert len({audit.config.name for audit in (main, first, second)}) == 3
    assert first.title == "calibration, gender, control prompts female"


@pytest.mark.parametrize(
    ("controls", "message"),
    [
        ([{"name": "same"}], "expected template or occupations for the control 'same', found neither"),
        ([{"name": "a", "occupations": ["judge"]}] * 2, "controls: expected unique names"),
        ([{"name": "a", "template": "a photo"}], "occupation"),
    ],
)
def test_a_control_that_controls_nothing_is_refused(read, controls, message):
    with pytest.raises(ConfigErrors, match=message):
        read(PLAIN | {"controls": controls})


def test_a_method_with_an_attribute_of_its_own_is_not_crossed(read):
    own = {"name": "own", "method": "prompt", "attribute": "skin_tone"}
    limited = {"name": "limited", "method": "prompt", "only": ["age"]}
    audits = read(
        {"name": "trial", "attributes": ["gender", "age"], "methods": [PLAIN["methods"][0], own, limited]}
    ).audits
    assert {audit.attributes: tuple(audit.methods) for audit in audits} == {
        ("gender",): ("prompt",), ("age",): ("prompt", "limited"), ("skin_tone",): ("own",),
    }  # fmt: skip


def test_a_method_for_an_attribute_that_is_not_balanced_this_time_is_left_out(read):
    limited = {"name": "limited", "method": "prompt", "only": ["age"]}
    benchmark = read(PLAIN | {"methods": [*PLAIN["methods"], limited], "attributes": ["gender"]})
    assert not any("limited" in audit.methods for audit in benchmark.audits)


def test_overrides_reach_the_audits(read):
    [audit] = read(PLAIN, "base.prompts.images_per_prompt=3", "methods.1.settings.half.strength=0.25").audits
    assert audit.config.prompts.images_per_prompt == 3
    assert audit.config.mitigations[1].strength == 0.25


def test_errors_of_the_audits_have_the_lines_and_paths_of_the_file(mistakes):
    text = """\
name: trial
base:
  sede: 0
  sampling: {stepz: 3}
attributes: [gender, aeg]
methods:
  - {name: prompt, method: promt}
  - name: means
    method: mean_difference
    settings:
      weak: {strenth: 0.5}
"""
    found = mistakes(text)
    assert [line.partition(": expected")[0] for line in found] == [
        "3:3: base.sede",
        "4:14: base.sampling.stepz",
        "5:22: attributes[1]",
        "7:28: methods[0].method",
        "11:14: methods[1].settings.weak.strenth",
    ]
    assert found[2].endswith("found 'aeg'; did you mean 'age'?")
    assert "did you mean 'prompt'" in found[3]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"base": {"gates": []}}, "base: expected keys of an audit without"),
        ({"models": {"a": {"seed": 1}}}, "models.a: expected keys of an audit without"),
        ({"methods": [PLAIN["methods"][0]] * 2}, "found prompt twice"),
        (
            {"methods": [PLAIN["methods"][0] | {"only": ["height"]}]},
            "expected only: among the audited attributes (gender, age, skin_tone), found 'height'",
        ),
        ({"methods": []}, "expected 1 or more items"),
        ({"modles": {}}, "did you mean 'models'?"),
        ({"name": "a" * 21}, "expected 20 or fewer characters"),
    ],
)
def test_what_a_benchmark_cannot_say_is_refused(mistakes, change, message):
    [found] = mistakes(PLAIN | change)
    assert message in found


def test_a_joint_method_is_an_audit_of_the_attributes_of_its_parts(read):
    parts = [{"method": "mean_difference", "attribute": "gender"}, {"method": "prompt", "attribute": "age"}]
    cells = {f"{one} & {two}": 0.0 for one in ("female", "male") for two in ("young", "adult", "old")}
    uneven = cells | {"female & young": 0.4, "male & old": 0.6}
    joint = {"name": "both", "method": "joint", "parts": parts, "settings": {"even": {}, "uneven": {"target": uneven}}}
    audits = read(PLAIN | {"methods": [*PLAIN["methods"], joint]}).audits
    assert [audit.attributes for audit in audits] == [("gender",), ("gender", "age")]
    even, tilted = audits[1].config.mitigations
    assert (even.name, tilted.name) == ("both-even", "both-uneven")
    groups = [("female", "male"), ("young", "adult", "old")]
    assert tilted.shares(groups)["male", "old"] == pytest.approx(0.6)
    assert even.shares(groups)["male", "old"] == pytest.approx(1 / 6)


PARTS = [{"method": "mean_difference", "attribute": "gender"}, {"method": "prompt", "attribute": "age"}]
JOINT = {"name": "both", "method": "joint", "parts": PARTS}


def test_joint_methods_of_the_same_attributes_share_an_audit_in_any_order(read):
    turned = {"name": "turned", "method": "joint", "parts": PARTS[::-1], "settings": {"a": {"parts": PARTS}, "b": {}}}
    audits = read(PLAIN | {"methods": [JOINT, turned]}).audits
    assert {audit.attributes: tuple(audit.methods) for audit in audits} == {
        ("gender", "age"): ("both", "turned-a", "turned-b")
    }
    assert [one.attributes for one in audits[0].config.mitigations] == [
        ("gender", "age"), ("gender", "age"), ("age", "gender"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (
            JOINT | {"settings": {"tone": {"parts": [PARTS[0], PARTS[1] | {"attribute": "skin_tone"}]}}},
            "settings.tone.parts: expected the attributes of the method (gender, age), found gender, skin_tone",
        ),
        (
            {"name": "one", "method": "prompt", "settings": {"age": {"attribute": "age"}}},
            "settings.age.attribute: expected those of the benchmark, found age",
        ),
        (
            {"name": "both", "method": "joint", "settings": {"a": {"parts": PARTS}}},
            "expected parts of the joint method",
        ),
        (JOINT | {"parts": []}, "each with an attribute, found []"),
        (JOINT | {"settings": {"none": {"parts": []}}}, "parts: expected 2 parts or more, found 0"),
    ],
)
def test_settings_that_would_be_compared_on_other_attributes_are_refused(mistakes, method, message):
    found = mistakes(PLAIN | {"methods": [method]})
    assert len(found) == 1, found
    assert message in found[0]
    assert "[0].attribute" not in found[0]
