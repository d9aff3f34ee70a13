"""Directions of pictures: what a noised picture changes in a feature map, under the neutral prompt.

For a picture x and a seed s, h(x, s) is the map of a hookpoint at step S, with x encoded by the VAE, noised to the
level of S by the noise of s, and read under the neutral prompt. The direction of x is the mean over seeds of
h(x, s) − R(s), where R(s) is the mean of h over images that the model itself makes of the neutral prompt. They pass the
VAE and the same noise, so that what noising and reading add is subtracted (docs/decisions/0064).

An axis has the ends of :mod:`audit.analyses.directions`, but its ends are the model's own images of both texts, read in
the same way: the low end has −1 and the high end +1, on average over images and seeds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from audit.analyses.analysis import Instruments, Part, batches, present
from audit.records.inside.exploration import Axis
from audit.records.work import derive_seed

if TYPE_CHECKING:
    from torch import Tensor

    from audit.models.generator import DiffusionGenerator

Floats = NDArray[np.floating[Any]]

# n pictures, A axes, m numbers of a map, after it is shortened

MAPS, WIDTH = "maps", "width"


@dataclass(frozen=True)
class PictureFile:
    """A picture on disk.

    Attributes:
        path: The file.
        name: Its path relative to the folder.
        digest: Of its content, so that a changed file is read again.
    """

    path: str
    name: str
    digest: str


@dataclass(frozen=True)
class PictureMapsRequest:
    """What is read.

    Attributes:
        hookpoint: Module whose output is read.
        step: S, at least 1.
        seeds: Number of noise seeds, the same as those of prompts.
        batch: Most images in a batch.
        neutral: Text of the neutral prompt.
        axes: The axes.
        images: Images that the model makes of the neutral prompt and of each end.
        seed: Seed of these images.
        files: The pictures.
    """

    hookpoint: str
    step: int
    seeds: int
    batch: int
    neutral: str
    axes: tuple[Axis, ...]
    images: int
    seed: int
    files: tuple[PictureFile, ...]

    def as_data(self) -> dict[str, Any]:
        """Return what determines all parts, as plain data; each task names its pictures itself."""
        names = ("hookpoint", "step", "seeds", "batch", "neutral", "seed")
        return {name: getattr(self, name) for name in names}

    @property
    def ends(self) -> tuple[str, ...]:
        """The neutral text and the ends of the axes, each once."""
        return tuple(dict.fromkeys((self.neutral, *(end for axis in self.axes for end in (axis.low, axis.high)))))


@dataclass(frozen=True)
class PictureMapsTask:
    """One batch: pictures on disk, or images that the model makes of a text.

    Attributes:
        files: The pictures; empty for images of the model.
        text: The text; empty for pictures on disk.
        first: Number of the first image.
        count: Number of images.
    """

    files: tuple[PictureFile, ...] = ()
    text: str = ""
    first: int = 0
    count: int = 0

    @property
    def id(self) -> str:
        """Name of the task."""
        named = "\n".join(file.digest for file in self.files) or self.text
        kind = "files" if self.files else f"own.{self.first:06d}.{self.count}"
        return f"{kind}.{hashlib.sha256(named.encode()).hexdigest()[:16]}"


@dataclass(frozen=True)
class PictureMaps:
    """Directions and scores of pictures.

    Attributes:
        names: n names of the pictures.
        axes: A names.
        scores: (n, A, seeds) score of each picture.
        halves: (2, n, m) direction from the even and from the odd seeds; equal for one seed.
        own: (A, 2, images) mean score of the model's own images of both ends. The axis of the even images gives the
            score of the odd ones, and the other way round.
        width: Numbers of a map; more than m if maps were shortened.
    """

    names: tuple[str, ...]
    axes: tuple[str, ...]
    scores: Floats
    halves: Floats
    own: Floats
    width: int


class PictureMapsAnalysis:
    """The analysis, see :class:`audit.analyses.analysis.SamplingAnalysis`."""

    name = "picture-maps"
    section = "explore"

    def tasks(self, request: PictureMapsRequest) -> tuple[PictureMapsTask, ...]:
        """Return a task for each batch: first the model's own images, then the pictures."""
        batch = request.batch
        own = [
            PictureMapsTask(text=text, first=first, count=count)
            for text, first, count in batches(request.ends, request.images, batch)
        ]
        files = [PictureMapsTask(request.files[first : first + batch]) for first in range(0, len(request.files), batch)]
        return (*own, *files)

    def part(
        self, instruments: Instruments, request: PictureMapsRequest, task: PictureMapsTask
    ) -> dict[str, NDArray[Any]]:
        """Read one batch at all seeds."""
        import torch

        from audit.analyses.sketch import sketched

        generator = instruments.generator
        latents = generator.encode(_pixels(generator, request, task))
        found, width = [], 0
        for index in range(request.seeds):
            seeds = [derive_seed("direction", index)] * len(latents)
            texts = [request.neutral] * len(latents)
            maps = generator.maps(texts, seeds, request.hookpoint, request.step, latents).float().flatten(1)
            width = maps.shape[1]
            found.append(sketched(maps).cpu())
        return {MAPS: torch.stack(found, 1).numpy(), WIDTH: np.array([width])}

    def combine(self, request: PictureMapsRequest, parts: Iterable[Part | None]) -> PictureMaps:
        """Turn maps into directions and scores, part by part."""
        if not request.files:
            raise ValueError("expected at least one picture, found none; name a folder of pictures")
        tasks = self.tasks(request)
        kept = present(tasks, parts)
        own: dict[str, list[Floats]] = {text: [] for text in request.ends}
        for task in takewhile(lambda task: task.text, tasks):
            own[task.text].append(next(kept)[MAPS].astype(np.float64))
        reference, scores, halves, width = _OwnImages(request, own), [], [], 0
        for part in kept:
            maps, width = part[MAPS].astype(np.float64), int(part[WIDTH][0])  # (B, seeds, m)
            scores.append(reference.scores(maps))
            halves.append(reference.halves(maps))
        names = tuple(axis.name for axis in request.axes)
        return PictureMaps(
            names=tuple(file.name for file in request.files),
            axes=names,
            scores=np.concatenate(scores),
            halves=np.concatenate(halves, 1),
            own=reference.own_scores(),
            width=width,
        )


