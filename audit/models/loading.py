"""Loading a Stable Diffusion pipeline: safetensors only, from a directory or a hub id.

Diffusers takes seconds to import, and a worker that draws needs none of it: it is imported where a pipeline is loaded.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from audit.config.sections import ModelConfig
from audit.models.source import pipeline_source
from audit.untrusted_model import check_pipeline

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def load_pipeline(model: ModelConfig, device: torch.device) -> StableDiffusionPipeline:
    """Load a Stable Diffusion 1.x or 2.x pipeline with a DDIM scheduler on ``device``.

    The safety checker is left out: it would blank images out of the statistics without a trace.

    Raises:
        UntrustedModelError: It holds code, pickled weights alone, or is of another family.
        OSError: No such directory or repository, or it holds no safetensors weights.
    """
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    source = Path(pipeline_source(model))
    directory = source if source.is_dir() else _downloaded(model)
    check_pipeline(directory)
    pipeline = StableDiffusionPipeline.from_pretrained(
        directory,
        variant=model.variant,
        dtype=DTYPES[model.dtype],
        use_safetensors=True,
        safety_checker=None,
        feature_extractor=None,
        image_encoder=None,
        requires_safety_checker=False,
        local_files_only=True,
        trust_remote_code=False,
    )
    # Latents are not pixels: where a config says nothing, diffusers would clip the predicted latents to [-1, 1].
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
    pipeline.set_progress_bar_config(disable=True)
    for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        part.requires_grad_(False).eval()
    pipeline.vae.to(memory_format=torch.channels_last)  # its convolutions are faster so; the U-Net gains nothing
    return pipeline.to(device)


def _downloaded(model: ModelConfig) -> Path:
    """Fetch a pipeline from the hub, safetensors and configs alone, so that it can be looked at before it is loaded."""
    from diffusers import StableDiffusionPipeline

    folder = StableDiffusionPipeline.download(
        model.source, revision=model.revision, variant=model.variant, use_safetensors=True, trust_remote_code=False
    )
    return Path(folder)
