"""The prompt method names the assigned group in each image's prompt, for all blocks or some, and does nothing else."""

from itertools import pairwise

import pytest
import torch
import yaml

from audit.config.file import ConfigErrors, read_config
from audit.config.mitigations.texts import PromptConfig
from audit.config.sections import ModelConfig, SamplingConfig
from audit.config.settings import AuditConfig
from audit.mitigate.method import Batch
from audit.mitigate.texts.prompt import PromptMethod
from audit.models.generator import between, load_generator
from audit.models.intervention import Intervention
from audit.preflight.readiness import check_ready
from audit.records.work import Prompt
from benchmarks.tiny_families import FAMILIES

TEMPLATE = "a face photo of {a} {occupation}"
DOCTOR = Prompt("doctor", "a face photo of a doctor", "doctor")


def texts_of(mitigation, *groups):
    found = PromptMethod().ready(mitigation, None, None)(Batch(DOCTOR, groups, 4, TEMPLATE))
    assert found == Intervention(groups, range(4), texts=found.texts)
    return found.texts


def test_every_image_has_its_own_group_in_its_prompt():
    found = texts_of(PromptConfig(name="words", method="prompt", attribute="age"), "old", "young", "old")
    assert found == tuple(f"a face photo of {age} doctor" for age in ("an old", "a young", "an old"))


@pytest.mark.parametrize(
    ("attribute", "words", "expected"),
    [("skin_tone", {}, "a tan skinned doctor"), ("gender", {"tan": "brown"}, "a brown doctor")],
)
def test_a_group_is_named_as_one_says_it_or_as_the_config_does(attribute, words, expected):
    mitigation = PromptConfig(name="words", method="prompt", attribute=attribute, words=words)
    assert texts_of(mitigation, "tan") == (f"a face photo of {expected}",)


SEEDS = [1, 2]


@pytest.fixture(scope="module")
def generator(tiny_pipeline):
    model = ModelConfig(source=str(tiny_pipeline))
    return load_generator(model, SamplingConfig(steps=4, guidance=3.0, scheduler="DDIMScheduler"))


def images_of(generator, **keys):
    mitigation = PromptConfig(name="words", method="prompt", attribute="gender", **keys)
    intervention = PromptMethod().ready(mitigation, None, None)(Batch(DOCTOR, ("female", "male"), 4, TEMPLATE))
    return generator.generate(DOCTOR, SEEDS, intervention)


NAMED = ["a face photo of a female doctor", "a face photo of a male doctor"]
BLOCKS = ["down_blocks.1", "mid_block", "up_blocks.0"]


@pytest.mark.parametrize("blocks", [[], ["mid_block"]])
def test_strength_0_is_the_own_prompt_bit_for_bit(generator, blocks):
    assert torch.equal(images_of(generator, strength=0, blocks=blocks), generator.generate(DOCTOR, SEEDS))


def test_strength_1_for_all_blocks_is_the_caption_bit_for_bit(generator):
    expected = generator.sample(NAMED, SEEDS)
    assert not torch.equal(expected, generator.generate(DOCTOR, SEEDS))
    assert torch.equal(images_of(generator, strength=1), expected)
    assert torch.equal(images_of(generator), expected)
    assert torch.equal(images_of(generator, blocks=BLOCKS), expected)


@pytest.mark.parametrize("family", ["pixart", "sana"])
def test_blocks_of_a_transformer_read_the_caption_with_the_mask_of_its_own_tokens(family, tmp_path):
    """The captions are longer than the prompt, whose mask would hide their ends."""
    sampling = SamplingConfig(steps=3, guidance=3.0)
    generator = load_generator(ModelConfig(source=str(FAMILIES[family](tmp_path))), sampling)
    own = generator.generate(DOCTOR, SEEDS)
    every = [f"transformer_blocks.{place}" for place in range(len(generator.denoiser.transformer_blocks))]
    shown = [generator.embeddings(text)["prompt_embeds"].shape[1] for text in (DOCTOR.text, *NAMED)]
    assert min(shown[1:]) > shown[0]
    whole = images_of(generator)
    assert not torch.equal(whole, own)
    assert (images_of(generator, blocks=every).int() - whole.int()).abs().max() <= 1
    assert torch.equal(images_of(generator, blocks=every, strength=0), own)
    half = images_of(generator, blocks=every, strength=0.5)
    assert (half.int() - images_of(generator, strength=0.5).int()).abs().max() <= 1
    some = [half, *(images_of(generator, blocks=[block]) for block in every[: len(every) - 1])]
    assert all(not torch.equal(images, other) for images in some for other in (own, whole))


