"""The counts of a location map: what is exchanged, what counts, and what a place that carries all or nothing gives."""

import numpy as np
import pytest
import torch

from audit.analyses import patching
from audit.analyses.analysis import Instruments
from audit.analyses.location import LocationAnalysis, LocationRequest, LocationTask, Question
from audit.analyses.patching import Images, Recorded, groups_of_places
from audit.config.sections import JudgeConfig, ModelConfig, SamplingConfig
from audit.models.generator import load_generator
from audit.perception.judges.registry import load_judge
from audit.records.located.places import Place
from audit.records.work import Prompt
from benchmarks.tiny_families import save_pixart

DOCTOR, NURSE = (Prompt(name, f"a face photo of a {name}", name) for name in ("doctor", "nurse"))
FEMALE, MALE = "a face photo of a female doctor", "a face photo of a male doctor"
GENDER, AGE = ("female", "male"), ("young", "adult", "old")
PAIR = Images((FEMALE, FEMALE, MALE, MALE), (1, 2, 1, 2))
PARTNERS = [2, 3, 0, 1]


def question_of(place="mid_block", attribute="gender", groups=GENDER):
    return Question(attribute, groups, (groups[0], groups[-1]), Place.parse(place))


def request_of(*places, **changes):
    plain = {"questions": tuple(map(question_of, places or ("mid_block",))), "prompts": (DOCTOR, NURSE),
             "template": "a face photo of {a} {occupation}", "images": 2, "batch": 4}  # fmt: skip
    return LocationRequest(**plain | changes)


@pytest.fixture(scope="module")
def unguided():
    """Without guidance there is no unconditional half: the conditional half is all that the network predicts."""
    return load_generator(ModelConfig(), SamplingConfig(steps=3, guidance=1.0))


def exchanged(generator, place):
    plain = Recorded.sample(generator, PAIR, [place])
    return plain.pictures, plain.into(generator, PAIR, place, PARTNERS)


def test_a_place_that_carries_everything_gives_the_image_of_the_other_prompt(unguided):
    plain, patched = exchanged(unguided, Place("conv_out"))
    assert not torch.equal(plain[:2], plain[2:])
    assert torch.equal(patched, plain[PARTNERS])


def test_a_place_that_does_not_read_the_prompt_carries_nothing(unguided):
    plain, patched = exchanged(unguided, Place("time_embedding"))
    assert torch.equal(patched, plain)


def test_skips_and_outputs_of_all_down_blocks_carry_what_they_read_between_them(unguided):
    """In the first block nothing is read: its skips differ only through earlier steps."""
    places = [Place("down_blocks.0", "skips"), Place("down_blocks.0", "output")]
    for place in places:
        plain, patched = exchanged(unguided, place)
        assert not torch.equal(patched, plain)
        assert not torch.equal(patched, plain[PARTNERS])


@pytest.mark.parametrize("place", ["mid_block", "output:down_blocks.0", "skips:down_blocks.0", "text:up_blocks.0"])
def test_values_of_the_same_run_change_no_bit(place):
    guided = load_generator(ModelConfig(), SamplingConfig(steps=3))
    plain = Recorded.sample(guided, PAIR, [Place.parse(place)])
    assert torch.equal(plain.into(guided, PAIR, Place.parse(place)), plain.pictures)


def test_a_text_takes_the_mask_of_its_tokens_along(tmp_path):
    """PixArt hides what is behind the end of a text; under the mask of a shorter one, more would be hidden."""
    model, sampling = ModelConfig(source=str(save_pixart(tmp_path))), SamplingConfig(steps=2, guidance=1.0)
    generator, images = load_generator(model, sampling), Images((FEMALE, "a doctor"), (1, 1))
    second = generator.denoiser.transformer_blocks[1].attn2.to_out[0]
    second.weight.data.zero_()  # it reads no text, so that the first block's carries everything
    second.bias.data.zero_()
    place = Place("transformer_blocks.0", "text")
    plain = Recorded.sample(generator, images, [place])
    assert not torch.equal(plain.pictures[0], plain.pictures[1])
    assert torch.equal(plain.into(generator, images, place, [1, 0]), plain.pictures[[1, 0]])
    assert torch.equal(plain.into(generator, images, place), plain.pictures)


def test_a_window_patches_its_own_steps_alone(unguided):
    place = Place("conv_out", window=(0.67, 1.0))
    plain = Recorded.sample(unguided, PAIR, [place])
    last = plain.into(unguided, PAIR, place, PARTNERS)
    assert not torch.equal(last, plain.pictures)
    assert not torch.equal(last, plain.pictures[PARTNERS])


def test_text_is_kept_once_and_maps_at_every_step(unguided):
    places = [Place("up_blocks.0", "text"), Place("mid_block")]
    plain = Recorded.sample(unguided, PAIR, places)
    text, maps = (plain.maps[place].bytes_per_image for place in places)
    assert text == plain.maps[places[0]].maps[0][0].nbytes
    assert maps == 3 * plain.maps[places[1]].maps[0][0].nbytes


