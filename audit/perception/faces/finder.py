"""Finds faces with dlib and aligns them as FairFace does.

FairFace's ``predict.py`` (Kärkkäinen & Joo 2021) resizes a picture to 800 pixels on its longer side, finds faces with
dlib's CNN detector after one upsampling, places five landmarks, and cuts out chips of 300 pixels with a padding of
25 %. The CNN detector here does the same with the user's file of weights. The HOG detector is built into dlib and needs
none: landmarks and chips are the same, the detector differs, and a picture below 800 pixels is not enlarged.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from audit.config.judges import FacesConfig
from audit.models.files.untrusted_model import UnfitModelError
from audit.perception.faces.files import CNN, LANDMARKS, file_problem, libraries_problem, path_of

if TYPE_CHECKING:
    from torch import Tensor

Pixels = NDArray[np.uint8]
"""A picture in RGB, ``(H, W, 3)``."""

LONGER_SIDE = 800
"""Pixels of the longer side of a picture in which faces are looked for, as in FairFace's script."""

CHIP, PADDING = 300, 0.25
"""Width of FairFace's chips in pixels, and their padding as a share of the face."""

NAMES = {"hog": "FairFace alignment, HOG detector", "cnn": "FairFace alignment, CNN detector"}

LOWEST_SCORES = {"hog": 0.25, "cnn": 0.0}
"""Default threshold of each detector.

The HOG detector sees a face in the mission badge of scikit-image's portrait ``astronaut`` with scores of 0.07 to 0.22;
the face itself has 1.06 or more. The CNN detector has the threshold of dlib, which FairFace's script keeps."""


@dataclass(frozen=True)
class Face:
    """A face that was found in a picture.

    Attributes:
        picture: The picture as it was searched, ``(H, W, 3)``; at most 800 pixels on its longer side.
        landmarks: dlib's ``full_object_detection``.
        score: The detector's score.
        area: Area of its box, in pixels of ``picture``.
    """

    picture: Pixels
    landmarks: Any
    score: float
    area: int

    def chip(self, size: int = CHIP, padding: float = PADDING) -> Pixels:
        """Cut out the face, turned upright: ``(size, size, 3)``."""
        import dlib

        chip: Pixels = dlib.get_face_chip(self.picture, self.landmarks, size=size, padding=padding)
        return chip


class FaceFinder:
    """Finds and aligns the faces of a picture.

    Args:
        settings: Detector, threshold and smallest size.

    Raises:
        UnfitModelError: dlib or a file is missing, or a file holds something else.
    """

    def __init__(self, settings: FacesConfig) -> None:
        obstacle = next((message for _, message in finder_problems(settings)), None)
        if obstacle is not None:
            raise UnfitModelError(obstacle)
        import dlib

        self._settings = settings
        self._threshold = lowest_score(settings)
        self._landmarks = dlib.shape_predictor(str(path_of(LANDMARKS, settings.landmarks)))
        self._detector = _detector(settings)
        self.signature = (
            f"faces:{NAMES[settings.detector]}|dlib:{dlib.__version__}|{_files(settings)}"
            f"|threshold:{self._threshold:g}|upsample:{settings.upsample}|smallest:{settings.smallest}"
            f"|several:{settings.several}"
        )

    def find(self, picture: Pixels) -> tuple[Face, ...]:
        """Return the faces of a picture in RGB ``(H, W, 3)``, the largest first."""
        settings = self._settings
        searched = _resized(picture, enlarge=settings.detector == "cnn")
        smallest = settings.smallest * max(searched.shape[:2]) / max(picture.shape[:2])
        faces = [
            Face(searched, self._landmarks(searched, box), score, box.area())
            for box, score in self._detected(searched)
            if box.width() >= smallest
        ]
        return tuple(sorted(faces, key=lambda face: -face.area))

    def _detected(self, picture: Pixels) -> Iterator[tuple[Any, float]]:
        """Yield the box and the score of each face above the threshold."""
        if self._settings.detector == "cnn":
            for found in self._detector(picture, self._settings.upsample):
                if found.confidence >= self._threshold:
                    yield found.rect, float(found.confidence)
            return
        boxes, scores, _ = self._detector.run(picture, self._settings.upsample, self._threshold)
        yield from zip(boxes, scores, strict=True)


def as_arrays(images: Tensor) -> list[Pixels]:
    """Return uint8 images ``(n, 3, H, W)`` as arrays ``(H, W, 3)``."""
    return [image.permute(1, 2, 0).contiguous().numpy() for image in images.cpu()]


def lowest_score(settings: FacesConfig) -> float:
    """Return the score below which nothing is a face."""
    return LOWEST_SCORES[settings.detector] if settings.threshold is None else settings.threshold


def finder_problems(settings: FacesConfig) -> Iterator[tuple[str, str]]:
    """Find what would stop a finder from loading: the key of the config, and a message."""
    obstacle = libraries_problem("dlib")
    if obstacle is not None:
        yield "detector", obstacle
    obstacle = file_problem(LANDMARKS, settings.landmarks)
    if obstacle is not None:
        yield "landmarks", obstacle
    obstacle = file_problem(CNN, settings.weights) if settings.weights is not None else None
    if obstacle is not None:
        yield "weights", obstacle


def finder_fingerprint(settings: FacesConfig) -> str:
    """Return a name that changes with the files of a finder and with every setting that may change a label."""
    others = settings.model_dump_json(exclude={"weights", "landmarks"})
    return f"{_files(settings)}:{hashlib.sha256(others.encode()).hexdigest()[:12]}"


def _files(settings: FacesConfig) -> str:
    """Return the fingerprints of the files of a finder."""
    weights = f"|weights:{CNN.sha256[:12]}" if settings.weights is not None else ""
    return f"landmarks:{LANDMARKS.sha256[:12]}{weights}"


def _detector(settings: FacesConfig) -> Any:  # noqa: ANN401 - dlib has no types
    import dlib

    if settings.weights is None:
        return dlib.get_frontal_face_detector()
    return dlib.cnn_face_detection_model_v1(str(path_of(CNN, settings.weights)))


def _resized(picture: Pixels, *, enlarge: bool) -> Pixels:
    """Resize a picture to 800 pixels on its longer side, as FairFace's script does; smaller ones only if asked."""
    import dlib

    height, width = picture.shape[:2]
    scale = LONGER_SIDE / max(height, width)
    if scale == 1 or (scale > 1 and not enlarge):
        return picture
    rows, columns = (max(1, int(LONGER_SIDE * side / max(height, width))) for side in (height, width))
    resized: Pixels = dlib.resize_image(picture, rows=rows, cols=columns)
    return resized
