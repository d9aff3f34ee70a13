"""Directions of prompts: what a prompt changes in a feature map, for equal noise, in one call of the denoiser.

For a prompt p and a seed s, h(p, s) is the map of a hookpoint in the conditional half at one step. The direction of p
is the mean over seeds of h(p, s) − h(neutral, s), where the neutral prompt is the same text about "a person". It needs
no training and no labels, and no image is finished. The idea is that of SCALEX (Zeng, Chen and Wong, arXiv
2511.13750), of which no full text and no code was at hand, so every choice here is our own (docs/decisions/0058).

An axis has two ends, each a neutral prompt with a word before the noun. With u the mean over seeds of
h(high, s) − h(low, s), the score of a prompt at one seed is

    2 ⟨h(p, s) − (h(low, s) + h(high, s)) / 2, u⟩ / ‖u‖²,

so that the low end has −1 and the high end +1, on average over seeds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit.analyses.analysis import Instruments, Part, present
from audit.models.files.untrusted_model import UnfitModelError
from audit.records.inside.exploration import Axis
from audit.records.work import derive_seed

MAPS, TEXTS = "maps", "texts"
"""Arrays of a part: maps (texts, seeds, m), and the text encoder's own vectors (texts, w)."""

_ROUNDING = 1e-6
"""Relative difference of two maps that float32 alone can cause."""

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class DirectionsRequest:
    """What is read.

    Attributes:
        hookpoint: Module whose output is read.
        step: Step that is read.
        seeds: Number of noise seeds.
        batch: Most images in a batch.
        neutral: Text of the neutral prompt.
        axes: The axes.
        texts: Further texts that have directions and scores, each once.
    """

    hookpoint: str
    step: int
    seeds: int
    batch: int
    neutral: str
    axes: tuple[Axis, ...]
    texts: tuple[str, ...]

    def as_data(self) -> dict[str, Any]:
        """Return what determines all parts, as plain data; each task names its texts itself."""
        return {"hookpoint": self.hookpoint, "step": self.step, "seeds": self.seeds, "batch": self.batch}

    @property
    def ends(self) -> tuple[str, ...]:
        """The neutral text and the ends of the axes, each once; they are read first."""
        return tuple(dict.fromkeys((self.neutral, *(end for axis in self.axes for end in (axis.low, axis.high)))))

    @property
    def groups_of_texts(self) -> tuple[tuple[str, ...], ...]:
        """The texts of each task: first the ends, then all others."""
        size = max(1, self.batch // self.seeds)
        others = tuple(dict.fromkeys(text for text in self.texts if text not in set(self.ends)))
        return tuple(
            texts[first : first + size] for texts in (self.ends, others) for first in range(0, len(texts), size)
        )


@dataclass(frozen=True)
class DirectionsTask:
    """Some texts, which are read in one batch if they fit.

    Attributes:
        texts: The texts.
    """

    texts: tuple[str, ...]

    @property
    def id(self) -> str:
        """Name of the task."""
        return hashlib.sha256(json.dumps(self.texts).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Directions:
    """Directions and scores of texts.

    Attributes:
        texts: P texts, the neutral one first, then the ends of the axes.
        axes: A names.
        scores: (P, A, seeds) score of each text, on each axis, at each seed.
        halves: (2, P, m) direction from the even and from the odd seeds; equal for one seed.
        text_scores: (P, A) score of the text encoder's own vector, without the denoiser.
        width: Numbers of a map; more than m if maps were shortened.
    """

    texts: tuple[str, ...]
    axes: tuple[str, ...]
    scores: Floats
    halves: Floats
    text_scores: Floats
    width: int

    def rows(self, texts: Sequence[str]) -> list[int]:
        """Return the rows of some texts."""
        places = {text: row for row, text in enumerate(self.texts)}
        return [places[text] for text in texts]


class DirectionsAnalysis:
    """The analysis, see :class:`audit.analyses.analysis.SamplingAnalysis`."""

    name = "directions"
    section = "explore"

    def tasks(self, request: DirectionsRequest) -> tuple[DirectionsTask, ...]:
        """Return one task for the texts of each batch."""
        return tuple(DirectionsTask(texts) for texts in request.groups_of_texts)

    def part(self, instruments: Instruments, request: DirectionsRequest, task: DirectionsTask) -> dict[str, Floats]:
        """Read the maps and the text vectors of some texts."""
        import torch

        from audit.analyses.sketch import sketched

        generator = instruments.generator
        if generator.reader is not None:
            generator.reader.check(task.texts)
        seeds = [derive_seed("direction", index) for index in range(request.seeds)]
        pairs = [(text, seed) for text in task.texts for seed in seeds]
        found, width = [], 0
        for first in range(0, len(pairs), request.batch):
            texts, own = zip(*pairs[first : first + request.batch], strict=True)
            maps = generator.maps(texts, own, request.hookpoint, request.step).float().flatten(1)
            width = maps.shape[1]
            found.append(sketched(maps).cpu())
        vectors = [_text_vector(generator.embeddings(text)) for text in task.texts]
        return {
            MAPS: torch.cat(found).view(len(task.texts), request.seeds, -1).numpy(),
            TEXTS: np.stack(vectors),
            "width": np.array([width]),
        }

    def combine(self, request: DirectionsRequest, parts: Iterable[Part | None]) -> Directions:
        """Turn maps into directions and scores, part by part: memory holds two vectors for each text."""
        rows = _rows(request, present(self.tasks(request), parts))
        ends = dict(_take(rows, len(request.ends)))
        reference = _Reference(request, ends)
        texts, scores, halves, text_scores = [], [], [], []
        for text, row in (*ends.items(), *rows):
            texts.append(text)
            scores.append(reference.scores(row.maps))
            halves.append(reference.halves(row.maps))
            text_scores.append(reference.text_scores(row.text))
        names = tuple(axis.name for axis in request.axes)
        width = next(iter(ends.values())).width
        return Directions(tuple(texts), names, np.stack(scores), np.stack(halves, 1), np.stack(text_scores), width)


@dataclass(frozen=True)
class _Row:
    maps: Floats
    text: Floats
    width: int


def _rows(request: DirectionsRequest, parts: Iterable[Part]) -> Iterator[tuple[str, _Row]]:
    for texts, part in zip(request.groups_of_texts, parts, strict=True):
        for number, text in enumerate(texts):
            yield text, _Row(part[MAPS][number].astype(np.float64), part[TEXTS][number], int(part["width"][0]))


def _take(rows: Iterator[tuple[str, _Row]], count: int) -> list[tuple[str, _Row]]:
    return [next(rows) for _ in range(count)]


class _Reference:
    """The neutral prompt and the axes, with which texts are compared."""

    def __init__(self, request: DirectionsRequest, ends: Mapping[str, _Row]) -> None:
        self._neutral = ends[request.neutral].maps
        pairs = [(ends[axis.low], ends[axis.high]) for axis in request.axes]
        for axis, (low, high) in zip(request.axes, pairs, strict=True):
            _require_difference(axis, request.hookpoint, low.maps, high.maps)
        self._middles = [(low.maps + high.maps) / 2 for low, high in pairs]
        self._units = [_scaled((high.maps - low.maps).mean(0)) for low, high in pairs]
        self._text_middles = [(low.text + high.text) / 2 for low, high in pairs]
        self._text_units = [_scaled(high.text - low.text) for low, high in pairs]

    def scores(self, maps: Floats) -> Floats:
        """Return the scores (A, seeds) of maps (seeds, m)."""
        seeds = len(maps)
        found = [(maps - middle) @ unit for middle, unit in zip(self._middles, self._units, strict=True)]
        return np.stack(found) if found else np.zeros((0, seeds))

    def halves(self, maps: Floats) -> Floats:
        """Return the direction (2, m) of maps (seeds, m), from the even and from the odd seeds."""
        change = maps - self._neutral
        odd = change[1::2] if len(change) > 1 else change
        return np.stack([change[::2].mean(0), odd.mean(0)]).astype(np.float32)

    def text_scores(self, text: Floats) -> Floats:
        """Return the scores (A,) of a text vector."""
        pairs = zip(self._text_middles, self._text_units, strict=True)
        return np.array([float((text - middle) @ unit) for middle, unit in pairs])


def _require_difference(axis: Axis, hookpoint: str, low: Floats, high: Floats) -> None:
    """Refuse an axis on which every score would be 0.

    Raises:
        UnfitModelError: The maps of both ends are equal, rounding aside.
    """
    if np.linalg.norm(high - low) <= _ROUNDING * np.linalg.norm(low):
        raise UnfitModelError(
            f"axis {axis.name}: expected two ends that differ inside the model, found equal maps at {hookpoint!r} for "
            f"{axis.low!r} and {axis.high!r}; choose other words in explore.axes, or another explore.hookpoint"
        )


def _scaled(difference: Floats) -> Floats:
    """Return 2 u / ‖u‖²; zero if both ends have equal vectors of the text encoder."""
    square = float(difference @ difference)
    return 2 * difference / square if square > 0 else np.zeros_like(difference)


def _text_vector(embeddings: Mapping[str, Any]) -> Floats:
    """Return what the text encoder gives the denoiser, the mean over its tokens; all encoders one after another."""
    vectors = [rows.float().reshape(-1, rows.shape[-1]).mean(0) for rows in embeddings.values()]
    return np.concatenate([vector.cpu().numpy() for vector in vectors]).astype(np.float64)
