"""CLIPSeg through transformers: a tiny random model labels pixels, and what is no such model is refused in words."""

import json
import shutil

import pytest
import torch
from transformers import CLIPSegConfig, CLIPSegForImageSegmentation, CLIPSegProcessor, ViTImageProcessor

from audit.calibration.bundle import bundle_of
from audit.config.optional.segmenters import SegmenterConfig
from audit.config.sections import ModelConfig
from audit.models.files.untrusted_model import UnfitModelError, UntrustedModelError
from audit.perception.segmenters.interface import NO_PART
from audit.perception.segmenters.registry import (
    load_segmenter,
    segmenter_name,
    segmenter_parts,
    segmenter_problem,
)

TEXTS = {"hair": "a face", "dress": "photo"}
PICTURES = torch.randint(0, 256, (3, 3, 24, 40), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
ELSEWHERE = ModelConfig(source="owner/model")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A directory as transformers writes it, with random weights and the calibration model's tokenizer."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(bundle_of(ModelConfig()).pipeline / "tokenizer")
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
    words = {"vocab_size": len(tokenizer), "max_position_embeddings": 77} | {
        name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")
    }
    config = CLIPSegConfig(
        text_config=sizes | words, vision_config=sizes | {"image_size": 32, "patch_size": 8}, projection_dim=16,
        reduce_dim=8, decoder_num_attention_heads=2, decoder_intermediate_size=16, extract_layers=[0, 1, 2],
    )  # fmt: skip
    directory = tmp_path_factory.mktemp("clipseg") / "tiny"
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(0)
        CLIPSegForImageSegmentation(config).save_pretrained(directory)
    pixels = ViTImageProcessor(size={"height": 32, "width": 32})
    CLIPSegProcessor(image_processor=pixels, tokenizer=tokenizer).save_pretrained(directory)
    return directory


def section(directory, **changes):
    return SegmenterConfig(**{"source": str(directory), "parts": TEXTS, "threshold": 0.0} | changes)


def test_each_pixel_gets_the_part_with_the_highest_probability(saved):
    segmenter = load_segmenter(section(saved), ELSEWHERE)
    labels = segmenter.labels(PICTURES)
    assert segmenter.parts == segmenter_parts(section(saved), ELSEWHERE) == ("hair", "dress")
    assert (labels.shape, labels.dtype) == ((3, 24, 40), torch.uint8)
    assert set(labels.unique().tolist()) <= {0, 1}
    assert torch.equal(labels[1:2], segmenter.labels(PICTURES[1:2]))  # a picture does not depend on the others
    swapped = load_segmenter(section(saved, parts=dict(reversed(TEXTS.items()))), ELSEWHERE)
    assert torch.equal(swapped.labels(PICTURES), 1 - labels)


def test_below_the_threshold_a_pixel_shows_no_part(saved):
    labels = load_segmenter(section(saved, threshold=1.0), ELSEWHERE).labels(PICTURES)
    assert labels.eq(NO_PART).all()


def test_a_name_has_the_weights(saved, tmp_path):
    other = shutil.copytree(saved, tmp_path / "tiny")
    first = segmenter_name(section(other), ELSEWHERE)
    with (other / "model.safetensors").open("ab") as file:
        file.write(b" ")
    assert segmenter_name(section(other), ELSEWHERE) != first


def test_what_is_no_clipseg_is_refused(saved, tmp_path):
    with pytest.raises(UnfitModelError, match="expected a directory with a CLIPSeg model, found none"):
        load_segmenter(section(tmp_path / "none"), ELSEWHERE)
    other = shutil.copytree(saved, tmp_path / "tiny")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"model_type": "clip"}))
    with pytest.raises(UnfitModelError, match=r"expected a CLIPSeg model .* found 'clip'"):
        load_segmenter(section(other), ELSEWHERE)
    (other / "config.json").write_text(json.dumps(config | {"reduce_dim": 16}))
    with pytest.raises(UnfitModelError, match=r"expected the weights of the model in config\.json, found"):
        load_segmenter(section(other), ELSEWHERE)
    (other / "model.safetensors").rename(other / "pytorch_model.bin")
    with pytest.raises((UnfitModelError, UntrustedModelError)):
        load_segmenter(section(other), ELSEWHERE)


def test_another_model_needs_a_segmenter_of_its_own_and_texts():
    assert "expected the directory of a CLIPSeg model" in segmenter_problem(SegmenterConfig(), ELSEWHERE)
    assert "expected the parts to ask" in segmenter_problem(SegmenterConfig(source="somewhere"), ELSEWHERE)
    assert segmenter_problem(SegmenterConfig(), ModelConfig()) is None


def test_a_missing_directory_is_named_before_anything_is_sampled(tmp_path):
    problem = segmenter_problem(section(tmp_path / "none"), ELSEWHERE)
    assert problem.startswith("concepts.segmenter.source: expected a directory with a CLIPSeg model, found none")


def test_a_text_that_is_too_long_is_refused(saved):
    with pytest.raises(
        UnfitModelError, match=r"concepts\.segmenter\.parts\.hair: expected a text of at most 77 tokens"
    ):
        load_segmenter(section(saved, parts={"hair": "hair " * 80 + "hair"}), ELSEWHERE)
