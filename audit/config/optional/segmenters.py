"""What labels the pixels of pictures, and the parts outside of which paired images are compared."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from audit.config.fields import EachOnce, Fraction, GroupName, Section, Text


class SegmenterConfig(Section):
    """What labels the pixels of the pictures with parts."""

    source: Text = "bundled"
    """``bundled`` for the calibration model, or the directory of a CLIPSeg model (CIDAS/clipseg-rd64-refined)."""
    parts: dict[GroupName, Text] = Field({}, max_length=100)
    """Part → what CLIPSeg is asked for, for example ``hair: the hair of a person``. The bundled segmenter knows its
    own parts."""
    threshold: Fraction = 0.4
    """Least probability of CLIPSeg's best part in a pixel; below it, the pixel shows none of them."""


class OutsideConfig(SegmenterConfig):
    """Compares paired images outside some parts of the picture, which a segmenter finds.

    An edit of a face should leave the background and the clothes as they are.
    """

    hidden: Annotated[tuple[GroupName, ...], Field(strict=False, min_length=1, max_length=100), EachOnce] = (
        "face",
        "hair",
    )
    """Parts in which images may differ, by the names that the segmenter uses. A pixel is left out if either image of a
    pair shows one of them there."""