class _OwnImages:
    """The model's own images, with which pictures are compared."""

    def __init__(self, request: PictureMapsRequest, own: Mapping[str, Sequence[Floats]]) -> None:
        joined = {text: np.concatenate(maps) for text, maps in own.items()}  # (images, seeds, m)
        self._neutral = joined[request.neutral].mean(0)
        self._ends = [(joined[axis.low], joined[axis.high]) for axis in request.axes]
        self._axes = [_Axis.between(low, high) for low, high in self._ends]

    def scores(self, maps: Floats) -> Floats:
        """Return the scores (B, A, seeds) of maps (B, seeds, m)."""
        found = [axis.scores(maps) for axis in self._axes]
        return np.stack(found, 1) if found else np.zeros((len(maps), 0, maps.shape[1]))

    def halves(self, maps: Floats) -> Floats:
        """Return the directions (2, B, m) from the even and from the odd seeds."""
        change = maps - self._neutral
        odd = change[:, 1::2] if change.shape[1] > 1 else change
        return np.stack([change[:, ::2].mean(1), odd.mean(1)]).astype(np.float32)

    def own_scores(self) -> Floats:
        """Return the scores (A, 2, images) of both ends, each from the axis of the other half of the images."""
        found = np.zeros((len(self._ends), 2, len(self._ends[0][0]) if self._ends else 0))
        for place, pair in enumerate(self._ends):
            for half in (0, 1):
                axis = _Axis.between(*(maps[1 - half :: 2] for maps in pair))
                for end, maps in enumerate(pair):
                    found[place, end, half::2] = axis.scores(maps[half::2]).mean(1)
        return found


@dataclass(frozen=True)
class _Axis:
    """The middle of both ends (seeds, m) and 2 u / ‖u‖² (m,); zero if the ends have equal images."""

    middle: Floats
    unit: Floats

    @classmethod
    def between(cls, low: Floats, high: Floats) -> _Axis:
        """Make it from maps (images, seeds, m) of both ends."""
        first, second = low.mean(0), high.mean(0)
        u = (second - first).mean(0)
        square = float(u @ u)
        return cls((first + second) / 2, 2 * u / square if square > 0 else np.zeros_like(u))

    def scores(self, maps: Floats) -> Floats:
        """Return the scores (B, seeds) of maps (B, seeds, m)."""
        found: Floats = (maps - self.middle) @ self.unit
        return found


def _pixels(generator: DiffusionGenerator, request: PictureMapsRequest, task: PictureMapsTask) -> Tensor:
    """Return the images of a task, uint8 (B, 3, H, W)."""
    if not task.files:
        numbers = range(task.first, task.first + task.count)
        seeds = [derive_seed("own pictures", request.seed, number) for number in numbers]
        return generator.sample([task.text] * task.count, seeds)
    import torch

    size = generator.size
    return torch.stack([torch.from_numpy(fitted(Path(file.path), *size)) for file in task.files])


def fitted(path: Path, height: int, width: int) -> NDArray[np.uint8]:
    """Read a picture, scale it to cover the size, and keep its middle: uint8 (3, height, width).

    Raises:
        ValueError: It cannot be read.
    """
    from PIL import Image, ImageOps

    from audit.storage.outside.picture import PictureError, read_picture

    try:
        picture = Image.fromarray(read_picture(path))
    except (PictureError, OSError) as error:
        raise ValueError(f"{path}: expected a picture that can be read: {error}") from error
    covered = ImageOps.fit(picture, (width, height), Image.Resampling.LANCZOS)
    return np.ascontiguousarray(np.asarray(covered).transpose(2, 0, 1))


def picture_files(folder: Path) -> Iterator[PictureFile]:
    """Yield the pictures under a folder, at any depth, sorted by path."""
    from audit.storage.outside.picture_folder import picture_folder

    for path in picture_folder(folder).pictures:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        yield PictureFile(str(path.absolute()), path.relative_to(folder).as_posix(), digest)
