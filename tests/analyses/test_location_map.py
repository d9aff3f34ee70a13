"""A location map in stages, and planted controls: the place where an attribute enters a model is found."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from audit.analyses.analysis import Instruments
from audit.analyses.location import Counts, LocationAnalysis
from audit.analyses.location_map import MapRequest
from audit.config.sections import ModelConfig, SamplingConfig
from audit.models.families.registry import places_here
from audit.models.generator import load_generator
from audit.records.located.location import LocationMap
from audit.records.located.places import Place
from audit.records.work import Prompt, derive_seed
from reports.figures.location_words import decision_text, not_controllable, population_text

PROMPTS = tuple(Prompt(name, f"a face photo of a {name}", name) for name in ("doctor", "nurse", "person"))
TEMPLATE = "a face photo of {a} {occupation}"
GENDER, AGE = ("female", "male"), ("young", "adult", "old")
MID, TEXT = Place("mid_block"), Place("up_blocks.0", "text")


def request_of(**changes):
    plain = {"attributes": {"gender": GENDER, "age": AGE}, "prompts": PROMPTS, "template": TEMPLATE,
             "places": (MID, TEXT), "always": (MID,), "images": 4, "batch": 8, "screened_prompts": 2}  # fmt: skip
    return MapRequest(**plain | changes)


def counts_of(request, followed, counted=12, size=100):
    """Counts of a stage: attribute and place → images that follow."""
    return tuple(
        Counts(one, (n, n), (counted, counted), (counted, counted), (0, 1), (counted, counted), size)
        for one in request.questions
        for n in [followed[one.attribute, one.place.at_all_steps]]
    )


FOLLOWED = {("gender", MID): 12, ("gender", TEXT): 0, ("age", MID): 2, ("age", TEXT): 11}


def test_only_places_that_may_carry_an_attribute_are_counted_and_those_of_the_lens():
    request = request_of()
    assert (request.screening.images, len(request.screening.prompts), request.screening.control) == (1, 2, "same_run")
    counting = request.counting(counts_of(request.screening, FOLLOWED))
    assert [(one.attribute, one.place) for one in counting.questions] == [("gender", MID), ("age", MID), ("age", TEXT)]
    assert (counting.images, counting.control) == (4, "other_prompt")


def test_a_place_without_a_counted_image_in_the_screening_is_counted():
    request = request_of(always=())
    counting = request.counting(counts_of(request.screening, dict.fromkeys(FOLLOWED, 0), counted=0))
    assert len(counting.questions) == 4


def map_of(request, followed=FOLLOWED, sizes=(100, 100)):
    screened = counts_of(request.screening, followed, size=sizes[0])
    counted = counts_of(request.counting(screened), followed, size=sizes[1])
    windows = request.windowing(counted)
    late = tuple(
        replace(one, followed=(one.followed if one.question.place.window[1] == 1 else (0, 0)))
        for one in counts_of(windows, followed)
    )
    return request.assemble(screened, counted, late, "fingerprint", 25)


def test_the_cheapest_place_is_named_and_a_window_that_suffices():
    found = map_of(request_of())
    assert [(one.attribute, one.place, one.window) for one in found.decisions] == [
        ("gender", "mid_block", (0.67, 1.0)), ("age", "text:up_blocks.0", (0.67, 1.0))
    ]  # fmt: skip
    rows = {(row.attribute, row.place): row for row in found.places}
    assert rows["gender", "text:up_blocks.0"].stage == "screened"
    assert rows["gender", "text:up_blocks.0"].other_prompt is None
    assert rows["age", "mid_block"].stage == "counted"
    assert rows["age", "mid_block"].other_prompt.value == 1 / 24
    assert (rows["age", "mid_block"].calls_per_image, rows["age", "text:up_blocks.0"].calls_per_image) == (50, 25)
    assert rows["age", "text:up_blocks.0@0-0.33"].share.value == 0


def test_text_is_cheaper_than_any_map():
    found = map_of(request_of(), dict.fromkeys(FOLLOWED, 12))
    assert {one.place for one in found.decisions} == {"text:up_blocks.0"}
    assert found.decisions[0].carriers == ("text:up_blocks.0", "mid_block")


def test_an_attribute_that_no_place_carries_is_not_decided_at_one_place():
    found = map_of(request_of(), {**FOLLOWED, ("age", TEXT): 5})
    assert found.decision("age").place is None
    assert "not decided at one place" in decision_text(found, found.decision("age"))


def test_the_limit_is_a_setting():
    found = map_of(request_of(carries=0.4), {**FOLLOWED, ("age", TEXT): 5})
    assert found.decision("age").place == "text:up_blocks.0"


def test_with_every_pair_a_place_must_carry_all_of_them():
    request = request_of(pairs="all")
    assert len(request.screening.questions) == 2 * (1 + 3)
    screened = counts_of(request.screening, FOLLOWED)
    counted = [*counts_of(request.counting(screened), FOLLOWED)]
    assert request.assemble(screened, counted, (), "f", 25).decision("age").place == "text:up_blocks.0"
    spoiled = next(i for i, one in enumerate(counted) if one.question.exchanged == ("adult", "old"))
    counted[spoiled + 1] = replace(counted[spoiled + 1], followed=(0, 0))
    assert request.assemble(screened, counted, (), "f", 25).decision("age").place is None


def test_a_map_is_read_back_as_it_was_stored():
    found = map_of(request_of())
    assert LocationMap.of_data(found.as_data()) == found
    with pytest.raises(ValueError, match="expected a location map of format 1, found 9"):
        LocationMap.of_data(found.as_data() | {"format_version": 9})


def test_a_lens_at_another_place_is_warned_of():
    found = map_of(request_of())
    assert not_controllable(found, "gender", "mid_block") is None
    sentence = not_controllable(found, "age", "mid_block")
    assert sentence.replace("\N{NO-BREAK SPACE}", " ") == (
        "age is not controllable at mid_block (share 17 %); it is decided at text:up_blocks.0."
    )
    assert not_controllable(found, "age", "up_blocks.1") is None  # the map has nothing on it


def test_a_control_that_fails_is_said():
    found = map_of(request_of())
    assert any("other figures cannot be trusted" in line for line in population_text(found))


class NearestPicture:
    """A judge that names the group of the nearest known picture."""

    def __init__(self, known):
        self._known = torch.stack([*known]).flatten(2).float()  # (groups, pictures, pixels)

    def perceive(self, images, occupation):
        distances = torch.cdist(images.flatten(1).float(), self._known.flatten(0, 1))
        codes = (distances.argmin(1) // self._known.shape[1]).numpy()
        return type("Perceived", (), {"codes": staticmethod(lambda attribute: codes)})()


TEXT_BLOCKS = ("down_blocks.1", "mid_block", "up_blocks.0")
UPSTREAM = {
    "down_blocks.1": (),
    "mid_block": ("output:down_blocks.0", "output:down_blocks.1"),
    "up_blocks.0": ("output:down_blocks.0", "output:down_blocks.1", "mid_block"),
}


@pytest.mark.parametrize("planted", TEXT_BLOCKS)
def test_the_block_whose_cross_attention_alone_reads_the_prompt_is_found(tiny_pipeline, planted):
    model = ModelConfig(source=str(tiny_pipeline))
    generator = load_generator(model, SamplingConfig(steps=2, guidance=2.0, scheduler="DDIMScheduler"))
    with torch.no_grad():
        for name, module in generator.denoiser.named_modules():
            if name.endswith("attn2"):
                own = name.startswith(planted)
                module.to_out[0].weight.mul_(40 if own else 0)
                module.to_out[0].bias.mul_(float(own))
    request = request_of(
        attributes={"gender": GENDER}, prompts=PROMPTS[:2], places=places_here(model), always=(), images=3
    )
    texts = {
        group: [f"a face photo of a {group} {prompt.occupation}" for prompt in PROMPTS[:2] for _ in range(3)]
        for group in GENDER
    }
    seeds = [derive_seed("location", prompt.id, i) for prompt in PROMPTS[:2] for i in range(3)]
    judge = NearestPicture(generator.sample(texts[group], seeds) for group in GENDER)
    found = mapped(Instruments(generator, judge), request, generator.steps)
    assert found.same_run[0] == 0
    assert found.decision("gender").place == f"text:{planted}"
    shares = {row.place: row.share.value for row in found.places if row.is_at_all_steps}
    assert shares[f"text:{planted}"] == 1
    silent = [f"text:{block}" for block in TEXT_BLOCKS if block != planted]
    assert {place: shares[place] for place in silent} == dict.fromkeys(silent, 0)
    # What a block hands over before the planted one differs only because earlier steps have drawn something else.
    assert not set(UPSTREAM[planted]) & set(found.decision("gender").carriers)


def mapped(instruments, request, steps):
    """Make a map as the driver does, in one process."""
    analysis = LocationAnalysis()

    def count(stage):
        return analysis.combine(stage, [analysis.part(instruments, stage, task) for task in analysis.tasks(stage)])

    screened = count(request.screening)
    counted = count(request.counting(screened))
    return request.assemble(screened, counted, count(request.windowing(counted)), "planted", steps)


def test_nothing_is_found_where_the_prompt_is_read_nowhere(tiny_pipeline):
    model = ModelConfig(source=str(tiny_pipeline))
    generator = load_generator(model, SamplingConfig(steps=2, guidance=2.0, scheduler="DDIMScheduler"))
    with torch.no_grad():
        for name, module in generator.denoiser.named_modules():
            if name.endswith("attn2"):
                module.to_out[0].weight.zero_()
    judge = type("Sure", (), {"perceive": staticmethod(lambda images, occupation: Halves(len(images)))})()
    request = request_of(attributes={"gender": GENDER}, prompts=PROMPTS[:1], places=places_here(model), images=1)
    found = mapped(Instruments(generator, judge), request, generator.steps)
    assert found.decision("gender").place is None


class Halves:
    """The first half of a batch shows the first group, whatever is patched: its images do not follow."""

    def __init__(self, count):
        self._codes = np.repeat([0, 1], count // 2)

    def codes(self, attribute):
        return self._codes
