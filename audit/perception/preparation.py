"""Prepares images for a network with the transform that the network's library publishes.

Published transforms act on Pillow images, and resizing there rounds to 8 bits; the same filter on float tensors gives
slightly different values. The transforms are therefore applied as published, one image after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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


def resized_with_gradients(pictures: Tensor, size: tuple[int, int], mode: str = "bilinear") -> Tensor:
    """Resize pictures ``(n, 3, H, W)`` in [0, 1] with an anti-aliasing filter on float channels, with gradients.

    Args:
        pictures: The pictures.
        size: Height and width.
        mode: ``bilinear`` or ``bicubic``.
    """
    from torch.nn.functional import interpolate

    if pictures.shape[-2:] == size:
        return pictures
    return interpolate(pictures, size=size, mode=mode, antialias=True).clamp(0, 1)


def normalised(pictures: Tensor, mean: Sequence[float], spread: Sequence[float]) -> Tensor:
    """Return (pictures − mean) / spread by channel."""
    import torch

    of_channels = (torch.tensor(tuple(values), device=pictures.device).view(1, 3, 1, 1) for values in (mean, spread))
    centre, width = of_channels
    return (pictures - centre) / width
