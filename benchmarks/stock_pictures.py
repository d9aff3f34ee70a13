"""Pictures that diffusers itself draws from a directory, and the numbers in its files, without the audit's code."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import nn

_STEMS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}


def stock_pictures(
    directory: Path, texts: Sequence[str], seeds: Sequence[int], steps: int, guidance: float
) -> NDArray[np.float32]:
    """Load a pipeline with ``from_pretrained`` and call it.

    Returns:
        Pictures (B, 3, H, W) from 0 to 255, not rounded.
    """
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(
        directory, safety_checker=None, feature_extractor=None, use_safetensors=True, local_files_only=True
    )
    # Without a limit, the tokenizer's padding fails in diffusers; the text encoder defines the length.
    positions = pipeline.text_encoder.config.max_position_embeddings
    pipeline.tokenizer.model_max_length = min(pipeline.tokenizer.model_max_length, positions)
    pipeline.set_progress_bar_config(disable=True)
    drawn = pipeline(
        list(texts),
        num_inference_steps=steps,
        guidance_scale=guidance,
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        output_type="np",
    ).images
    pictures: NDArray[np.float32] = np.moveaxis(np.asarray(drawn), -1, 1) * 255
    return pictures


def stored_numbers(directory: Path, part: str) -> Counter[str]:
    """Hash every tensor in a part's files, in single precision, without its name."""
    stem, folder = _STEMS[part], directory / part
    index, single = folder / f"{stem}.safetensors.index.json", folder / f"{stem}.safetensors"
    # If both exist, diffusers reads the shards and transformers the single file.
    if index.exists() and not (part == "text_encoder" and single.exists()):
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    else:
        names = [single.name]
    tensors = [item for name in names for item in load_file(folder / name).items()]
    return Counter(_hash(tensor) for name, tensor in tensors if not name.endswith("position_ids"))


def loaded_numbers(network: nn.Module) -> Counter[str]:
    """Hash every tensor of a network."""
    return Counter(_hash(t) for name, t in network.state_dict().items() if not name.endswith("position_ids"))


def _hash(tensor: torch.Tensor) -> str:
    plain = tensor.detach().to(torch.float32).contiguous().numpy()
    return hashlib.sha256(repr(plain.shape).encode() + plain.tobytes()).hexdigest()