def test_other_strengths_lie_between_and_beyond(generator):
    found = [images_of(generator, strength=strength) for strength in (0, 0.5, 1, 2)]
    assert all(not torch.equal(one, other) for one, other in pairwise(found))
    own, named = torch.tensor([1.0, -2.0]), torch.tensor([3.0, 2.0])
    assert between(own, named, 0.5).tolist() == [2.0, 0.0]
    assert between(own, named, 2.0).tolist() == [5.0, 6.0]
    assert between(torch.tensor([1, 0, 0]), torch.tensor([1, 1, 0]), 0.5).tolist() == [1, 1, 0]  # a mask


def test_some_blocks_alone_read_the_caption_within_the_window(generator):
    plain, some = generator.generate(DOCTOR, SEEDS), images_of(generator, blocks=["mid_block"])
    late = images_of(generator, blocks=["mid_block"], window=[0.5, 1])
    assert not any(torch.equal(*pair) for pair in ((some, plain), (late, plain), (late, some)))
    assert not torch.equal(some, generator.sample(NAMED, SEEDS))
    assert torch.equal(generator.generate(DOCTOR, SEEDS), plain)


def problems_of(tiny_pipeline, **keys):
    mitigation = {"name": "words", "method": "prompt", "attribute": "gender", **keys}
    config = {"name": "a", "model": {"source": str(tiny_pipeline)}, "mitigations": [mitigation],
              "prompts": {"occupations": ["doctor"]}, "sampling": {"steps": 4, "guidance": 3.0},
              "judge": {"source": "zero-shot"}, "quality": {"features": "none"}}  # fmt: skip
    path = tiny_pipeline.parent / "audit.yaml"
    path.write_text(yaml.safe_dump(config))
    try:
        read_config(path, [], [check_ready])
    except ConfigErrors as mistakes:
        return [str(error) for error in mistakes.errors]
    return []


@pytest.mark.parametrize("blocks", [[], ["mid_block"]])
def test_each_image_has_the_strength_that_was_searched_for_its_group(generator, blocks):
    mitigation = PromptConfig(name="words", method="prompt", attribute="gender", blocks=blocks, strength="search")
    groups = ("female", "male")
    batch = Batch(DOCTOR, groups, 4, TEMPLATE, groups, strengths=(0.0, 0.5))
    found = generator.generate(DOCTOR, SEEDS, PromptMethod().ready(mitigation, None, None)(batch))
    assert torch.equal(found[0], generator.generate(DOCTOR, SEEDS)[0])
    assert torch.equal(found[1], images_of(generator, strength=0.5, blocks=blocks)[1])


def test_a_search_that_was_not_made_is_refused(generator):
    with pytest.raises(ValueError, match="expected strengths that were searched for 'doctor', found none"):
        images_of(generator, strength="search")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"window": [0.5, 1]}, "expected blocks beside a window"),
        ({"blocks": ["mid_blok"]}, "mid_block"),
        ({"blocks": ["up_blocks.1"]}, "must read text"),
        ({"blocks": ["up blocks"]}, "address of a module"),
        ({"strength": -1}, "expected at least 0"),
    ],
)
def test_what_no_block_can_read_is_refused_with_its_place(tiny_pipeline, keys, message):
    found = problems_of(tiny_pipeline, **keys)
    assert any(message in error and f"mitigations[0].{next(iter(keys))}" in error for error in found), found


def test_blocks_that_read_text_are_accepted(tiny_pipeline):
    found = problems_of(tiny_pipeline, blocks=["up_blocks.0"], strength=1.5, window=[0.25, 1])
    assert not [error for error in found if "mitigations" in error]


def test_a_plain_section_is_dumped_as_before():
    mitigation = {"name": "words", "method": "prompt", "attribute": "gender"}
    config = AuditConfig(name="a", mitigations=[mitigation])
    assert config.model_dump(mode="json")["mitigations"][0] == {**mitigation, "target": "uniform", "words": {}}
