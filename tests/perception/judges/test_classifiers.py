"""Judges: groups are matched by name and not by position, and images without a face have their own status."""

import re
import shutil

import numpy as np
import pytest
import torch
from torchvision.models import resnet34

from audit.calibration.bundle import BUNDLED
from audit.calibration.labels import ATTRIBUTES, OCCUPATIONS, face_noise
from audit.calibration.networks import DrawingNetwork
from audit.calibration.renderer import render
from audit.calibration.world import uniform_labels
from audit.config.sections import JudgeConfig, ModelConfig
from audit.models.files.untrusted_model import UnfitModelError
from audit.perception.judges.kinds.bundled import CalibrationJudge
from audit.perception.judges.kinds.fairface import FAIRFACE
from audit.perception.judges.registry import load_judge
from audit.records.work import Status
from audit.training.loop import seeded
from audit.training.readers import destroy_faces
from tests.pretended_gpu import pretended_gpu

FAIRFACE_GROUPS = {
    "gender": ("female", "male"),
    "race": ("white", "black", "latino", "asian", "indian", "middle_eastern"),
}


@pytest.fixture(scope="module")
def drawings():
    noise = face_noise(range(200))
    labels = uniform_labels(noise, OCCUPATIONS[:16])
    return render(labels, noise).images, labels


@pytest.fixture(scope="module")
def judge():
    return load_judge(JudgeConfig(min_confidence=0.0), ModelConfig(), ATTRIBUTES)


def test_the_bundled_judge_recognises_the_drawn_groups(judge, drawings):
    images, labels = drawings
    seen = judge.perceive(images, "doctor")
    for attribute in ATTRIBUTES:
        right = seen.probabilities[attribute].argmax(1) == getattr(labels, attribute)
        assert right.mean() >= 0.9


def test_groups_are_in_the_order_of_the_config(drawings):
    images, _ = drawings
    straight = load_judge(JudgeConfig(), ModelConfig(), {"gender": ("female", "male")}).perceive(images, "doctor")
    reversed_ = load_judge(JudgeConfig(), ModelConfig(), {"gender": ("male", "female")}).perceive(images, "doctor")
    assert np.array_equal(straight.probabilities["gender"], reversed_.probabilities["gender"][:, ::-1])


def test_the_prompted_occupation_is_recognised(judge, drawings):
    images, labels = drawings
    for index, occupation in enumerate(OCCUPATIONS[:4]):
        shown = judge.perceive(images, occupation).prompt_shown
        assert ((shown >= 0.5) == (labels.occupation == index)).mean() >= 0.9


def test_a_picture_with_a_destroyed_face_has_the_status_no_face(judge, drawings):
    images, _ = drawings
    x = destroy_faces(images.float() / 127.5 - 1, torch.Generator().manual_seed(0))
    destroyed = ((x + 1) * 127.5).round().clamp(0, 255).byte()
    missing = [status is Status.NO_FACE for status in judge.perceive(destroyed, "doctor").statuses]
    kept = [status is Status.NO_FACE for status in judge.perceive(images, "doctor").statuses]
    assert np.mean(missing) >= 0.9
    assert np.mean(kept) <= 0.05


def test_an_uncertain_answer_has_low_confidence(drawings):
    images, _ = drawings
    strict = load_judge(JudgeConfig(min_confidence=1.0), ModelConfig(), ATTRIBUTES)
    assert Status.LOW_CONFIDENCE in strict.perceive(images, "doctor").statuses


def test_a_group_that_the_judge_does_not_know_is_refused():
    with pytest.raises(ValueError, match="does not know the group 'other' of 'gender'"):
        load_judge(JudgeConfig(), ModelConfig(), {"gender": ("female", "male", "other")})


