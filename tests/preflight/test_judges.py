"""What measures is checked against the config and against its files, before any work."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from torchvision.models import resnet34, resnet50

from audit.calibration.bundle import BUNDLED
from audit.config.file import ConfigErrors, read_config
from audit.config.settings import AuditConfig
from audit.perception.judges.confusion_file import judge_confusions
from audit.preflight.judges import JudgesRequest, check_judges, left_out_groups, warnings_of
from audit.preflight.networks import check_networks
from audit.preflight.readiness import check_ready
from tests.weight_files import FAIRFACE, INCEPTION, write_header

SEVEN = "res34_fair_align_multi_7_20190809.safetensors"
FOUR = "res34_fair_align_multi_4_20190809.safetensors"
GENDER = {"gender": ["female", "male"]}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Work beside both published checkpoints, under their published names."""
    monkeypatch.chdir(tmp_path)
    for name in (SEVEN, FOUR):
        write_header(tmp_path / name, FAIRFACE)


def problems(**sections):
    """Return what is found by its place."""
    model = {"source": "owner/model"}
    quality = {"clip": "none", "features": "none"}
    plain = {"name": "audit", "model": model, "prompts": {"occupations": ["doctor"]}, "quality": quality}
    config = AuditConfig.model_validate(plain | sections)
    asked = JudgesRequest(
        config.judge, config.second_opinions, config.attributes, config.model, "attributes" not in sections
    )
    found = [*check_judges(asked), *check_networks(config.quality, config.model)]
    return {".".join(map(str, problem.location)): problem.message for problem in found}


# ---- what FairFace can be asked ------------------------------------------------------------------------------------


def test_fairface_is_not_asked_for_the_skin_tone_that_is_audited_by_default():
    found = problems(judge={"source": SEVEN})
    assert list(found) == ["attributes.skin_tone"]
    assert (
        "FairFace can judge (gender, age, race), found 'skin_tone'; name the attributes"
        in found["attributes.skin_tone"]
    )


def test_a_group_that_the_checkpoint_does_not_have_is_named_at_its_place(tmp_path):
    (tmp_path / "audit.yaml").write_text(
        f"name: audit\nmodel: {{source: owner/model}}\nprompts: {{occupations: [doctor]}}\njudge: {{source: {SEVEN}}}\n"
        "quality: {clip: none, features: none}\nsampling: {steps: 20, guidance: 7.5}\n"
        "attributes:\n  gender: [female, male, divers]\n  race:\n    - white\n    - Asian\n"
    )
    with pytest.raises(ConfigErrors) as caught:
        read_config(tmp_path / "audit.yaml", checks=[check_ready])
    assert [(e.line, e.column, e.where) for e in caught.value.errors] == [
        (8, 26, "attributes.gender[2]"),
        (11, 7, "attributes.race[1]"),
    ]
    assert "found 'Asian'; did you mean 'asian'?" in str(caught.value)


@pytest.mark.parametrize(
    ("races", "file", "groups", "where"),
    [
        (None, SEVEN, ["latino", "asian"], None),
        (7, "mine.safetensors", ["latino", "asian"], None),
        (None, FOUR, ["white", "black", "asian", "indian"], None),
        (4, "mine.safetensors", ["white", "asian"], None),
        (None, FOUR, ["white", "latino"], "attributes.race.1"),
        (4, "mine.safetensors", ["white", "middle_eastern"], "attributes.race.1"),
        (7, FOUR, ["white", "asian"], "judge.races"),
        (4, SEVEN, ["white", "asian"], "judge.races"),
        (None, "mine.safetensors", ["white", "asian"], "judge.races"),
    ],
)
def test_the_four_race_checkpoint_is_told_from_the_seven_race_one(tmp_path, races, file, groups, where):
    write_header(tmp_path / "mine.safetensors", FAIRFACE)
    judge = {"source": file} | ({} if races is None else {"races": races})
    assert list(problems(judge=judge, attributes={"race": groups})) == ([] if where is None else [where])


def test_which_checkpoint_it_is_does_not_matter_where_race_is_not_audited(tmp_path):
    write_header(tmp_path / "mine.safetensors", FAIRFACE)
    assert problems(judge={"source": "mine.safetensors"}, attributes=GENDER) == {}


def test_a_second_opinion_is_asked_no_more_than_it_can_answer():
    opinions = [{"name": "four", "source": FOUR}]
    found = problems(judge={"source": SEVEN}, attributes={"race": ["white", "latino"]}, second_opinions=opinions)
    assert list(found) == ["attributes.race.1"]


# ---- what the files hold -------------------------------------------------------------------------------------------


def other_network(path):
    torch.save(resnet50(num_classes=18).state_dict(), path)


