"""Trains the calibration model's OpenCLIP model on captioned drawings, in the directory format of ``open_clip``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional
from transformers import CLIPTokenizer

from audit.calibration.networks import to_unit_range
from audit.models.device import device_here
from audit.training.loop import Schedule, seeded, train
from audit.training.unet import token_ids


def clip_config(tokenizer: CLIPTokenizer) -> dict[str, Any]:
    """Return the ``open_clip_config.json`` of a small ViT: 8-pixel patches, four layers, 64-d joint space."""
    vision = {"image_size": 64, "patch_size": 8, "layers": 4, "width": 96, "head_width": 32}
    text = {
        "context_length": tokenizer.model_max_length,
        "vocab_size": len(tokenizer),
        "width": 64,
        "heads": 4,
        "layers": 2,
        "hf_tokenizer_name": "tokenizer",
    }
    return {
        "model_cfg": {"embed_dim": 64, "vision_cfg": vision, "text_cfg": text},
        "preprocess_cfg": {
            "mean": [0.5, 0.5, 0.5],
            "std": [0.5, 0.5, 0.5],
            "interpolation": "bicubic",
            "resize_mode": "squash",
        },
    }


def train_clip(
    tokenizer: CLIPTokenizer, images: Tensor, captions: list[str], schedule: Schedule, checkpoint: Path
) -> tuple[open_clip.CLIP, list[float]]:
    """Train contrastively (Radford et al. 2021); all pictures in a batch with the same caption are positives."""
    config = clip_config(tokenizer)["model_cfg"]
    with seeded(0):
        model = open_clip.CLIP(**config)
    ids = token_ids(tokenizer, captions)

    def loss_of(step: int, generator: torch.Generator) -> Tensor:
        chosen = torch.randint(len(images), (schedule.batch,), generator=generator)
        noise = 0.05 * torch.randn(schedule.batch, 3, 64, 64, generator=generator)
        pictures, captioned = to_unit_range(images[chosen]) + noise, ids[chosen].to(device_here())
        image_features, text_features, scale = model(pictures.to(device_here()), captioned)
        same = (captioned[:, None] == captioned[None]).all(-1).float()
        target = same / same.sum(1, keepdim=True)
        logits = scale.clamp(max=50) * image_features @ text_features.T
        return (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)) / 2

    return model, train(model, loss_of, schedule, checkpoint)


def save_clip(model: open_clip.CLIP, tokenizer: CLIPTokenizer, directory: Path) -> None:
    """Write a directory that ``open_clip.create_model_and_transforms("local-dir:…")`` loads."""
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(directory)
    weights = {name: value.half().contiguous() for name, value in model.state_dict().items()}
    save_file(weights, directory / "open_clip_model.safetensors")
    (directory / "open_clip_config.json").write_text(json.dumps(clip_config(tokenizer), indent=2) + "\n")
