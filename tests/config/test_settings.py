"""A config is frozen, strict about keys and types, and its sections must agree with each other."""

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import yaml
from pydantic import ValidationError

from audit.calibration.world import ATTRIBUTES
from audit.config.fields import DEFAULT_ATTRIBUTES, GATE_MEASURES
from audit.config.schema import config_schema, file_schema, known_keys
from audit.config.sections import QualityConfig
from audit.config.settings import AuditConfig
from audit.measure.discrepancy.group_measures import MEASURES

CONFIGS = Path(__file__).parents[2] / "configs"
MITIGATION = {"name": "gender", "attribute": "gender"}
GATE = {"name": "even", "measure": "share:female", "attribute": "gender", "min": 0.4}


def mistakes(**sections):
    """Return the locations and messages of all errors in a config."""
    with pytest.raises(ValidationError) as caught:
        AuditConfig.model_validate({"name": "audit"} | sections)
    return {error["loc"]: error["msg"] for error in caught.value.errors()}


def test_every_measure_of_shares_can_be_a_gate_and_stays_in_its_range():
    for name, measure in MEASURES.items():
        kind = GATE_MEASURES[name]
        shares = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [1 / 3, 1 / 3, 1 / 3], [0.2, 0.3, 0.5]])
        values = measure.function(shares, np.array([0.5, 0.3, 0.2]))
        assert kind.of_attribute
        assert kind.of_prompt
        assert kind.lowest <= values.min() + 1e-9
        assert values.max() <= kind.highest


def test_only_the_name_is_required():
    config = AuditConfig(name="audit")
    assert (config.model.source, config.sampling.steps, config.prompts.images_per_prompt) == ("calibration", 25, 64)


def test_a_config_survives_json_unchanged():
    config = AuditConfig.model_validate(
        {"name": "audit", "mitigations": [MITIGATION | {"window": [0, 0.4], "strength": 1.0}]}
    )
    assert AuditConfig.model_validate_json(config.model_dump_json()) == config


def test_a_config_cannot_be_changed():
    with pytest.raises(ValidationError):
        AuditConfig(name="audit").sampling.steps = 3


def test_default_groups_are_those_of_the_calibration_world():
    assert dict(DEFAULT_ATTRIBUTES) == ATTRIBUTES


@pytest.mark.parametrize(
    "sections",
    [
        {"sampling": {"steps": "25"}},
        {"sampling": {"steps": 25.0}},
        {"sampling": {"steps": True}},
        {"sampling": {"steps": 0}},
        {"sampling": {"guidance": -0.5}},
        {"sampling": {"guidance": float("nan")}},
        {"sampling": {"batch": 0}},
        {"seed": -1},
        {"prompts": {"images_per_prompt": 0}},
        {"prompts": {"occupations": []}},
        {"prompts": {"occupations": ["doctor", "doctor"]}},
        {"prompts": {"occupations": "some"}},
        {"prompts": {"template": "a face"}},
        {"prompts": {"template": "{a} {job} {occupation}"}},
        {"attributes": {}},
        {"attributes": {"gender": ["female"]}},
        {"attributes": {"gender": ["female", "female"]}},
        {"attributes": {"../gender": ["female", "male"]}},
        {"model": {"dtype": "float8"}},
        {"workers": {"count": 0}},
        {"workers": {"count": "many"}},
        {"mitigations": [MITIGATION | {"window": [0.5, 0.5]}]},
        {"mitigations": [MITIGATION | {"window": [0.5, 1.5]}]},
        {"mitigations": [MITIGATION | {"target": "census"}]},
        {"mitigations": [MITIGATION | {"name": "a/b"}]},
        {"mitigations": [MITIGATION | {"name": "Baseline"}]},
        {"mitigations": [MITIGATION, MITIGATION]},
        {"mitigations": [MITIGATION], "model": {"source": "rendered"}},
        {"gates": [GATE | {"measure": "fairnes_discrepancy"}]},
        {"gates": [GATE | {"measure": "share:"}]},
        {"gates": [GATE | {"measure": "share"}]},
        {"gates": [GATE | {"measure": "kid:female"}]},
        {"gates": [GATE | {"measure": "share:women"}]},
        {"gates": [GATE | {"attribute": "gendr"}]},
        {"gates": [GATE | {"attribute": None}]},
        {"gates": [GATE | {"measure": "unclassified_share"}]},
        {"gates": [GATE | {"max": 0.5}]},
        {"gates": [GATE | {"min": None}]},
        {"gates": [GATE | {"min": 40.0}]},
        {"gates": [GATE | {"arm": "gender"}]},
        {"gates": [GATE | {"level": "error"}]},
        {"gates": [GATE, GATE]},
        {"gates": [{"name": "g", "measure": "kid", "max": 0.1}]},
        {"gates": [{"name": "g", "measure": "prompt_shown", "min": 0.9, "prompt": "each"}]},
        {
            "gates": [{"name": "g", "measure": "clip_i", "min": 0.9, "arm": "gender"}],
            "mitigations": [MITIGATION],
            "quality": {"clip": "none"},
        },
        {"unknown": 1},
    ],
    ids=str,
)
def test_one_mistake_gives_one_error(sections):
    assert len(mistakes(**sections)) == 1