def nine_outputs(path):
    torch.save(resnet34(num_classes=9).state_dict(), path)


def half_a_file(path):
    torch.save(resnet34(num_classes=18).state_dict(), path)
    path.write_bytes(path.read_bytes()[:1000])


def without_a_layer(path):
    write_header(path, {name: shape for name, shape in FAIRFACE.items() if not name.startswith("layer4.2")})


def whole_model(path):
    torch.save(resnet34(num_classes=18), path)


@pytest.mark.parametrize(
    ("name", "write", "said"),
    [
        ("a.pt", nine_outputs, "found 9 outputs instead of 18"),
        ("a.pt", other_network, "unexpected layer1.0.conv3.weight"),
        ("a.pt", half_a_file, "expected weights and nothing else"),
        ("a.safetensors", without_a_layer, "found no layer4.2.conv1.weight"),
        ("a.pt", whole_model, "save its state_dict()"),
    ],
)
def test_a_checkpoint_that_holds_something_else_is_refused(tmp_path, name, write, said):
    write(tmp_path / name)
    found = problems(judge={"source": name}, attributes=GENDER)
    assert list(found) == ["judge.source"]
    assert said in found["judge.source"]


@pytest.mark.parametrize("legacy", [True, False])
def test_a_checkpoint_saved_from_parallel_training_is_what_it_holds(tmp_path, legacy):
    state = torch.nn.DataParallel(resnet34(num_classes=18)).state_dict()
    assert all(name.startswith("module.") for name in state)
    torch.save(state, tmp_path / "parallel.pt", _use_new_zipfile_serialization=not legacy)
    assert problems(judge={"source": "parallel.pt"}, attributes=GENDER) == {}


def test_features_are_those_of_torchvisions_inception(tmp_path):
    write_header(tmp_path / "inception.safetensors", INCEPTION)
    audited = {"judge": {"source": SEVEN}, "attributes": GENDER}
    assert problems(**audited, quality={"clip": "none", "features": "inception.safetensors"}) == {}
    for_fid = {name: shape for name, shape in INCEPTION.items() if not name.startswith("AuxLogits")}
    write_header(tmp_path / "fid.safetensors", for_fid | {"fc.weight": (1008, 2048), "fc.bias": (1008,)})
    found = problems(**audited, quality={"clip": "none", "features": "fid.safetensors"})["quality.features"]
    assert "found 1008 outputs instead of 1000" in found
    assert "not the one made for FID" in found


# ---- CLIP ----------------------------------------------------------------------------------------------------------


def clip_message(directory):
    quality = {"clip": str(directory), "features": "none"}
    return problems(judge={"source": SEVEN}, attributes=GENDER, quality=quality).get("quality.clip", "")


@pytest.fixture
def clip(tmp_path):
    return shutil.copytree(BUNDLED / "clip", tmp_path / "clip")


def test_an_open_clip_directory_of_the_users_is_accepted(clip):
    assert clip_message(clip) == ""


def test_a_clip_directory_in_transformers_layout_is_accepted_or_refused_in_words(tmp_path):
    from transformers import CLIPConfig, CLIPModel

    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config=small | {"vocab_size": 99}, vision_config=small | {"image_size": 32, "patch_size": 8}
    )
    CLIPModel(config).save_pretrained(tmp_path / "hf")
    assert "expected OpenAI's vocabulary of 49408 tokens, found 99 tokens" in clip_message(tmp_path / "hf")
    plain = json.loads((tmp_path / "hf" / "config.json").read_text())
    (tmp_path / "hf" / "config.json").write_text(json.dumps(plain | {"model_type": "siglip"}))
    assert "found one in the layout of transformers of another kind (siglip)" in clip_message(tmp_path / "hf")
    (tmp_path / "hf" / "config.json").write_text(json.dumps(plain))
    large = CLIPConfig(text_config=small, vision_config=small | {"image_size": 32, "patch_size": 8})
    CLIPModel(large).save_pretrained(tmp_path / "large")
    assert clip_message(tmp_path / "large") == ""
    shutil.copy(BUNDLED / "clip" / "open_clip_config.json", tmp_path / "hf")  # a config added by hand
    assert "expected the weights of the model in open_clip_config.json, found no" in clip_message(tmp_path / "hf")


def test_half_of_a_clip_model_is_no_clip_model(clip):
    weights = load_file(clip / "open_clip_model.safetensors")
    visual = {name: value for name, value in weights.items() if not name.startswith("transformer.")}
    save_file(visual, clip / "open_clip_model.safetensors")
    assert "found no transformer.resblocks.0" in clip_message(clip)


