"""The files of a recording: created for one layout, filled batch by batch, and found again after an interruption."""

from __future__ import annotations

import json
import logging
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from audit.dissect.recording.layout import Layout
from audit.dissect.recording.stored_tensor import StoredTensor
from audit.storage.local_files import write_atomically
from audit.storage.outside.json_object import read_json_object

LOG = logging.getLogger(__name__)

HEADER_FILE = "recording.json"
"""Layout of the files, and the number of trajectories that are complete; written after every batch."""

LayoutOf = Callable[[int, tuple[int, int, int]], Layout]
"""``(steps, shape)`` → the layout that the settings give for maps of this shape."""

_DTYPES = {str(dtype): dtype for dtype in (torch.float16, torch.bfloat16)}


@dataclass(frozen=True)
class RecordingFiles:
    """The files of a recording.

    Attributes:
        directory: Local directory.
        layout: Sizes.
        dtype: Type of the maps, float16 or bfloat16.
        attributes: Attributes with labels, in the order of the rows of ``labels``.
        picture: (3, h, w) of a thumbnail; None until the first images are sampled.
    """

    directory: Path
    layout: Layout
    dtype: torch.dtype
    attributes: tuple[str, ...]
    picture: tuple[int, ...] | None = None

    @property
    def maps(self) -> StoredTensor:
        """``(S, m, d)`` whole maps."""
        shape = (self.layout.steps, self.layout.recorded, self.layout.numbers)
        return StoredTensor(self.directory / "maps.bin", shape, self.dtype)

    @property
    def sample(self) -> StoredTensor | None:
        """``(n, S, q, width)`` vectors for the autoencoder; None if it reads the maps."""
        if not self.layout.sampled:
            return None
        shape = (self.layout.trajectories, self.layout.steps, self.layout.positions, self.layout.width)
        return StoredTensor(self.directory / "sample.bin", shape, self.dtype)

    @property
    def labels(self) -> StoredTensor:
        """``(attributes, m)`` perceived groups."""
        shape = (len(self.attributes), self.layout.recorded)
        return StoredTensor(self.directory / "labels.bin", shape, torch.int64)

    @property
    def thumbnails(self) -> StoredTensor:
        """``(m, 3, h, w)`` pictures.

        Raises:
            ValueError: No image was sampled yet.
        """
        if self.picture is None:
            raise ValueError("expected the size of the pictures, found no image yet; sample the first batch")
        return StoredTensor(self.directory / "thumbnails.bin", (self.layout.recorded, *self.picture), torch.uint8)

    def create(self) -> None:
        """Create the files of maps and labels, in place of any that exist.

        Raises:
            ValueError: The disk has too little space.
        """
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True)
        self._check_space()
        for file in (self.maps, self.labels, *([] if self.sample is None else [self.sample])):
            file.create()

    def with_pictures(self, picture: tuple[int, ...]) -> RecordingFiles:
        """Return the files with room for pictures of this size (3, h, w), which is created."""
        files = replace(self, picture=picture)
        files.thumbnails.create()
        return files

    def write_header(self, done: int) -> None:
        """Note that the first ``done`` trajectories are complete."""
        layout = self.layout
        header = {
            "steps": layout.steps,
            "shape": layout.shape,
            "dtype": str(self.dtype),
            "attributes": self.attributes,
            "picture": self.picture,
            "layout": _sizes(layout),
            "done": done,
        }
        write_atomically(self.directory / HEADER_FILE, json.dumps(header).encode())

    def _check_space(self) -> None:
        needed, free = self.layout.disk_bytes, shutil.disk_usage(self.directory).free
        if needed > free:
            fits = self.layout.fits(free)
            remedy = f"set lens.recorded_trajectories to {fits} or less, or " * (fits >= 1)
            raise ValueError(
                f"expected {gigabytes(needed)} of free disk space for the maps of {self.layout.recorded} trajectories "
                f"in {self.directory}, found {gigabytes(free)}; {remedy}make room there"
            )


def resumed_files(directory: Path, layout_of: LayoutOf, attributes: tuple[str, ...]) -> tuple[RecordingFiles, int]:
    """Return the files of an interrupted recording, and how many of its trajectories are complete.

    Raises:
        ValueError: They are damaged, or of other settings.
    """
    header = read_json_object(directory / HEADER_FILE, "the header of a recording")
    try:
        files = RecordingFiles(
            directory,
            layout_of(int(header["steps"]), _shape_of(header["shape"])),
            _DTYPES[header["dtype"]],
            tuple(header["attributes"]),
            _shape_of(header["picture"]),
        )
        done = int(header["done"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{directory / HEADER_FILE}: expected the header of a recording, found {error}") from error
    if files.attributes != attributes or header["layout"] != _sizes(files.layout):
        raise ValueError(f"{directory / HEADER_FILE}: found a recording for other settings")
    stored = (files.maps, files.labels, files.thumbnails, *([] if files.sample is None else [files.sample]))
    damaged = [file.path.name for file in stored if not file.is_whole]
    if damaged or not 0 < done <= files.layout.trajectories:
        raise ValueError(f"{directory}: found an incomplete recording ({', '.join(damaged) or f'done: {done}'})")
    return files, done


def gigabytes(count: float) -> str:
    """Write a number of bytes in GB, with one decimal below 100."""
    number = count / 1e9
    return f"{number:,.0f} GB" if number >= 100 else f"{number:.1f} GB"


def _sizes(layout: Layout) -> list[int]:
    return [layout.trajectories, layout.recorded, layout.width, layout.positions, int(layout.sampled)]


def _shape_of(sides: Any) -> tuple[int, int, int]:  # noqa: ANN401 - from a file
    first, second, third = (int(side) for side in sides)
    if math.prod((first, second, third)) < 1:
        raise ValueError(f"expected three sides above 0, found {sides}")
    return first, second, third
