"""Pictures outside some of their parts: what an edit of a face should leave as it is.

PSNR is that of the other pixels alone. LPIPS and DINO need whole pictures: the edited picture gets the baseline's
pixels where either of both shows a hidden part, and is then compared with the baseline picture. So only pixels outside
differ, and no artificial colour is seen by a network.

Legend: n pairs of uint8 pictures (n, 3, H, W).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audit.config.optional.segmenters import OutsideConfig
from audit.config.sections import ModelConfig
from audit.perception.segmenters.interface import Segmenter
from audit.perception.segmenters.registry import load_segmenter, segmenter_name
from audit.storage.rows import MOST_PSNR


@dataclass(frozen=True)
class Outside:
    """Finds the pixels outside some parts.

    Attributes:
        segmenter: Labels the pixels.
        hidden: Parts in which images may differ.
        signature: Source and weights of the segmenter, and the parts.
    """

    segmenter: Segmenter
    hidden: tuple[str, ...]
    signature: str

    def shown(self, images: Tensor) -> Tensor:
        """Return which pixels (n, H, W) show none of the hidden parts."""
        labels = self.segmenter.labels(images)
        hidden = torch.tensor([self.segmenter.parts.index(part) for part in self.hidden], dtype=labels.dtype)
        return ~torch.isin(labels, hidden)


def load_outside(config: OutsideConfig | None, model: ModelConfig) -> Outside | None:
    """Load the segmenter of a config, None if it names none.

    Raises:
        UnfitModelError: The segmenter cannot be used.
        ValueError: It does not know a hidden part.
    """
    if config is None:
        return None
    segmenter = load_segmenter(config, model)
    unknown = [part for part in config.hidden if part not in segmenter.parts]
    if unknown:
        known = ", ".join(segmenter.parts)
        raise ValueError(f"quality.outside.hidden: expected parts of the segmenter ({known}), found {unknown[0]!r}")
    return Outside(segmenter, config.hidden, outside_name(config, model))


def outside_name(config: OutsideConfig, model: ModelConfig) -> str:
    """Return the signature of a segmenter with its hidden parts, without loading it."""
    return f"outside:{'+'.join(config.hidden)}|by:{segmenter_name(config, model)}"


def composite(images: Tensor, baseline: Tensor, compared: Tensor) -> Tensor:
    """Return the images with the baseline's pixels wherever ``compared`` (n, H, W) is false."""
    return torch.where(compared[:, None], images.cpu(), baseline.cpu())


def psnr_outside(images: Tensor, baseline: Tensor, compared: Tensor) -> NDArray[np.float32]:
    """Return the PSNR of each pair over the compared pixels in dB, at most ``MOST_PSNR``, (n,).

    It is NaN if they are equal, as in :func:`audit.perception.embedders.pairs.psnr`, or if no pixel is compared.
    """
    found = np.full(len(images), np.nan, dtype=np.float32)
    for row, (mine, other, kept) in enumerate(zip(images.cpu(), baseline.cpu(), compared, strict=True)):
        error = float((mine.double() - other.double()).square().mean(0)[kept].mean()) if bool(kept.any()) else 0.0
        if error > 0:
            found[row] = min(10 * np.log10(255**2 / error), MOST_PSNR)
    return found