def test_position_embeddings_of_another_picture_size_are_not_resized_without_a_word(clip):
    config = json.loads((clip / "open_clip_config.json").read_text())
    config["model_cfg"]["vision_cfg"]["image_size"] = 128
    (clip / "open_clip_config.json").write_text(json.dumps(config))
    assert "visual.positional_embedding of shape [65, 96] instead of [257, 96]" in clip_message(clip)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda clip: (clip / "open_clip_model.safetensors").unlink(), "found no safetensors file"),
        (lambda clip: (clip / "open_clip_config.json").unlink(), "found no open_clip_config.json in it"),
        (lambda clip: (clip / "open_clip_config.json").write_text("{}"), "expected a model_cfg, found none"),
        (lambda clip: (clip / "open_clip_config.json").write_text("{"), "expected a plain config"),
        (
            lambda clip: (clip / "open_clip_config.json").write_text('{"model_cfg": {"embed_dim": 8}}'),
            "expected a config from which open_clip can build a model",
        ),
        (
            lambda clip: (clip / "open_clip_model.safetensors").write_bytes(b"\0" * 99),
            "expected weights and nothing else",
        ),
    ],
)
def test_a_clip_directory_that_lacks_something_is_refused(clip, change, said):
    change(clip)
    assert said in clip_message(clip)


# ---- groups that are left out --------------------------------------------------------------------------------------


def config_of(**sections):
    plain = {"name": "audit", "model": {"source": "rendered"}, "prompts": {"occupations": ["doctor"]}}
    return AuditConfig.model_validate(plain | sections)


def left_out_of(config):
    return left_out_groups(config.judge, config.model, config.attributes)


def test_groups_that_the_judge_knows_and_the_config_leaves_out_are_named():
    bundled = config_of(attributes={"age": ["old", "young"], "gender": ["female", "male"]})
    assert left_out_of(bundled) == {"age": ("adult",)}
    [warning] = warnings_of(bundled.judge, bundled.model, bundled.attributes)
    assert warning.startswith("attributes.age leaves out adult, which the judge can name too")
    four = config_of(judge={"source": FOUR}, attributes={"race": ["white", "black"]})
    assert left_out_of(four) == {"race": ("asian", "indian")}
    seven = config_of(judge={"source": SEVEN}, attributes={"race": ["white", "black"]})
    assert left_out_of(seven)["race"] == ("latino", "asian", "indian", "middle_eastern")
    assert left_out_of(config_of()) == {}


def warned(**sections):
    config = config_of(**sections)
    return [w for w in warnings_of(config.judge, config.model, config.attributes) if "min_confidence" in w]


def test_a_confidence_that_every_image_has_is_warned_of():
    gender = {"attributes": {"gender": ["female", "male"]}}
    [warning] = warned(**gender)
    assert "judge.min_confidence: 0.5 excludes no image: the most probable of 2 groups" in warning
    assert warned(**gender, judge={"min_confidence": 0.51}) == []
    assert warned(**gender, judge={"min_confidence": 0.0}) == []
    assert warned() == []
    [warning] = warned(judge={"min_confidence": 0.5})  # set for three attributes, and one of them has two groups
    assert "0.5 excludes no image by gender: the most probable of 2 groups" in warning
    assert warned(attributes={"age": ["young", "old"]}) == []  # the judge knows a third group


def test_the_clip_model_of_a_zero_shot_judge_is_checked(tmp_path):
    (tmp_path / "clip").mkdir()
    sections = {"attributes": GENDER, "quality": {"clip": "none", "features": "none"}, "second_opinions": []}
    plain = config_of(judge={"source": "zero-shot", "zero_shot": {"clip": "clip"}}, **sections)
    [problem] = [problem for problem in check_ready(plain) if problem.location[0] == "judge"]
    assert problem.location == ("judge", "zero_shot", "clip")
    assert "expected an OpenCLIP directory" in problem.message
    long = " ".join(["face"] * 90)
    judge = {"source": "zero-shot", "zero_shot": {"captions": {"gender": {"female": long}}}}
    bundled = config_of(judge=judge, attributes=GENDER, quality={"clip": "bundled", "features": "none"})
    assert any("would be cut" in problem.message for problem in check_ready(bundled))
    plain = config_of(judge={"source": "zero-shot"}, attributes=GENDER)
    assert list(check_ready(plain)) == []


def test_an_attribute_with_groups_left_out_has_no_confusion_matrix():
    judge, model = config_of().judge, config_of().model
    whole = judge_confusions(judge, model, {"age": ("old", "young", "adult"), "gender": ("male", "female")})
    assert whole["age"].groups == ("old", "young", "adult")
    assert list(judge_confusions(judge, model, {"age": ("old", "young"), "gender": ("male", "female")})) == ["gender"]
