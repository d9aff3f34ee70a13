"""The location map: what is exchanged, what counts, and what a place that carries everything or nothing gives."""

import numpy as np
import pytest
import torch

from audit.analyses.analysis import Instruments
from audit.analyses.location import LocationAnalysis, LocationRequest, LocationTask, ends, followed
from audit.analyses.patching import swapped_images
from audit.config.sections import JudgeConfig, ModelConfig, SamplingConfig
from audit.measure.inference.intervals import share_estimate
from audit.models.generator import load_generator
from audit.perception.judges.registry import load_judge
from audit.records.work import Prompt

DOCTOR, NURSE = (Prompt(name, f"a face photo of a {name}", name) for name in ("doctor", "nurse"))
FEMALE, MALE = "a face photo of a female doctor", "a face photo of a male doctor"
GROUPS = {"gender": ("female", "male")}
SEEDS = [1, 2]


def request_of(**changes):
    plain = {"attributes": GROUPS, "prompts": (DOCTOR, NURSE), "template": "a face photo of {a} {occupation}",
             "hookpoints": ("mid_block", "up_blocks.0"), "images": 2, "batch": 2}  # fmt: skip
    return LocationRequest(**plain | changes)


@pytest.fixture(scope="module")
def unguided():
    """Without guidance there is no unconditional half: the conditional half is all that the network predicts."""
    return load_generator(ModelConfig(), SamplingConfig(steps=3, guidance=1.0))


def test_a_place_that_carries_everything_gives_the_image_of_the_other_prompt(unguided):
    plain, patched = swapped_images(unguided, (FEMALE, MALE), SEEDS, "conv_out")
    assert not torch.equal(plain[0], plain[1])
    assert torch.equal(patched[0], plain[1])
    assert torch.equal(patched[1], plain[0])


def test_a_place_that_does_not_read_the_prompt_carries_nothing(unguided):
    plain, patched = swapped_images(unguided, (FEMALE, MALE), SEEDS, "time_embedding")
    assert all(torch.equal(*pair) for pair in zip(plain, patched, strict=True))


def test_an_exchange_between_equal_prompts_changes_no_bit():
    guided = load_generator(ModelConfig(), SamplingConfig(steps=3))
    plain, patched = swapped_images(guided, (MALE, MALE), SEEDS, "mid_block")
    assert all(torch.equal(images, plain[0]) for images in (*plain, *patched))


def test_images_whose_prompts_do_not_decide_the_group_are_not_counted():
    plain = np.array([0, 0, 1, -1, 0]), np.array([1, 1, 1, 1, 0])
    patched = np.array([1, 0, 1, 1, 1]), np.array([-1, 0, 0, 0, 0])
    assert followed(plain, patched, (0, 1)).tolist() == [[1, 1], [2, 2], [5, 5]]


def test_the_first_and_the_last_group_are_exchanged():
    assert ends(("young", "adult", "old")) == ("young", "old")


def test_counts_of_all_prompts_and_directions_become_a_share_with_its_interval():
    request, analysis = request_of(attributes=GROUPS | {"age": ("young", "old")}), LocationAnalysis()
    assert [task.id for task in analysis.tasks(request)] == [
        "doctor.mid_block", "doctor.up_blocks.0", "nurse.mid_block", "nurse.up_blocks.0"
    ]  # fmt: skip
    part = {
        "followed": np.array([[2, 1], [0, 0]]), "counted": np.array([[2, 2], [0, 0]]), "sampled": np.full((2, 2), 2)
    }  # fmt: skip
    places = analysis.combine(request, [part] * 4).places
    assert [(place.attribute, place.hookpoint) for place in places] == [
        (name, path) for name in ("gender", "age") for path in ("mid_block", "up_blocks.0")
    ]
    assert places[0].share == share_estimate(6, 8)
    assert (places[0].groups, places[0].counted, places[0].sampled) == (("female", "male"), 8, 8)
    assert places[2].share is None
    with pytest.raises(ValueError, match=r"expected a part for task nurse\.up_blocks\.0, found none"):
        analysis.combine(request, [part] * 3 + [None])


def test_gender_of_the_bundled_model_follows_its_bottleneck():
    generator = load_generator(ModelConfig(), SamplingConfig(steps=10))
    instruments = Instruments(generator, load_judge(JudgeConfig(), ModelConfig(), GROUPS))
    part = LocationAnalysis().part(instruments, request_of(), LocationTask(DOCTOR, "mid_block"))
    assert part["sampled"].tolist() == [[2, 2]]
    assert part["counted"].sum() >= 2
    assert part["followed"].tolist() == part["counted"].tolist()
