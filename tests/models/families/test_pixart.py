"""PixArt of a size for which its pipeline lists no formats, with a tokenizer that reads few tokens."""

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline

from audit.config.sections import ModelConfig, SamplingConfig
from audit.models.check import Sampled, model_problems
from audit.models.files.untrusted_model import UnfitModelError
from audit.models.generator import load_generator
from audit.preflight.prompt_lengths import model_reader
from benchmarks.tiny_families import save_pixart

TEXT, SEEDS, TOKENS = "a face photo of a doctor", [11, 22, 33], 24
SAMPLING = SamplingConfig(steps=3, guidance=3.0)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Pictures of 64 × 64: 8 × 8 latents in 4 × 4 tokens, and prompts of 24 tokens."""
    return save_pixart(tmp_path_factory.mktemp("small"), sample_size=8, tokens=TOKENS)


def problems(directory, **settings):
    sampled = Sampled(SAMPLING.model_copy(update=settings), {("lens", "hookpoint"): "transformer_blocks.0"})
    found = model_problems(directory, ModelConfig(source=str(directory)), sampled)
    return {".".join(map(str, problem.location)): problem.message for problem in found}


def stock(directory, **settings):
    pipeline = DiffusionPipeline.from_pretrained(directory, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    images = pipeline(
        prompt=TEXT,
        num_images_per_prompt=len(SEEDS),
        guidance_scale=3.0,
        num_inference_steps=3,
        generator=[torch.Generator().manual_seed(seed) for seed in SEEDS],
        **settings,
    ).images
    return np.stack([np.asarray(image) for image in images])


@pytest.mark.parametrize("sides", [{}, {"height": 48, "width": 80}], ids=["own", "other"])
def test_images_are_those_of_the_stock_pipeline_without_formats_bit_for_bit(small, sides):
    generator = load_generator(ModelConfig(source=str(small)), SAMPLING.model_copy(update=sides))
    drawn = generator.sample([TEXT] * 3, SEEDS).permute(0, 2, 3, 1).numpy()
    expected = stock(small, use_resolution_binning=False, max_sequence_length=TOKENS, **sides)
    np.testing.assert_array_equal(drawn, expected)


def test_the_dry_run_finds_the_model_whole_and_the_pipeline_alone_refuses_its_size(small):
    assert problems(small) == problems(small, height=48, width=80) == {}
    with pytest.raises(ValueError, match="Invalid sample size"):
        stock(small)


def test_a_text_is_padded_to_the_limit_of_the_tokenizer_and_refused_beyond(small):
    generator = load_generator(ModelConfig(source=str(small)), SAMPLING)
    assert generator._encoded(TEXT)["prompt_embeds"].shape == (1, TOKENS, 32)
    assert model_reader(ModelConfig(source=str(small))).limit == generator.reader.limit == TOKENS
    with pytest.raises(UnfitModelError, match=f"expected at most {TOKENS} tokens"):
        generator.sample(["a face " * TOKENS], [1])


def test_a_published_tokenizer_pads_as_before(tmp_path):
    generator = load_generator(ModelConfig(source=str(save_pixart(tmp_path))), SAMPLING)
    assert generator._encoded(TEXT)["prompt_embeds"].shape == (1, 120, 32)


def test_sides_that_the_pipeline_refuses_are_refused_before(small, tmp_path):
    assert problems(small, height=52)["sampling.height"] == (
        "expected a multiple of 16, the pixels of one cell of the latents, found 52; choose one"
    )
    odd = problems(save_pixart(tmp_path, sample_size=10, levels=2))
    assert list(odd) == ["sampling.height", "sampling.width"]
    assert odd["sampling.height"] == (
        "expected a multiple of 8, as the pipeline of PixArt-α takes, found 20; set sampling.height"
    )
    with pytest.raises(ValueError, match="divisible by 8"):
        stock(tmp_path / "pipeline", use_resolution_binning=False)
