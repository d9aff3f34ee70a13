"""Every family: images are those of the stock pipeline bit for bit, and hooks read and edit what they say."""

import re

import diffusers
import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline

from audit.config.sections import ModelConfig, SamplingConfig
from audit.models.check import Sampled, model_problems
from audit.models.families.registry import places_here
from audit.models.generator import load_generator
from audit.models.intervention import Intervention
from audit.models.liveness import require_live
from audit.records.work import Prompt
from benchmarks.tiny_families import FAMILIES, save_pixart_sigma

SEEDS = [11, 22, 33]
TEXT = "a face photo of a doctor"
SIDE = {"flux": {"height": 32, "width": 32}}
HOOKPOINTS = {
    "sd": ("mid_block", "down_blocks.1", "up_blocks.0.resnets.0"),
    "sdxl": ("mid_block", "up_blocks.0", "mid_block.attentions.0.transformer_blocks.0"),
    "sd3": ("transformer_blocks.0", "transformer_blocks.1"),
    "flux": ("transformer_blocks.0", "single_transformer_blocks.0"),
    "pixart": ("transformer_blocks.0",),
    "pixart-sigma": ("transformer_blocks.0",),
    "sana": ("transformer_blocks.0",),
    "lcm": ("mid_block",),
    "ddpm": ("mid_block", "down_blocks.0"),
}
SETTINGS = [
    ("sd", {"guidance": 3.0}),
    ("sd", {"guidance": 1.0}),
    ("sd", {"guidance": 3.0, "negative_prompt": "a nurse"}),
    ("sd", {"guidance": 3.0, "height": 24, "width": 32}),
    *[
        ("sd", {"guidance": 3.0, "scheduler": name})
        for name in (
            "DDIMScheduler",
            "DDPMScheduler",
            "DPMSolverMultistepScheduler",
            "EulerAncestralDiscreteScheduler",
            "EulerDiscreteScheduler",
            "HeunDiscreteScheduler",
            "LCMScheduler",
            "UniPCMultistepScheduler",
        )
    ],
    ("sdxl", {"guidance": 5.0}),
    ("sdxl", {"guidance": 0.0, "scheduler": "EulerAncestralDiscreteScheduler"}),
    ("sdxl", {"guidance": 5.0, "negative_prompt": "a nurse", "scheduler": "LCMScheduler"}),
    ("sd3", {"guidance": 7.0}),
    ("sd3", {"guidance": 7.0, "negative_prompt": "a nurse", "scheduler": "FlowMatchHeunDiscreteScheduler"}),
    ("flux", {"guidance": 3.5}),
    ("flux", {"guidance": 3.5, "true_guidance": 4.0}),
    ("flux", {"guidance": 3.5, "true_guidance": 4.0, "negative_prompt": "a nurse"}),
    ("pixart", {"guidance": 4.5}),
    ("pixart", {"guidance": 1.0, "scheduler": "EulerDiscreteScheduler"}),
    ("pixart-sigma", {"guidance": 4.5, "negative_prompt": "a nurse"}),
    ("sana", {"guidance": 4.5}),
    ("lcm", {"guidance": 8.0}),
    ("ddpm", {"guidance": 1.0}),
    ("ddpm", {"guidance": 1.0, "scheduler": "DDIMScheduler"}),
]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Directory of the tiny pipeline of a family."""
    made = {}

    def directory(name):
        if name not in made:
            maker = save_pixart_sigma if name == "pixart-sigma" else FAMILIES[name]
            made[name] = maker(tmp_path_factory.mktemp(name))
        return made[name]

    return directory


@pytest.fixture(scope="module")
def loaded(saved):
    """Generator of a family at a guidance; a test that edits it must leave it as it was, and checks that it did."""
    made = {}

    def generator(name, guidance, **more):
        key = (name, guidance, *more.items())
        if key not in made:
            made[key] = generator_of(saved(name), sampling_of(name, guidance=guidance, **more), HOOKPOINTS[name][0])
        return made[key]

    return generator


@pytest.fixture(scope="module")
def published(saved):
    """The stock pipeline of a family as from_pretrained loads it, and its scheduler."""
    made = {}

    def pipeline(name):
        if name not in made:
            loaded = DiffusionPipeline.from_pretrained(saved(name), local_files_only=True)
            loaded.set_progress_bar_config(disable=True)
            made[name] = (loaded, loaded.scheduler)
        return made[name]

    return pipeline


def sampling_of(name, **settings):
    return SamplingConfig(steps=4, **SIDE.get(name, {}), **settings)


def generator_of(directory, sampling, hookpoint):
    return load_generator(ModelConfig(source=str(directory)), sampling, hookpoint)


def guidance_of(name):
    return 1.0 if name == "ddpm" else 3.0


def prompt_of(name):
    return Prompt("p", "" if name == "ddpm" else TEXT, "doctor")


def stock(name, published, settings):
    """What a user of diffusers draws: from_pretrained, perhaps another scheduler, one call."""
    pipeline, own = published
    settings = dict(settings)
    kind = getattr(diffusers, settings.pop("scheduler", type(own).__name__))
    pipeline.scheduler = kind.from_config(own.config)
    more = {"prompt": TEXT, "num_images_per_prompt": 3, "guidance_scale": settings.pop("guidance")}
    if "true_guidance" in settings:
        more |= {"true_cfg_scale": settings.pop("true_guidance"), "negative_prompt": ""}
    if name == "ddpm":
        more = {"batch_size": 3}
    return pipeline(
        **more | settings | SIDE.get(name, {}),
        num_inference_steps=4,
        generator=[torch.Generator().manual_seed(seed) for seed in SEEDS],
    ).images


@pytest.mark.parametrize(("name", "settings"), SETTINGS, ids=lambda value: value if isinstance(value, str) else None)
def test_images_are_those_of_the_stock_pipeline_bit_for_bit(saved, published, name, settings):
    generator = generator_of(saved(name), sampling_of(name, **settings), HOOKPOINTS[name][0])
    drawn = generator.generate(prompt_of(name), SEEDS).permute(0, 2, 3, 1).numpy()
    expected = np.stack([np.asarray(image) for image in stock(name, published(name), settings)])
    assert drawn.dtype == expected.dtype == np.uint8
    np.testing.assert_array_equal(drawn, expected)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_whole_model_has_no_problems(saved, name):
    sampled = Sampled(sampling_of(name, guidance=1.0), {("lens", "hookpoint"): HOOKPOINTS[name][0]})
    assert model_problems(saved(name), ModelConfig(source=str(saved(name))), sampled) == ()


@pytest.mark.parametrize(
    ("name", "path", "guided"),
    [
        (name, path, guided)
        for name, paths in HOOKPOINTS.items()
        for path in paths
        for guided in (True, False)
        if not (name == "ddpm" and guided)  # it has no text to be guided by
    ],
)
def test_a_hookpoint_is_seen_once_a_step_and_edited_in_the_conditional_half(loaded, name, path, guided):
    guidance = {"flux": 3.5, "ddpm": 1.0}.get(name, 3.0 if guided else 1.0)
    true = {"true_guidance": 4.0} if name == "flux" and guided else {}
    generator = loaded(name, guidance, **true)
    seen = []
    plain = generator.generate(
        prompt_of(name), SEEDS, observers={path: lambda step, h: seen.append((step, tuple(h.shape)))}
    )
    assert [step for step, _ in seen] == list(range(generator.steps))
    assert len({shape for _, shape in seen}) == 1
    assert len(seen[0][1]) == 4
    assert seen[0][1][0] == len(SEEDS)

    def arm(edit):
        return Intervention((None,) * 3, range(generator.steps), edits={path: edit})

    for neutral in (lambda _step, h: h, lambda _step, h: h + torch.zeros_like(h)):
        assert torch.equal(generator.generate(prompt_of(name), SEEDS, arm(neutral)), plain)

    def first_alone(_step, h):
        """Layer norm hides what all channels have in common, so each channel gets another number."""
        one = torch.zeros_like(h)
        one[0] = torch.linspace(-5, 5, h.shape[1])[:, None, None]
        return h + one

    edited = generator.generate(prompt_of(name), SEEDS, arm(first_alone))
    changed = [not torch.equal(a, b) for a, b in zip(edited, plain, strict=True)]
    assert changed == [True, False, False]

    def broken(_step, _h):
        raise RuntimeError("edit failed")

    with pytest.raises(RuntimeError, match="edit failed"):
        generator.generate(prompt_of(name), SEEDS, arm(broken))
    assert torch.equal(generator.generate(prompt_of(name), SEEDS), plain)
    assert "step" not in vars(generator.pipeline.scheduler)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_blocks_that_a_config_names_are_those_of_the_network(saved, loaded, name):
    generator = loaded(name, guidance_of(name))
    modules = [path for path, _ in generator.denoiser.named_modules()]
    blocks = {path for path in modules if path == "mid_block" or re.fullmatch(r"\w+_blocks\.\d+", path)}
    places = places_here(ModelConfig(source=str(saved(name))))
    entries = {"time_text_embed", "context_embedder", "add_embedding"}  # where the whole text goes in
    assert {place.module for place in places} - entries == blocks


@pytest.mark.parametrize("name", FAMILIES)
def test_every_place_of_a_family_is_reached_and_reads_and_edits_the_conditional_half_alone(saved, loaded, name):
    generator = loaded(name, guidance_of(name))
    places = [str(place) for place in places_here(ModelConfig(source=str(saved(name))))]
    require_live(generator, places, prompt_of(name).text)


@pytest.mark.parametrize("name", FAMILIES)
def test_companions_in_a_batch_change_no_image(loaded, name):
    generator = loaded(name, guidance_of(name))
    plain = generator.generate(prompt_of(name), SEEDS)
    again = generator.generate(prompt_of(name), [SEEDS[2], 7, SEEDS[0]])
    assert torch.equal(again[0], plain[2])
    assert torch.equal(again[2], plain[0])


@pytest.mark.parametrize("name", sorted(set(FAMILIES) - {"ddpm"}))
def test_each_image_may_have_another_text(loaded, name):
    generator = loaded(name, guidance_of(name))
    texts = ("a nurse", TEXT, "a nurse")
    mixed = generator.generate(prompt_of(name), SEEDS, Intervention((None,) * 3, range(99), texts=texts))
    plain, other = generator.generate(prompt_of(name), SEEDS), generator.sample(["a nurse"] * 3, SEEDS)
    assert torch.equal(mixed[1], plain[1])
    assert torch.equal(mixed[0], other[0])
    assert torch.equal(mixed[2], other[2])
