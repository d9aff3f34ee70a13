"""Judges of faces: each image is searched for faces, and the judge sees the aligned faces instead of the image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from audit.perception.faces.finder import Face, FaceFinder, as_arrays
from audit.perception.judges.answers import Answers, audited_columns
from audit.perception.judges.interface import Audited, Judge
from audit.perception.judges.perceived import FacesSeen, FloatArray, Perceived, perceived
from audit.records.work import Status

if TYPE_CHECKING:
    from torch import Tensor

_BATCH = 32
"""Chips that a judge sees at once."""

_CONFIDENCE = "|min_confidence:"


class FaceReader(Protocol):
    """Names the probabilities of all groups that it knows for faces."""

    @property
    def signature(self) -> str:
        """Name and fingerprint of the networks, and how faces are prepared for them."""
        ...

    def read(self, faces: Sequence[Face], occupation: str) -> Mapping[str, FloatArray]:
        """Return attribute → probabilities of all its groups, ``(faces, groups)``; there is at least one face."""
        ...


class ChipReader:
    """A judge of pictures that reads FairFace's chips: 300 pixels, with a padding of 25 %.

    Args:
        judge: The judge, loaded for all groups that it knows, so that nothing is outside its groups.
    """

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self.signature = judge.signature.partition(_CONFIDENCE)[0] + "|chip:300-padding:0.25"

    def read(self, faces: Sequence[Face], occupation: str) -> Mapping[str, FloatArray]:
        """Cut out the chips and judge them."""
        parts = [
            self._judge.perceive(_chips(faces[start : start + _BATCH]), occupation).probabilities
            for start in range(0, len(faces), _BATCH)
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


class JudgeOfFaces:
    """Finds the faces of each image and judges them.

    An image without a face has the status *no face*. If there are several, the largest decides, or the mean of all
    probabilities; an image counts once in either case.

    Args:
        finder: Finds faces.
        reader: Judges them.
        answers: Attribute → all groups of the reader, in the order of its probabilities.
        attributes: Attribute → audited groups.
        min_confidence: An image has low confidence if the probability of its most probable group is below this.
        each: Whether each face decides, and not only the largest.
    """

    def __init__(
        self,
        finder: FaceFinder,
        reader: FaceReader,
        answers: Answers,
        attributes: Audited,
        min_confidence: float,
        *,
        each: bool = False,
    ) -> None:
        self._finder = finder
        self._reader = reader
        self._answers = answers
        self._audited = audited_columns("the judge", answers, attributes)
        self._min_confidence = min_confidence
        self._each = each
        self.signature = f"{reader.signature}|{finder.signature}{_CONFIDENCE}{min_confidence}"

    def perceive(self, images: Tensor, occupation: str) -> Perceived:
        """Judge uint8 images ``(n, 3, H, W)``."""
        found = [self._finder.find(picture) for picture in as_arrays(images)]
        judged = [faces if self._each else faces[:1] for faces in found]
        owners = np.repeat(np.arange(len(judged)), [len(faces) for faces in judged])
        every = [face for faces in judged for face in faces]
        read = self._reader.read(every, occupation) if every else None
        shares = {
            name: _means(None if read is None else read[name], owners, (len(judged), len(self._answers[name])))
            for name in self._audited
        }
        seen = perceived(shares, self._audited, self._min_confidence)
        statuses = [status if faces else Status.NO_FACE for faces, status in zip(found, seen.statuses, strict=True)]
        return replace(seen, statuses=statuses, faces=_seen(found, judged))


def _chips(faces: Sequence[Face]) -> Tensor:
    """Return the chips of faces as uint8 ``(n, 3, 300, 300)``."""
    import torch

    return torch.from_numpy(np.stack([face.chip() for face in faces])).permute(0, 3, 1, 2).contiguous()


def _means(values: FloatArray | None, owners: NDArray[np.int64], shape: tuple[int, int]) -> FloatArray:
    """Return the mean over the faces of each image, of this shape; equal values for an image without a face."""
    sums, counts = np.zeros(shape), np.bincount(owners, minlength=shape[0])[:, None]
    if values is not None:
        np.add.at(sums, owners, values.astype(np.float64))
    means: FloatArray = np.where(counts > 0, sums / np.maximum(counts, 1), 1 / shape[1]).astype(np.float32)
    return means


def _seen(found: Sequence[Sequence[Face]], judged: Sequence[Sequence[Face]]) -> FacesSeen:
    scores = [max((face.score for face in faces), default=np.nan) for faces in judged]
    return FacesSeen(np.array([len(faces) for faces in found], dtype=np.int64), np.array(scores, dtype=np.float32))
