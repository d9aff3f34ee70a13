"""Loading a Stable Diffusion pipeline: safetensors only, from a directory or a hub id."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline

from audit.config.settings import ModelConfig
from audit.models.source import pipeline_source

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def load_pipeline(model: ModelConfig, device: torch.device) -> StableDiffusionPipeline:
    """Load a Stable Diffusion 1.x or 2.x pipeline with a DDIM scheduler on ``device``.

    The safety checker is left out: it would blank images out of the statistics without a trace.

    Raises:
        ValueError: The pipeline is of another family.
        OSError: No such directory or repository, or it holds no safetensors weights.
    """
    source = pipeline_source(model)
    pipeline = StableDiffusionPipeline.from_pretrained(
        source,
        revision=model.revision,
        variant=model.variant,
        dtype=DTYPES[model.dtype],
        use_safetensors=True,
        safety_checker=None,
        requires_safety_checker=False,
        local_files_only=Path(source).is_dir(),
    )
    if not isinstance(pipeline, StableDiffusionPipeline):
        raise ValueError(f"{source} is a {type(pipeline).__name__}; expected a StableDiffusionPipeline (1.x or 2.x)")
    # Latents are not pixels: where a config says nothing, diffusers would clip the predicted latents to [-1, 1].
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
    pipeline.set_progress_bar_config(disable=True)
    for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        part.requires_grad_(False).eval()
    pipeline.vae.to(memory_format=torch.channels_last)  # its convolutions are faster so; the U-Net gains nothing
    return pipeline.to(device)
