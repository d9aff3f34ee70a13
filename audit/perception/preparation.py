"""Prepares images for a network with the transform that the network's library publishes.

Published transforms act on Pillow images, and resizing there rounds to 8 bits; the same filter on float tensors gives
slightly different values. The transforms are therefore applied as published, one image after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

Transform = Callable[[Any], Any]
"""A Pillow image in RGB → a tensor ``(3, H, W)``."""

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of the red, green and blue values of ImageNet, in [0, 1]."""


def as_pictures(images: Tensor) -> Iterator[Image]:
    """Return uint8 images ``(n, 3, H, W)`` as Pillow images in RGB."""
    from PIL import Image

    return (Image.fromarray(image.permute(1, 2, 0).cpu().numpy()) for image in images)


def prepared(images: Tensor, transform: Transform) -> Tensor:
    """Apply a transform to every image.

    Args:
        images: uint8 ``(n, 3, H, W)``.
        transform: The published transform.

    Returns:
        float32 ``(n, 3, h, w)`` on the CPU.
    """
    import torch

    return torch.stack([transform(picture) for picture in as_pictures(images)])
