"""Stable Diffusion pipelines with random weights, built from configs alone: a few channels, pictures of 16 × 16."""

from __future__ import annotations

from pathlib import Path

TEXTS = ("a face photo of a doctor", "a face photo of a nurse")
"""Training texts of the tokenizer."""


def save_tiny_pipeline(root: Path, *, seed: int = 0, width: int = 16, texts: tuple[str, ...] = TEXTS) -> Path:
    """Save a Stable Diffusion directory: 8 × 8 latents, ε-prediction, PNDM scheduler.

    Args:
        root: Directory to write into.
        seed: Seed of the weights.
        width: Width of the text embeddings.
        texts: Training texts of the tokenizer.

    Returns:
        The pipeline's directory.
    """
    from diffusers import PNDMScheduler, StableDiffusionPipeline
    from transformers import CLIPTextConfig, CLIPTextModel

    from audit.training.loop import seeded
    from audit.training.tokenizer import train_tokenizer

    tokenizer = train_tokenizer(list(texts), root / "tokenizer")
    text_config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=tokenizer.model_max_length,
        eos_token_id=tokenizer.eos_token_id,
    )
    with seeded(seed):
        unet, vae, text_encoder = _unet(width), _vae(), CLIPTextModel(text_config)
    scheduler = PNDMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True, steps_offset=1
    )
    pipeline = StableDiffusionPipeline(
        vae,
        text_encoder,
        tokenizer,
        unet,
        scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(root / "pipeline")
    return root / "pipeline"


def _unet(width: int):
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(8, 16),
        layers_per_block=1,
        cross_attention_dim=width,
        attention_head_dim=2,
        norm_num_groups=4,
    )


def _vae():
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        layers_per_block=1,
        latent_channels=4,
        sample_size=16,
    )