def test_a_mitigation_needs_an_audited_attribute():
    assert mistakes(mitigations=[MITIGATION | {"attribute": "gendr"}]) == {
        ("mitigations", 0, "attribute"): "expected an audited attribute (gender, age, skin_tone), found 'gendr'; "
        "did you mean 'gender'?"
    }


def test_the_rendered_model_refuses_attribution():
    found = mistakes(model={"source": "rendered"}, prompts={"attribution": True})
    assert "no network to analyse" in found["prompts", "attribution"]
    assert AuditConfig(name="a", model={"source": "rendered"}).prompts.attribution is None


def test_a_mitigation_needs_an_attribute_of_the_lens():
    found = mistakes(mitigations=[MITIGATION], lens={"attributes": ["age"]})
    assert list(found) == [("mitigations", 0, "attribute")]
    assert "expected an attribute of the lens (age)" in found["mitigations", 0, "attribute"]


def test_the_lens_uses_the_audited_attributes_by_default():
    groups = {"age": ["young", "adult", "old"], "gender": ["female", "male"]}
    assert AuditConfig(name="audit", attributes=groups).lens.attributes == ("age", "gender")
    assert AuditConfig(name="audit", attributes=groups, lens={"attributes": ["age"]}).lens.attributes == ("age",)
    assert list(mistakes(attributes=groups, lens={"attributes": ["age", "race"]})) == [("lens", "attributes", 1)]


@pytest.mark.parametrize("alias", ["latest", "LATEST", "v7", "two words", ""])
def test_an_alias_that_mlflow_would_refuse_is_refused_before_any_image(alias):
    with pytest.raises(ValidationError, match="which MLflow reserves"):
        AuditConfig(name="audit", tracking={"registered_model": {"name": "faces", "version": 7, "alias": alias}})


def test_a_registered_model_needs_its_version_and_no_alias():
    section = AuditConfig(name="audit", tracking={"registered_model": {"name": "faces", "version": 7}}).tracking
    assert (section.registered_model.version, section.registered_model.alias) == (7, None)
    with pytest.raises(ValidationError, match="version"):
        AuditConfig(name="audit", tracking={"registered_model": {"name": "faces"}})


def test_tracking_defaults_to_sqlite_under_the_output():
    assert AuditConfig(name="audit", output="there/").tracking_uri == "sqlite:///there/mlflow.db"
    assert AuditConfig(name="audit", tracking={"uri": "http://host"}).tracking_uri == "http://host"


