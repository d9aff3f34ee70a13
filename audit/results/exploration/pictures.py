"""Scores of pictures with their intervals, how well axes separate the model's own images, and the nearest texts.

Legend: n pictures, A axes, m numbers of a direction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from audit.analyses.directions import Directions
from audit.analyses.given.picture_maps import PictureMaps
from audit.records.inside.read_pictures import Near, PictureAxis, PictureScore, ReadPictures

Floats = NDArray[np.floating[Any]]

RESAMPLES = 2000


def read_pictures_of(
    maps: PictureMaps,
    directions: Directions,
    texts: Mapping[str, Sequence[tuple[str, str]]],
    step: int,
) -> ReadPictures:
    """Summarise what was read of pictures.

    Args:
        maps: Of the pictures.
        directions: Of texts, at the same hookpoint, step and seeds.
        texts: ``prompts`` and ``descriptors``, each as (name, text).
        step: The step.
    """
    whole = maps.halves.astype(np.float64).mean(0)
    even, odd = (_units(half.astype(np.float64)) for half in maps.halves)
    agreement = (even * odd).sum(1)
    one_seed = maps.scores.shape[-1] < 2
    return ReadPictures(
        step=step,
        images=maps.own.shape[-1],
        axes=tuple(_axis(name, own) for name, own in zip(maps.axes, maps.own, strict=True)),
        scores=_scores(maps),
        prompts=_nearest(maps.names, whole, directions, texts["prompts"]),
        descriptors=_nearest(maps.names, whole, directions, texts["descriptors"]),
        agreement={name: None if one_seed else float(value) for name, value in zip(maps.names, agreement, strict=True)},
    )


def _scores(maps: PictureMaps) -> tuple[PictureScore, ...]:
    half = _half_widths(maps)
    values = maps.scores.mean(-1)
    return tuple(
        PictureScore(
            picture=name,
            axis=axis,
            value=float(values[row, column]),
            low=None if half is None else float(values[row, column] - half[row, column]),
            high=None if half is None else float(values[row, column] + half[row, column]),
        )
        for row, name in enumerate(maps.names)
        for column, axis in enumerate(maps.axes)
    )


def _half_widths(maps: PictureMaps) -> Floats | None:
    """Return half of Student's 95 % interval (n, A); None for one seed.

    The middle of an axis is the mean over images of the mean of both ends, whose images share their noise.
    """
    seeds, images = maps.scores.shape[-1], maps.own.shape[-1]
    if seeds < 2:
        return None
    middle = maps.own.mean(1).var(-1, ddof=1) / images  # (A,)
    found: Floats = stats.t.ppf(0.975, seeds - 1) * np.sqrt(maps.scores.var(-1, ddof=1) / seeds + middle)
    return found


def _axis(name: str, own: Floats) -> PictureAxis:
    """Return the area under the curve of both ends' images (2, images), with a percentile interval over images."""
    low_end, high_end = own
    draws = np.random.default_rng(0).integers(own.shape[1], size=(RESAMPLES, own.shape[1]))
    found = [_area(low_end[rows], high_end[rows]) for rows in draws]  # the images of both ends share their noise
    low, high = np.quantile(found, (0.025, 0.975))
    return PictureAxis(name, _area(low_end, high_end), float(low), float(high))


def _area(lower: Floats, upper: Floats) -> float:
    """Return the share of pairs in which the upper one is larger, ties counted half, from ranks."""
    ordered = np.sort(lower)
    below = np.searchsorted(ordered, upper, "left") + np.searchsorted(ordered, upper, "right")
    return float(below.sum() / (2 * len(lower) * len(upper)))


def _nearest(
    names: Sequence[str], pictures: Floats, directions: Directions, texts: Sequence[tuple[str, str]]
) -> dict[str, tuple[Near, ...]]:
    """Return all texts for each picture, the nearest first; what several texts have in common is subtracted."""
    if not texts:
        return dict.fromkeys(names, ())
    vectors = directions.halves.astype(np.float64).mean(0)[directions.rows([text for _, text in texts])]
    if len(texts) > 1:
        vectors = vectors - vectors.mean(0)
    cosines = _units(pictures) @ _units(vectors).T
    return {
        name: tuple(Near(texts[place][0], float(own[place])) for place in np.argsort(-own, kind="stable"))
        for name, own in zip(names, cosines, strict=True)
    }


def _units(vectors: Floats) -> Floats:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    found: Floats = vectors / np.where(lengths > 0, lengths, 1)
    return found
