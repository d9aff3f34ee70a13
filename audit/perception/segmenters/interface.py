"""What a segmenter does: it gives each pixel of a picture to one of some named parts, or to none of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

NO_PART = 255
"""Label of a pixel that shows none of the parts: the largest uint8, so that there are at most 255 parts."""


class Segmenter(Protocol):
    """Labels the pixels of pictures.

    Its weights have a name in :func:`audit.perception.segmenters.registry.segmenter_name`, which reads no weights into
    memory, since recordings are named before a segmenter is loaded.
    """

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the P parts, in the order of the labels; fewer than ``NO_PART``."""
        ...

    def labels(self, images: Tensor) -> Tensor:
        """Return the part of each pixel, uint8 ``(n, H, W)`` on the CPU, of uint8 images ``(n, 3, H, W)``."""
        ...
