"""Shortens vectors so that inner products between them stay, on average, what they were.

A count sketch (Charikar, Chen and Farach-Colton 2002) adds each coordinate, with a random sign, to one of m sums. Inner
products of sketches are unbiased; the cosine of two sketches has a standard deviation of at most about 1/√m.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

LENGTH = 8192
"""m; vectors up to this length stay as they are. A cosine then has an error of about 0.011."""

_SEED = 0


def sketched(vectors: Tensor, length: int = LENGTH) -> Tensor:
    """Shorten vectors (n, d) to (n, m); sketches of one d are comparable with each other.

    Args:
        vectors: The vectors, float32.
        length: m.
    """
    width = vectors.shape[1]
    if width <= length:
        return vectors
    places, signs = _hashed(width, length, str(vectors.device))
    return torch.zeros(len(vectors), length).to(vectors).index_add_(1, places, vectors * signs)


@lru_cache(maxsize=8)
def _hashed(width: int, length: int, device: str) -> tuple[Tensor, Tensor]:
    """Return place (d,) and sign (d,) of each coordinate; kept in few bytes, since a map is shortened at every step."""
    draws = torch.Generator().manual_seed(_SEED)
    places = torch.randint(length, (width,), generator=draws).to(torch.int32)
    signs = (2 * torch.randint(2, (width,), generator=draws) - 1).to(torch.int8)
    return places.to(device), signs.to(device)
