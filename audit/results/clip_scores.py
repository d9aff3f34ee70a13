"""CLIP similarities on the scale of the DiffLens paper, under a name of its own.

CLIP-I pairs an edited image with the baseline image of the same prompt and noise, CLIP-T an image with its prompt.
"""

from __future__ import annotations


def rescaled(cosine: float) -> float:
    """Return (cosine + 1) / 2 in [0, 1], the figure that DiffLens prints as its CLIP score."""
    return (cosine + 1) / 2
