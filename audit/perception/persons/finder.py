"""Finds the persons of a picture and cuts each out, with clothes, which show an occupation.

In photographs a person is a face that dlib finds, with the shoulders and the chest below it. A crop ends half-way to
the next face, so that it shows one person. In drawings of the calibration world, whose faces dlib does not find, each
square of a picture is a place for a person, and the bundled judge recognises whether there is a face.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from audit.calibration.bundle import bundle_of
from audit.config.judges import FacesConfig, JudgeKeys
from audit.config.sections import ModelConfig
from audit.perception.faces.finder import Face, FaceFinder, Pixels, as_arrays, finder_fingerprint
from audit.perception.judges.kinds.bundled import Bundled, CalibrationJudge, calibration_answers
from audit.records.work import Status

if TYPE_CHECKING:
    import torch
    from torch import Tensor

SIDE = 3.6
"""Side of a crop, in widths of the face."""

ABOVE = 0.7
"""What a crop shows above the face, in widths of the face: hair and headgear."""

_GREY = 128
"""Grey level of what a crop has beside the picture."""


class PersonFinder(Protocol):
    """Finds persons."""

    def find(self, images: Tensor) -> list[list[Tensor]]:
        """Return the persons of uint8 images ``(n, 3, H, W)`` from left to right, each as a crop ``(3, h, w)``."""
        ...


class FacePersons:
    """Persons of photographs, around the faces that dlib finds.

    Args:
        finder: Finds faces.
    """

    def __init__(self, finder: FaceFinder) -> None:
        self._finder = finder

    def find(self, images: Tensor) -> list[list[Tensor]]:
        """Find faces, and cut out what is around them."""
        return [[_tensor(crop) for crop in crops_of(self._finder.find(picture))] for picture in as_arrays(images)]


class DrawnPersons:
    """Persons of drawings: squares of a picture, from left to right, in which the bundled judge sees a face.

    Args:
        directory: Directory of the bundled judge.
        device: Device for the computation.
    """

    def __init__(self, directory: Path, device: torch.device | str = "cpu") -> None:
        self._judge = CalibrationJudge(directory, calibration_answers(directory), 0.0, device)

    def find(self, images: Tensor) -> list[list[Tensor]]:
        """Look at each square."""
        height, width = images.shape[-2:]
        side = min(height, width)
        squares = [images[..., start : start + side] for start in range(0, width - side + 1, side)]
        seen = [self._judge.perceive(square, "").statuses for square in squares]
        return [
            [
                square[number]
                for square, statuses in zip(squares, seen, strict=True)
                if statuses[number] is not Status.NO_FACE
            ]
            for number in range(len(images))
        ]


@dataclass(frozen=True)
class _Box:
    left: float
    top: float
    right: float
    bottom: float

    @classmethod
    def of(cls, face: Face) -> _Box:
        box: Any = face.landmarks.rect
        return cls(box.left(), box.top(), box.right() + 1, box.bottom() + 1)

    @property
    def middle(self) -> float:
        return (self.left + self.right) / 2


def crops_of(faces: Sequence[Face]) -> list[Pixels]:
    """Return a square crop ``(side, side, 3)`` for each face, from left to right; what is not of its person is grey."""
    found = sorted(((_Box.of(face), face) for face in faces), key=lambda one: one[0].middle)
    middles = [box.middle for box, _ in found]
    borders = [-np.inf, *((one + other) / 2 for one, other in pairwise(middles)), np.inf]
    # Of two faces above one another, the border would cut through both: each crop has all of its own face.
    return [
        _crop(face.picture, box, min(borders[place], box.left), max(borders[place + 1], box.right))
        for place, (box, face) in enumerate(found)
    ]


def _crop(picture: Pixels, box: _Box, left: float, right: float) -> Pixels:
    """Cut out a square around a face, without what is left of ``left`` or right of ``right``."""
    width = box.right - box.left
    side = max(1, round(SIDE * width))
    x, y = round(box.middle - side / 2), round(box.top - ABOVE * width)
    crop: Pixels = np.full((side, side, 3), _GREY, np.uint8)
    height, wide = picture.shape[:2]
    first, top = min(round(max(x, 0, left)), wide), min(max(y, 0), height)
    # dlib's boxes may lie beyond the picture: then nothing of it is copied.
    last, bottom = max(first, round(min(x + side, wide, right))), max(top, min(y + side, height))
    crop[top - y : bottom - y, first - x : last - x] = picture[top:bottom, first:last]
    return crop


def _tensor(picture: Pixels) -> Tensor:
    import torch

    return torch.from_numpy(picture).permute(2, 0, 1).contiguous()


def faces_of(judge: JudgeKeys, landmarks: str | None = None) -> FacesConfig:
    """Return how faces are found for persons: as for the judge, or by the defaults.

    Args:
        judge: The judge.
        landmarks: File of the face landmarks; None for that of the judge.
    """
    faces = judge.face_settings or FacesConfig()
    return faces if landmarks is None else faces.model_copy(update={"landmarks": landmarks})


def draws(model: ModelConfig) -> bool:
    """Return whether a model makes drawings of the calibration world."""
    return bundle_of(model) is not None


def finder_name(judge: JudgeKeys, model: ModelConfig) -> str:
    """Return a name of the finder that changes with its weights and settings."""
    if draws(model):
        return f"drawings:{Bundled().fingerprint(judge, model)}"
    return f"faces:{finder_fingerprint(faces_of(judge))}|side:{SIDE}|above:{ABOVE}"


def load_finder(faces: FacesConfig, model: ModelConfig) -> PersonFinder:
    """Load the finder for the pictures of a model.

    Args:
        faces: How faces are found in photographs.
        model: The audited model.

    Raises:
        UnfitModelError: dlib or a file is missing, or a file holds something else.
    """
    from audit.models.device import device_here

    bundle = bundle_of(model)
    return FacePersons(FaceFinder(faces)) if bundle is None else DrawnPersons(bundle.judge, device_here())
