"""A BLIP model for visual question answering with random weights, built from its config alone; pictures of 32 × 32."""

from __future__ import annotations

from pathlib import Path

WORDS = (
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "[ENC]"),
    *("is", "the", "person", "a", "woman", "or", "man", "?", "young", "old", "middle", "aged", "how"),
)
"""The whole vocabulary of its tokenizer."""


def save_tiny_blip(directory: Path, *, seed: int = 0) -> Path:
    """Save model, image processor and tokenizer as transformers does.

    Args:
        directory: Directory to write into.
        seed: Seed of the weights.

    Returns:
        The directory.
    """
    from transformers import BertTokenizerFast, BlipConfig, BlipForQuestionAnswering, BlipImageProcessor, BlipProcessor

    from audit.training.loop import seeded

    sizes = {"hidden_size": 16, "intermediate_size": 32, "projection_dim": 16}
    layers = {"num_hidden_layers": 1, "num_attention_heads": 2}
    marks = {"pad_token_id": 0, "sep_token_id": 3, "eos_token_id": 3, "bos_token_id": 5}
    text = {"vocab_size": len(WORDS), "encoder_hidden_size": 16, "max_position_embeddings": 32}
    config = BlipConfig(
        text_config=sizes | layers | marks | text,
        vision_config=sizes | layers | {"image_size": 32, "patch_size": 8},
        projection_dim=16,
        initializer_range=0.5,
    )
    config.text_config.initializer_range = config.vision_config.initializer_range = 0.5
    with seeded(seed):
        network = BlipForQuestionAnswering(config)
    tokenizer = BertTokenizerFast(vocab={word: place for place, word in enumerate(WORDS)})
    network.save_pretrained(directory)
    BlipProcessor(BlipImageProcessor(size={"height": 32, "width": 32}), tokenizer).save_pretrained(directory)
    return directory