def test_the_committed_schema_is_current():
    committed = json.loads((CONFIGS / "schema.json").read_text(encoding="utf-8"))
    assert committed == file_schema(), "run python -m audit.config.schema > configs/schema.json"


def test_every_field_is_documented():
    schema = config_schema()
    sections = [schema, *schema["$defs"].values()]
    undocumented = [name for part in sections for name, field in part["properties"].items() if not described(field)]
    assert undocumented == []


def described(field):
    return "description" in field or "$ref" in field  # the description of a section is in its definition


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_configs_satisfy_the_schema_they_point_to(path):
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# yaml-language-server: $schema=schema.json\n")
    jsonschema.validate(yaml.safe_load(text), file_schema())


def test_known_keys_depend_on_the_location():
    assert known_keys(("sampling",)) == (
        "steps",
        "guidance",
        "batch",
        "scheduler",
        "true_guidance",
        "negative_prompt",
        "height",
        "width",
    )
    assert "strength" in known_keys(("mitigations", 3))
    assert known_keys(("targets", "gender")) == ("csv", "categories")
    assert known_keys(("prompts", "two_stage")) == ("attribute", "group", "half_width", "max")


@pytest.mark.parametrize("change", [{"edit": "scale"}, {"reverse_step": "asymmetric"}, {"window": [0.0, 0.5]}])
def test_an_edit_for_which_a_lens_has_no_strengths_needs_a_strength(change):
    mitigation = {"name": "m", "method": "difflens", "attribute": "gender", **change}
    with pytest.raises(ValidationError, match="expected a strength"):
        AuditConfig(name="x", mitigations=[mitigation])
    assert AuditConfig(name="x", mitigations=[{**mitigation, "strength": 1.0}]).mitigations[0].strength == 1.0


TARGETS = {
    "gender": {"csv": "labour.csv", "categories": {"Women": "female", "Men": "male", "Not stated": None}},
    "age": {"young": 0.2, "adult": 0.5, "old": 0.3},
    "skin_tone": "uniform",
}


def test_a_target_is_a_word_shares_or_a_file():
    config = AuditConfig(name="audit", targets=TARGETS, mitigations=[MITIGATION | {"target": {"female": 1, "male": 0}}])
    assert config.targets["gender"].categories["Not stated"] is None
    assert config.targets["age"]["old"] == 0.3
    assert AuditConfig.model_validate_json(config.model_dump_json()) == config
    assert jsonschema.validate({"name": "audit", "targets": TARGETS}, config_schema()) is None


@pytest.mark.parametrize(
    ("targets", "where", "message"),
    [
        ({"gendre": "uniform"}, ("gendre",), "(gender, age, skin_tone), found 'gendre'; did you mean 'gender'?"),
        ({"gender": {"female": 0.5, "male": 0.4}}, ("gender",), "found 0.9; is a category missing?"),
        ({"gender": {"female": 0.5, "man": 0.5}}, ("gender", "man"), "expected a group (female, male), found 'man'"),
        (
            {"gender": {"csv": "x.csv", "categories": {"Women": "female"}}},
            ("gender", "categories"),
            "found none for male",
        ),
    ],
)
def test_an_invalid_target_is_reported_at_its_location(targets, where, message):
    found = mistakes(targets=targets)
    assert message in found["targets", *where]


@pytest.mark.parametrize(
    ("prompts", "where", "message"),
    [
        ({"two_stage": {"attribute": "gendr"}}, ("two_stage", "attribute"), "found 'gendr'; did you mean 'gender'?"),
        (
            {"two_stage": {"attribute": "age", "group": "female"}},
            ("two_stage", "group"),
            "expected a group of age (young, adult, old), found 'female'",
        ),
        ({"two_stage": {"attribute": "age", "max": 32}}, ("two_stage", "max"), "at least the 64 images of the pilot"),
        (
            {"images_per_prompt": 1, "two_stage": {"attribute": "age"}},
            ("images_per_prompt",),
            "a pilot of at least 2 images per prompt, found 1",
        ),
        ({"two_stage": {"attribute": "age", "half_width": 0.5}}, ("two_stage", "half_width"), "less than 0.5"),
    ],
)
def test_two_stages_need_a_share_and_a_pilot(prompts, where, message):
    found = mistakes(prompts=prompts)
    assert message in found["prompts", *where]


