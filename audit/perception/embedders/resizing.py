"""Resizing of images for networks; it is part of a metric, and signatures state it.

Resizing moves a Fréchet distance: between the two ways here, pixels differ by 3 of 255 on average for images of 512
pixels and by 11 for images of 64 pixels (Parmar et al. 2022, arXiv:2104.11222, on resizing and FID).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of ImageNet's channels, by which torchvision's and DINOv2's inputs are normalised."""


def resized(images: Tensor, size: int) -> Tensor:
    """Return uint8 images as values in [0, 1] of ``size`` × ``size`` pixels, resized like clean-fid.

    Bicubic with an anti-aliasing filter, clipped and not rounded to 8 bits: Pillow's filter (a = −0.5) on float
    channels. PyTorch computes the same filter on the images' device.

    Args:
        images: Shape (n, 3, H, W).
        size: Pixels of a side.
    """
    x = images.float() / 255
    if x.shape[-2:] == (size, size):
        return x
    return functional.interpolate(x, size=(size, size), mode="bicubic", antialias=True).clamp(0, 1)


def tf1_bilinear(images: Tensor, size: int) -> Tensor:
    """Return uint8 images as values in [0, 1] of ``size`` × ``size`` pixels, resized like TensorFlow 1.

    Bilinear without an anti-aliasing filter. The first pixels of input and output are aligned, not the corners of
    the images (``resize_bilinear`` with ``align_corners=False``), so the result is shifted by up to half a pixel.

    Args:
        images: Shape (n, 3, H, W).
        size: Pixels of a side.
    """
    rows = _along(images.float() / 255, size, -2)
    return _along(rows, size, -1)


def _along(x: Tensor, size: int, axis: int) -> Tensor:
    """Interpolate linearly at the positions i · length / size of one axis."""
    length = x.shape[axis]
    position = torch.arange(size, device=x.device, dtype=x.dtype) * (length / size)
    below = position.long()
    above = (below + 1).clamp_max(length - 1)
    weight = (position - below).unsqueeze(-1) if axis == -2 else position - below
    first = x.index_select(axis, below)
    return first + (x.index_select(axis, above) - first) * weight


def normalised(images: Tensor) -> Tensor:
    """Return values in [0, 1], shape (n, 3, H, W), on ImageNet's scale."""
    mean, std = (
        torch.tensor(values, device=images.device).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD)
    )
    return (images - mean) / std