def test_places_are_recorded_together_as_far_as_memory_goes(unguided, monkeypatch):
    places = [Place("mid_block", window=(0.0, 0.5)), Place("mid_block"), Place("conv_in"), Place("conv_out")]
    assert [*groups_of_places(unguided, FEMALE, places, 4)] == [tuple(places)]
    mid = 128 * 4 * 4 * 4 * unguided.steps * 4
    monkeypatch.setattr(patching, "RECORDED_BYTES", mid)
    groups = [*groups_of_places(unguided, FEMALE, places, 4)]
    assert groups[0] == tuple(places[:2])  # windows share their maps
    assert [place for group in groups for place in group] == places
    assert len(groups) > 1


class KnownPictures:
    """A judge that names the group of known pictures, and none of others."""

    def __init__(self, pictures, codes):
        self._known = {picture.numpy().tobytes(): code for picture, code in zip(pictures, codes, strict=True)}

    def perceive(self, images, occupation):
        found = np.array([self._known.get(image.numpy().tobytes(), -1) for image in images])
        return type("Perceived", (), {"codes": staticmethod(lambda attribute: found)})()


def test_images_whose_prompts_do_not_decide_the_group_are_not_counted(unguided):
    request, task = request_of("conv_out", "time_embedding"), LocationTask(DOCTOR, NURSE, "")
    from audit.records.work import derive_seed

    seeds = [derive_seed("location", "doctor", i) for i in range(2)]
    pictures = unguided.sample([FEMALE, FEMALE, MALE, MALE], seeds * 2)
    # The second pair shows one group in both of its runs.
    judge = KnownPictures(pictures, [0, 1, 1, 1])
    part = LocationAnalysis().part(Instruments(unguided, judge), request, task)
    assert part["sampled"].tolist() == [[2, 2], [2, 2]]
    assert part["counted"].tolist() == [[1, 1], [1, 1]]
    assert part["followed"].tolist() == [[1, 1], [0, 0]]


def test_the_controls_count_what_changes_with_the_same_run_and_with_another_occupation(unguided):
    task = LocationTask(DOCTOR, NURSE, "")
    judge = load_judge(JudgeConfig(), ModelConfig(), {"gender": GENDER})
    same = LocationAnalysis().part(Instruments(unguided, judge), request_of("mid_block", control="same_run"), task)
    assert same["changed"].tolist() == [[0, 0]]
    assert same["controlled"].tolist() == [[2, 2]]
    request = request_of("time_embedding", control="other_prompt")
    other = LocationAnalysis().part(Instruments(unguided, judge), request, task)
    assert other["changed"].sum() == 0
    alone = LocationAnalysis().part(Instruments(unguided, judge), request, LocationTask(DOCTOR, DOCTOR, ""))
    assert alone["controlled"].sum() == 0  # with one prompt there is no other


def test_counts_do_not_depend_on_the_batch(unguided):
    judge = load_judge(JudgeConfig(), ModelConfig(), {"gender": GENDER, "age": AGE})
    questions = (question_of("mid_block"), question_of("mid_block", "age", AGE), question_of("conv_out"))
    task = LocationTask(DOCTOR, NURSE, "")
    parts = [
        LocationAnalysis().part(
            Instruments(unguided, judge), request_of(questions=questions, batch=batch, control="other_prompt"), task
        )
        for batch in (2, 8)
    ]
    assert {name: array.tolist() for name, array in parts[0].items()} == {
        name: array.tolist() for name, array in parts[1].items()
    }


def test_counts_of_all_prompts_are_added():
    request, analysis = request_of("mid_block", "up_blocks.0"), LocationAnalysis()
    tasks = analysis.tasks(request)
    assert [task.id for task in tasks] == [f"{pair}.{request.digest}" for pair in ("doctor.nurse", "nurse.doctor")]
    part = {"followed": np.array([[2, 1], [0, 0]]), "counted": np.array([[2, 2], [0, 0]]), "bytes": np.array([7, 8]),
            "sampled": np.full((2, 2), 2), "changed": np.zeros((2, 2)), "controlled": np.full((2, 2), 2)}  # fmt: skip
    first, second = analysis.combine(request, [part, part])
    assert (first.followed, first.counted, first.sampled) == ((4, 2), (4, 4), (4, 4))
    assert (second.question, second.bytes_per_image) == (request.questions[1], 8)
    with pytest.raises(ValueError, match="expected a part for task nurse"):
        analysis.combine(request, [part, None])


def test_gender_of_the_bundled_model_follows_its_bottleneck():
    generator = load_generator(ModelConfig(), SamplingConfig(steps=10))
    instruments = Instruments(generator, load_judge(JudgeConfig(), ModelConfig(), {"gender": GENDER}))
    part = LocationAnalysis().part(instruments, request_of(), LocationTask(DOCTOR, NURSE, ""))
    assert part["sampled"].tolist() == [[2, 2]]
    assert part["counted"].sum() >= 2
    assert part["followed"].tolist() == part["counted"].tolist()