def test_fairface_sums_all_its_columns_into_groups(tmp_path, drawings):
    labels = FAIRFACE[7]
    columns = {group: c for attribute in labels.groups for group, c in labels.columns(attribute).items()}
    assert sorted(c for of_group in columns.values() for c in of_group) == list(range(18))
    assert (columns["asian"], columns["female"], columns["old"]) == ((3, 4), (8,), (16, 17))
    network = resnet34(num_classes=18)
    torch.save(network.state_dict(), tmp_path / "fairface.pt")
    config = JudgeConfig(source=str(tmp_path / "fairface.pt"), races=7, min_confidence=0.0)
    seen = load_judge(config, ModelConfig(source="anything"), FAIRFACE_GROUPS).perceive(drawings[0][:2], "doctor")
    for attribute, groups in FAIRFACE_GROUPS.items():
        assert seen.probabilities[attribute].shape == (2, len(groups))
        assert np.allclose(seen.probabilities[attribute].sum(1), 1, atol=1e-5)
    assert seen.prompt_shown is None


def fairface_seeing(path, races=7, **biases):
    """Save a checkpoint of random weights whose most probable columns are those with the largest biases."""
    with seeded(0):
        state = resnet34(num_classes=18).state_dict()
    state["fc.weight"] *= 0.01
    state["fc.bias"] = torch.zeros(18)
    for column, bias in biases.items():
        state["fc.bias"][int(column.removeprefix("c"))] = bias
    torch.save(state, path)
    return JudgeConfig(source=str(path), races=races)


def test_images_of_a_group_outside_the_config_are_not_assigned_to_other_groups(tmp_path, drawings):
    judged = fairface_seeing(tmp_path / "seven.pt", c2=9, c0=3, c8=9, c13=9, c17=3)
    audited = {"gender": ("female", "male"), "race": ("white", "black"), "age": ("young", "old")}
    seen = load_judge(judged, ModelConfig(source="x"), audited).perceive(drawings[0][:20], "doctor")
    assert seen.statuses == [Status.CLASSIFIED] * 20
    assert seen.lies_outside("race").all()
    assert seen.lies_outside("age").all()
    assert not seen.lies_outside("gender").any()
    assert seen.codes("race").tolist() == [-1] * 20
    assert seen.codes("gender").tolist() == [0] * 20
    assert (seen.probabilities["race"].sum(axis=1) < 0.1).all()


def test_confidence_uses_all_groups_that_the_judge_knows(tmp_path, drawings):
    """White .46 and black .23 give .67 for white among the two, but only .46 among the seven."""
    judged = fairface_seeing(tmp_path / "seven.pt", c0=2, c1=1.3).model_copy(update={"min_confidence": 0.6})
    seen = load_judge(judged, ModelConfig(source="x"), {"race": ("white", "black")}).perceive(drawings[0][:5], "doctor")
    assert (seen.among_groups("race")[:, 0] > 0.6).all()
    assert seen.statuses == [Status.LOW_CONFIDENCE] * 5


def test_a_four_race_checkpoint_is_read_with_its_layout(tmp_path, drawings):
    """Its third race is Asian, which is latino in the other layout."""
    groups = ("white", "black", "asian", "indian")
    named = fairface_seeing(tmp_path / "res34_fair_align_multi_4_20190809.pt", races=None, c2=9)
    for judge in (named, fairface_seeing(tmp_path / "mine.pt", races=4, c2=9)):
        seen = load_judge(judge, ModelConfig(source="x"), {"race": groups}).perceive(drawings[0][:8], "doctor")
        assert [groups[code] for code in seen.codes("race")] == ["asian"] * 8
    refused = JudgeConfig(source=named.source, races=7)
    with pytest.raises(UnfitModelError, match=r"expected races: 4 for res34_fair_align_multi_4_20190809\.pt"):
        load_judge(refused, ModelConfig(source="x"), {"race": groups})
    with pytest.raises(UnfitModelError, match="does not know the group 'latino' of 'race'"):
        load_judge(named, ModelConfig(source="x"), {"race": ("white", "latino")})


def test_a_checkpoint_saved_from_parallel_training_gives_the_same_answers(tmp_path, drawings):
    plain = fairface_seeing(tmp_path / "plain.pt", c8=1)
    state = torch.load(plain.source, weights_only=True)
    torch.save({f"module.{name}": value for name, value in state.items()}, tmp_path / "parallel.pt")
    parallel = plain.model_copy(update={"source": str(tmp_path / "parallel.pt")})
    seen = [
        load_judge(judge, ModelConfig(source="x"), {"gender": ("female", "male")}).perceive(drawings[0][:4], "doctor")
        for judge in (plain, parallel)
    ]
    assert np.array_equal(seen[0].probabilities["gender"], seen[1].probabilities["gender"])


