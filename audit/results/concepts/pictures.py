"""Small pictures of layouts, as PNG in base64, so that a page needs no other file."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from audit.analyses.concepts.recorded import PICTURES
from audit.records.inside.concepts import Pictures

COLOURS = ("#7a4b2b", "#e3b08c", "#4a7fb5", "#b5478f", "#d9dde3", "#5f9e6e", "#c9a227", "#7f7f7f")
"""Colours of the parts, again from the first one after the last."""

OF_NO_PART = "#ffffff"


def pictures_of(reference: Mapping[str, NDArray[Any]], shown: Mapping[str, Sequence[NDArray[Any]]]) -> Pictures:
    """Return the pictures of a page.

    Args:
        reference: The part of the reference.
        shown: Block → predicted layouts by window; the last block is shown.
    """
    block = list(shown)[-1]
    predicted = np.concatenate(shown[block])  # (S, E, M, M)
    images = reference[PICTURES]
    return Pictures(
        block=block,
        steps=tuple(int(step) for step in reference["steps"]),
        finished=tuple(_png(image.transpose(1, 2, 0)) for image in images),
        truth=tuple(_png(_coloured(labels)) for labels in reference["truth"]),
        predicted=tuple(tuple(_png(_coloured(one[row])) for one in predicted) for row in range(len(images))),
        forecast=tuple(tuple(_png(_coloured(one[row])) for one in reference["seen"]) for row in range(len(images))),
    )


def _coloured(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return labels (M, M) as a picture (M, M, 3)."""
    palette = np.full((256, 3), _rgb(OF_NO_PART), np.uint8)
    for part in range(255):
        palette[part] = _rgb(COLOURS[part % len(COLOURS)])
    coloured: NDArray[np.uint8] = palette[labels]
    return coloured


def _rgb(colour: str) -> tuple[int, int, int]:
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return red, green, blue


def _png(pixels: NDArray[np.uint8]) -> str:
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()
