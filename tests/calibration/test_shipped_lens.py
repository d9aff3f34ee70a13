"""The bundled lens has searched strengths, controls gender, and reports that it hardly controls skin tone."""

import pytest

from audit.calibration.bundle import bundle_of
from audit.config.sections import ModelConfig
from audit.dissect.lens import Lens
from audit.dissect.prediction import is_trusted


@pytest.fixture(scope="module")
def lens():
    [directory] = bundle_of(ModelConfig()).lenses.iterdir()
    return Lens.load(directory)


def found(lens, attribute):
    return [strength for by_group in lens.strengths[attribute].values() for strength in by_group.values()]


def test_every_strength_was_tried_and_is_within_the_side_effect_budget(lens):
    budget = lens.settings["side_effect_budget"]
    for attribute in lens.groups:
        for strength in found(lens, attribute):
            assert strength.drawn in strength.tried
            assert strength.drawn.worth(budget) >= strength.tried[0].worth(budget)


def test_gender_is_controlled_for_all_prompts_and_its_strengths_can_be_predicted(lens):
    assert all(strength.control != "none" for strength in found(lens, "gender"))
    assert is_trusted(lens.prediction["gender"], lens.groups["gender"])
    assert max(line.error for line in lens.prediction["gender"].values()) < 0.35


@pytest.mark.parametrize("attribute", ["age", "skin_tone"])
def test_attributes_not_determined_by_this_layer_are_not_controllable_or_predicted(lens, attribute):
    poor = [strength.control == "none" for strength in found(lens, attribute)]
    assert sum(poor) > len(poor) / 2
    assert not is_trusted(lens.prediction[attribute], lens.groups[attribute])
