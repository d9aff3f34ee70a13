"""Judge, CLIP model and feature network of published sizes with random weights, for measuring what scoring costs.

They are loaded by the audit's own classes, from files in the published layouts.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audit.config.sections import FeaturesConfig
from audit.perception.embedders.clip import ClipEmbedder, ClipWeights
from audit.perception.embedders.inception import FidInceptionFeatures, fid_inception
from audit.perception.judges.kinds.fairface import FairFaceJudge, fairface_network
from audit.training.loop import seeded

GROUPS = {"gender": ("female", "male")}

VIT_L_14 = {
    "embed_dim": 768,
    "vision_cfg": {"image_size": 224, "layers": 24, "width": 1024, "patch_size": 14},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 768, "heads": 12, "layers": 12},
}
"""open_clip's config of CLIP ViT-L/14."""

TINY_CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


@dataclass(frozen=True)
class Instruments:
    """What measures the images of an audit."""

    judge: FairFaceJudge
    clip: ClipEmbedder
    features: FidInceptionFeatures

    def score(self, images: Tensor) -> None:
        """Measure uint8 images (n, 3, H, W) with every instrument, as a shard does."""
        shares = self.judge.perceive(images, "doctor").probabilities["gender"]
        for values in (shares, self.clip.images(images), self.features.embed(images)):
            assert len(values) == len(images)
            assert np.isfinite(values).all()


def load_instruments(directory: Path, device: torch.device, *, tiny: bool) -> Instruments:
    """Save instruments with random weights, unless they are there, and load them.

    Args:
        directory: For their files: 2 GB, or 0.2 GB if tiny.
        device: Device for the computation.
        tiny: Whether CLIP has one layer, instead of the size of ViT-L/14.
    """
    directory.mkdir(parents=True, exist_ok=True)
    judge = _saved(directory / "fairface.pt", fairface_network)
    inception = _saved(directory / "inception.pth", _inception)
    clip = _saved_clip(directory / ("tiny-clip" if tiny else "clip"), TINY_CLIP if tiny else VIT_L_14)
    features = FeaturesConfig(network="fid_inception", weights=str(inception), own_weights=True)
    return Instruments(
        FairFaceJudge(judge, GROUPS, 0.5, device),
        ClipEmbedder(ClipWeights.in_directory(clip), device),
        FidInceptionFeatures(features, device),
    )


def _saved(path: Path, make: Callable[[], Any]) -> Path:
    if not path.is_file():
        with seeded(0):
            torch.save(make().state_dict(), path)
    return path


def _inception() -> Any:
    """Return the FID network with weights small enough that no activation overflows."""
    network = fid_inception()
    for parameter in network.parameters():
        if parameter.ndim > 1:
            torch.nn.init.kaiming_normal_(parameter)
    return network


def _saved_clip(directory: Path, config: dict[str, Any]) -> Path:
    from open_clip import CLIP
    from safetensors.torch import save_file

    weights = directory / "open_clip_model.safetensors"
    if not weights.is_file():
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
        with seeded(0):
            save_file({name: value.contiguous() for name, value in CLIP(**config).state_dict().items()}, weights)
    return directory