def test_the_target_shares_of_a_mitigation_must_add_up_to_one():
    found = mistakes(mitigations=[MITIGATION | {"target": {"female": 0.5, "male": 0.6}}])
    assert "found 1.1" in found["mitigations", 0, "target"]


def test_every_measure_can_be_a_gate():
    gates = [
        {"name": "a", "measure": "fairness_discrepancy", "attribute": "age", "max": 0.3, "prompt": "each"},
        GATE | {"prompt": "doctor", "level": "warn"},
        {"name": "c", "measure": "share_ratio", "attribute": "gender", "min": 0.8},
        {"name": "d", "measure": "unclassified_share", "max": 0.05},
        {"name": "e", "measure": "clip_i", "min": 0.9, "arm": "gender"},
        {"name": "f", "measure": "kid", "max": 0.01, "arm": "gender"},
        {"name": "g", "measure": "prompt_shown", "min": 0.9},
        {"name": "h", "measure": "attribute_shift", "attribute": "age", "max": 0.1, "arm": "gender"},
        {"name": "i", "measure": "psnr", "min": 20.0, "arm": "gender"},
        {"name": "j", "measure": "lpips", "max": 0.1, "arm": "gender"},
        {"name": "k", "measure": "dino_i", "min": 0.9, "arm": "gender"},
    ]
    networks = {"dino": "dino", "lpips": {"network": "alex", "trunk": "alexnet.pth"}}
    config = {"name": "audit", "mitigations": [MITIGATION], "gates": gates, "quality": networks}
    found = AuditConfig.model_validate(config).gates
    assert [gate.prompt for gate in found] == ["each", "doctor", *["overall"] * 9]
    assert [gate.group for gate in found] == [None, "female", *[None] * 9]
    unset = mistakes(mitigations=[MITIGATION], gates=gates)
    assert list(unset) == [("gates", 9, "measure"), ("gates", 10, "measure")]
    assert unset["gates", 9, "measure"].endswith("found 'lpips' though quality.lpips is not set")
    assert jsonschema.validate({"name": "audit", "gates": gates}, config_schema()) is None


@pytest.mark.parametrize(
    ("change", "where", "message"),
    [
        ({"measure": "kidd"}, "measure", "found 'kidd'; did you mean 'kid'?"),
        ({"attribute": "gendr"}, "attribute", "(gender, age, skin_tone), found 'gendr'; did you mean 'gender'?"),
        (
            {"measure": "share:femal"},
            "measure",
            "a group of gender (female, male), found 'femal'; did you mean 'female'?",
        ),
        ({"arm": "base"}, "arm", "expected an arm (baseline), found 'base'"),
        ({"max": 0.3}, "name", "expected one limit, max or min, found both"),
        ({"min": 4.0}, "min", "a limit that share:female can reach (0 to 1), found 4"),
    ],
)
def test_an_invalid_gate_is_reported_at_its_location(change, where, message):
    found = mistakes(gates=[GATE | change])
    assert list(found) == [("gates", 0, where)]
    assert message in found["gates", 0, where]


def test_zero_shot_clip_is_a_second_judge_by_default_if_a_clip_model_is_loaded():
    assert [(o.name, o.source) for o in AuditConfig(name="audit").second_opinions] == [("clip", "zero-shot")]
    assert AuditConfig(name="audit", quality={"clip": "none"}).second_opinions == ()
    assert AuditConfig(name="audit", quality=QualityConfig(clip="none")).second_opinions == ()
    assert AuditConfig(name="audit", second_opinions=[]).second_opinions == ()


