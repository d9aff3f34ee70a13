"""Signed distance functions of shapes, and a canvas that paints them on many pictures at once.

A shape is the signed distance of every pixel to its edge in pixels, negative inside. Its coverage is 0.5 minus the
distance, clipped to [0, 1], which smooths the edge over one pixel (Quilez, "2D distance functions", iquilezles.org).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

# Shapes: n pictures, H × W pixels of a window; a number per picture has shape (n, 1, 1).
SIZE = 64
PARTS = ("hair", "face", "dress", "headgear", "background")
Figure = Tensor | float
Colour = Tensor | str
"""One colour per picture, (n, 3) in 0..1, or one for all pictures, for example ``#f3d1b7``."""


def rgb(colour: Colour) -> Tensor:
    """Return colours as (1 or n, 3) in 0..1."""
    if isinstance(colour, Tensor):
        return colour
    return torch.tensor([[int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]])


def blend(first: Colour, second: Colour, share: float) -> Tensor:
    """Mix two colours; ``share`` is the weight of the second."""
    return rgb(first) * (1 - share) + rgb(second) * share


@dataclass(frozen=True)
class Window:
    """The same rows and columns of several pictures, as views that are painted in place.

    Attributes:
        colour: (n, 3, H, W) in 0..1.
        part: Index in ``PARTS`` of the main part in each pixel, (n, H, W).
        x: Pixels to the right of the middle of the head, in the head's tilted frame, (n, H, W).
        y: Pixels below the middle of the head, in the same frame.
        body_x: Pixels to the right of the middle of the upright body, (n, H, W).
        body_y: Pixels below the upper edge of the picture, (n, H, W).
        torso: Signed distance to the dressed body, (n, H, W).
    """

    colour: Tensor
    part: Tensor
    x: Tensor
    y: Tensor
    body_x: Tensor
    body_y: Tensor
    torso: Tensor

    def rows(self, top: int, bottom: int) -> Window:
        """Return the window's rows from ``top`` to ``bottom``, which avoids computing the other rows."""
        return self._cut(slice(None), ..., slice(top, bottom), slice(None))

    def columns(self, left: int, right: int) -> Window:
        """Return the window's columns from ``left`` to ``right``."""
        return self._cut(slice(None), ..., slice(left, right))

    def pictures(self, first: int, end: int) -> Window:
        """Return the window for the pictures from ``first`` to before ``end``."""
        return self._cut(slice(first, end))

    def _cut(self, *index: Any) -> Window:  # noqa: ANN401 - any index of a tensor
        return Window(**{field.name: getattr(self, field.name)[index] for field in fields(self)})

    def paint(self, distance: Tensor, colour: Colour, part: str | None = None, opacity: Figure = 1.0) -> None:
        """Paint a shape over the pictures.

        Args:
            distance: Signed distance in pixels, (n, H, W).
            colour: Colour of the shape.
            part: Part that the shape belongs to; None keeps the part below.
            opacity: From 0, invisible, to 1.
        """
        coverage = (0.5 - distance).clamp_(0, 1).mul_(opacity)
        self.colour.lerp_(rgb(colour)[:, :, None, None], coverage[:, None])
        if part is not None:
            self.part.masked_fill_(coverage > 0.5, PARTS.index(part))

    def glow(self, x: Tensor, y: Tensor, radius: float, colour: Colour, opacity: Figure) -> None:
        """Paint a disc over the pictures that fades from its middle to its edge."""
        fade = (1 - (x * x + y * y) / radius**2).clamp_(0, 1).mul_(opacity)
        self.colour.lerp_(rgb(colour)[:, :, None, None], fade[:, None])


def blank(n: int) -> tuple[Tensor, Tensor]:
    """Return colours (n, 3, 64, 64) and parts (n, 64, 64) of n pictures that show only background."""
    background = torch.full((n, SIZE, SIZE), PARTS.index("background"), dtype=torch.uint8)
    return torch.zeros(n, 3, SIZE, SIZE), background


def circle(x: Tensor, y: Tensor, radius: Figure) -> Tensor:
    """Return the distance to a disc around the origin."""
    return torch.sqrt(x * x + y * y) - radius


def ellipse(x: Tensor, y: Tensor, rx: Figure, ry: Figure) -> Tensor:
    """Return the distance to an ellipse around the origin, to first order near its edge."""
    u, v = x / rx, y / ry
    k0 = torch.sqrt(u * u + v * v)
    u, v = u / rx, v / ry
    k1 = torch.sqrt(u * u + v * v).clamp_(min=1e-4)
    return k0 * (k0 - 1) / k1


def box(x: Tensor, y: Tensor, half_width: Figure, half_height: Figure, radius: Figure = 0.0) -> Tensor:
    """Return the distance to a box around the origin with corners rounded by ``radius``."""
    u, v = x.abs() - half_width + radius, y.abs() - half_height + radius
    outside = torch.sqrt(u.clamp(min=0) ** 2 + v.clamp(min=0) ** 2)
    return outside + torch.maximum(u, v).clamp_(max=0) - radius


def segment(x: Tensor, y: Tensor, start: tuple[Figure, Figure], end: tuple[Figure, Figure], radius: Figure) -> Tensor:
    """Return the distance to a line with round ends, ``radius`` thick on each side."""
    run, rise = end[0] - start[0], end[1] - start[1]
    u, v = x - start[0], y - start[1]
    along = ((u * run + v * rise) / (run * run + rise * rise)).clamp_(0, 1)
    return circle(u - along * run, v - along * rise, radius)


def ring(distance: Tensor, half_width: float) -> Tensor:
    """Return the distance to the outline of a shape."""
    return distance.abs() - half_width


def both(first: Tensor, second: Tensor) -> Tensor:
    """Return the distance to the intersection of two shapes."""
    return torch.maximum(first, second)


def either(first: Tensor, second: Tensor) -> Tensor:
    """Return the distance to the union of two shapes."""
    return torch.minimum(first, second)
