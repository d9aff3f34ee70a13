"""What a source of pictures without a network gives: pictures by index, in batches of one size.

A source has no noise to share, so there are no seeds to ask with: a picture is asked for by prompt and index. This is
the difference from :class:`audit.models.generator.Generator`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from audit.records.work import Prompt, derive_seed

Pixels = NDArray[np.uint8]
"""One picture, (H, W, 3)."""


@dataclass(frozen=True)
class PictureBatch:
    """Pictures of one prompt and one size.

    Attributes:
        indices: Index of each picture in its prompt.
        images: uint8 ``(n, 3, H, W)``; a picture that could not be made has one single value, as everywhere.
        seeds: What identifies the draw of each picture: its seed, or a hash of its pixels if no seed is known. Two runs
            pair their pictures only if these agree.
    """

    indices: tuple[int, ...]
    images: Tensor
    seeds: tuple[int, ...]


@runtime_checkable
class PictureSource(Protocol):
    """Gives pictures; the same prompt and index always give the same picture."""

    @property
    def sampling(self) -> Mapping[str, Any]:
        """Where the pictures come from and how they are read, for the record."""
        ...

    def batches(self, prompt: Prompt, indices: Sequence[int]) -> tuple[PictureBatch, ...]:
        """Return the pictures of a prompt with these indices, each exactly once."""
        ...


def within(pixels: Pixels, longest_side: int) -> Pixels:
    """Scale a picture down so that no side exceeds ``longest_side``, with its aspect ratio; return others unchanged."""
    height, width = pixels.shape[:2]
    scale = longest_side / max(height, width)
    if scale >= 1:
        return pixels
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.array(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))


def pixel_seed(pixels: Pixels) -> int:
    """Return a hash of a picture in [0, 2**63), which stands for its unknown seed."""
    return derive_seed("picture", str(pixels.shape), hashlib.sha256(pixels.tobytes()).hexdigest())


def batches_by_size(pictures: Mapping[int, tuple[Pixels, int]]) -> tuple[PictureBatch, ...]:
    """Group pictures by size, in the order in which the sizes occur.

    Args:
        pictures: Index → pixels and what identifies the draw.
    """
    by_size: dict[tuple[int, ...], list[int]] = {}
    for index, (pixels, _) in pictures.items():
        by_size.setdefault(pixels.shape, []).append(index)
    return tuple(
        PictureBatch(
            indices=tuple(indices),
            images=torch.stack([torch.from_numpy(pictures[index][0]).permute(2, 0, 1) for index in indices]),
            seeds=tuple(pictures[index][1] for index in indices),
        )
        for indices in by_size.values()
    )