@pytest.mark.parametrize("name", ["CPU", "GPU", "memory", "object_store_memory"])
def test_a_resource_built_into_ray_is_refused_as_a_custom_resource(name):
    assert list(mistakes(workers={"resources": {name: 1}})) == [("workers", "resources", name)]


@pytest.mark.parametrize("quantity", [0.0001, 0.25, 1, 1.0, 2.0, 64])
def test_workers_can_reserve_fractions_and_whole_numbers_of_resources(quantity):
    workers = AuditConfig(name="audit", workers={"gpus_per_worker": quantity, "resources": {"rack": quantity}}).workers
    assert (workers.gpus_per_worker, workers.resources) == (quantity, {"rack": quantity})


def test_second_judges_need_other_sources_unique_names_and_known_attributes():
    found = mistakes(
        judge={"source": "fairface.pt"},
        second_opinions=[
            {"name": "clip"},
            {"name": "clip", "attributes": ["gendre"]},
            {"name": "echo", "source": "fairface.pt"},
        ],
    )
    assert set(found) == {
        ("second_opinions", 1, "name"),
        ("second_opinions", 1, "attributes", 0),
        ("second_opinions", 2, "source"),
    }
    assert "did you mean 'gender'?" in found["second_opinions", 1, "attributes", 0]
    assert "expected a judge other than judge.source" in found["second_opinions", 2, "source"]


def test_zero_shot_needs_a_clip_model():
    found = mistakes(quality={"clip": "none"}, second_opinions=[{"name": "clip"}])
    assert found == {
        ("second_opinions", 0, "name"): "expected a CLIP model for 'zero-shot', found quality.clip: none; name one, "
        "or remove this judge"
    }


@pytest.mark.parametrize("name", ["", "Clip", "a_b", "-a", "a b", "x" * 31])
def test_a_judge_name_that_makes_column_names_ambiguous_is_refused(name):
    assert ("second_opinions", 0, "name") in mistakes(second_opinions=[{"name": name}])


VQA = {"questions": {"gender": {"question": "woman or man?", "answers": {"female": "woman", "male": "man"}}}}


@pytest.mark.parametrize(
    ("judge", "where", "message"),
    [
        ({"source": "w.pth", "zero_shot": {}}, ("zero_shot",), "expected source: zero-shot"),
        ({"source": "zero-shot", "zero_shot": {}, "vqa": VQA}, ("vqa",), "expected one kind of judge, found zero_shot"),
        ({"vqa": VQA}, ("vqa",), "expected a source with weights for vqa, found 'bundled'"),
        (
            {"source": "zero-shot", "zero_shot": {"captions": {"gendre": {"female": "a woman"}}}},
            ("zero_shot", "captions", "gendre"),
            "did you mean 'gender'?",
        ),
    ],
)
def test_sections_of_a_judge_must_agree_with_its_source(judge, where, message):
    found = mistakes(judge=judge)
    assert message in found["judge", *where]
    opinion = {"name": "other", **({"source": "bundled"} if "source" not in judge else {}), **judge}
    assert message in mistakes(judge={"source": "other.pt"}, second_opinions=[opinion])["second_opinions", 0, *where]


def test_zero_shot_as_the_judge_needs_a_clip_model_and_is_not_its_own_second_opinion():
    found = mistakes(judge={"source": "zero-shot"}, quality={"clip": "none"})
    assert list(found) == [("judge", "source")]
    own = {"source": "zero-shot", "zero_shot": {"clip": "ViT-B-32:openai"}}
    AuditConfig(name="audit", judge=own, quality={"clip": "none"})
    assert ("second_opinions", 0, "source") in mistakes(
        judge={"source": "zero-shot"}, second_opinions=[{"name": "clip"}]
    )
    AuditConfig(name="audit", judge=own, second_opinions=[{"name": "clip"}])