def test_a_checkpoint_with_other_outputs_is_refused_with_both_numbers(tmp_path):
    torch.save(resnet34(num_classes=9).state_dict(), tmp_path / "nine.pt")
    with pytest.raises(UnfitModelError, match=r"nine\.pt: .* found 9 outputs instead of 18"):
        load_judge(JudgeConfig(source=str(tmp_path / "nine.pt")), ModelConfig(source="x"), {"age": ("young", "old")})


def test_the_bundled_judge_does_not_assign_other_groups_to_the_audited_ones(judge, drawings):
    images, _ = drawings
    two = load_judge(
        JudgeConfig(min_confidence=0.0), ModelConfig(), {"age": ("young", "old"), "gender": ("male", "female")}
    )
    seen, everyone = two.perceive(images, "doctor"), judge.perceive(images, "doctor")
    adult = everyone.codes("age") == ATTRIBUTES["age"].index("adult")
    assert adult.sum() > 20
    assert np.array_equal(seen.lies_outside("age"), adult)
    assert np.array_equal(seen.codes("age") == 0, everyone.codes("age") == 0)
    assert np.array_equal(seen.codes("gender"), 1 - everyone.codes("gender"))


def test_a_different_judge_with_the_same_name_has_a_different_signature(tmp_path):
    signatures = set()
    for seed in (0, 1):
        with seeded(seed):
            torch.save(resnet34(num_classes=18).state_dict(), tmp_path / "fairface.pt")
        config = JudgeConfig(source=str(tmp_path / "fairface.pt"), races=7)
        signatures.add(load_judge(config, ModelConfig(source="anything"), FAIRFACE_GROUPS).signature)
    assert len(signatures) == 2
    assert all(re.match(r"judge:fairface:fairface\.pt:[0-9a-f]{12}\|", signature) for signature in signatures)


def test_the_signature_of_the_bundled_judge_depends_on_its_weights_only(tmp_path):
    shutil.copytree(BUNDLED / "judge", tmp_path / "judge")
    before = CalibrationJudge(tmp_path / "judge", ATTRIBUTES, 0.5).signature
    (tmp_path / "judge" / "confusion.json").unlink()
    assert CalibrationJudge(tmp_path / "judge", ATTRIBUTES, 0.5).signature == before
    DrawingNetwork(DrawingNetwork.load(tmp_path / "judge").answers).save(tmp_path / "judge")
    assert CalibrationJudge(tmp_path / "judge", ATTRIBUTES, 0.5).signature != before


@pytest.mark.parametrize("source", ["bundled", "fairface.pt"])
def test_a_judge_gives_the_same_answers_on_a_gpu(tmp_path, drawings, source):
    groups = ATTRIBUTES if source == "bundled" else FAIRFACE_GROUPS
    torch.save(resnet34(num_classes=18).state_dict(), tmp_path / "fairface.pt")
    config = JudgeConfig(source=source if source == "bundled" else str(tmp_path / source), races=7)
    here = load_judge(config, ModelConfig(), groups)
    with pretended_gpu():
        there = load_judge(config, ModelConfig(), groups)
        assert {parameter.device.type for parameter in there._network.parameters()} == {"cuda"}
        found = there.perceive(drawings[0][:2], "doctor")
    expected = here.perceive(drawings[0][:2], "doctor")
    for name, values in expected.probabilities.items():
        np.testing.assert_array_equal(found.probabilities[name], values)
    assert found.statuses == expected.statuses


def test_fairface_refuses_unknown_attributes():
    with pytest.raises(ValueError, match="FairFace cannot judge 'skin_tone'"):
        load_judge(JudgeConfig(source="x.pt"), ModelConfig(source="y"), {"skin_tone": ("light", "dark")})


def test_other_models_have_no_bundled_judge():
    with pytest.raises(ValueError, match="has no bundled judge"):
        load_judge(JudgeConfig(), ModelConfig(source="somebody/model"), ATTRIBUTES)