def test_unset_sections_of_a_judge_are_not_stored_so_that_old_run_names_stay():
    stored = AuditConfig(name="audit").model_dump(mode="json")
    assert set(stored["judge"]) == {"source", "races", "min_confidence", "confusion"}
    assert set(stored["second_opinions"][0]) == {"name", "source", "races", "attributes", "min_confidence"}
    vqa = AuditConfig(name="audit", judge={"source": "owner/blip", "vqa": VQA})
    assert AuditConfig.model_validate(vqa.model_dump(mode="json")) == vqa


@pytest.mark.parametrize("method", ["latent_direction", "latent_editing", "h_distribution"])
def test_trained_methods_have_usable_defaults_and_refuse_impossible_settings(method):
    section = {"name": "m", "method": method, "attribute": "gender"}
    config = AuditConfig.model_validate({"name": "audit", "mitigations": [section]})
    assert config.mitigations[0].fitted_images > 0
    assert config.mitigations[0].edited_modules == ("mid_block",)
    assert AuditConfig.model_validate_json(config.model_dump_json()) == config
    for key, value in (("images_per_group", 0), ("strength", -1.0), ("hookpoints", []), ("lern_rate", 1.0)):
        with pytest.raises(ValidationError, match=key):
            AuditConfig.model_validate({"name": "audit", "mitigations": [section | {key: value}]})


def test_how_an_edit_is_applied_does_not_name_its_fit():
    section = {"name": "m", "method": "latent_direction", "attribute": "gender"}

    def fitted_by(**changes):
        config = AuditConfig.model_validate({"name": "audit", "mitigations": [section | changes]})
        return config.mitigations[0].fitted_by

    assert fitted_by(strength=2.0, window=[0, 0.4], target={"female": 0.3, "male": 0.7}) == fitted_by()
    for changes in ({"steps": 7}, {"learning_rate": 0.2}, {"hookpoints": ["conv_in"]}, {"images_per_group": 3}):
        assert fitted_by(**changes) != fitted_by()


def test_a_loss_of_clip_needs_a_clip_model():
    found = mistakes(
        mitigations=[{"name": "m", "method": "latent_editing", "attribute": "gender"}], quality={"clip": "none"}
    )
    assert found["mitigations", 0, "method"] == (
        "expected a CLIP model for the loss of latent_editing, found none; set quality.clip"
    )


def test_a_loss_of_dino_needs_its_weights():
    section = {"name": "m", "method": "finetuning", "attribute": "gender"}
    for keys, expected in (
        ({"images_per_step": 97}, "expected at most the 96 noises that images are drawn from, found 97; raise noises"),
        (
            {"images_per_step": 2},
            "expected images enough that one can be assigned to a group with probability 0.8 (1 −",
        ),
        ({"uncertainty": 0}, "Input should be greater than 0"),
    ):
        assert next(iter(mistakes(mitigations=[section | keys]).values())).startswith(expected), keys
    uneven = section | {"images_per_step": 2, "target": {"female": 0.1, "male": 0.9}}
    AuditConfig(name="a", mitigations=[uneven, section | {"name": "n", "images_per_step": 3}])
    found = mistakes(mitigations=[section | {"dino_weight": 8.0}])
    assert found["mitigations", 0, "dino_weight"].startswith("expected weights of DINOv2 for this term of the loss")
    for weight, quality in ((0.0, {}), (8.0, {"dino": "weights"})):
        AuditConfig(name="a", mitigations=[section | {"dino_weight": weight}], quality=quality)


def test_a_model_that_is_not_compiled_has_the_config_of_older_runs():
    assert "compile" not in AuditConfig(name="a").model_dump()["model"]
    assert AuditConfig(name="a", model={"compile": True}).model_dump()["model"]["compile"] is True
    with pytest.raises(ValidationError):
        AuditConfig(name="a", model={"compile": "yes"})
