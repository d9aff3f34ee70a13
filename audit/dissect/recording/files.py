"""The files of one part of a recording: created for the shapes of its maps, and opened again for reading."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from audit.dissect.recording.layout import Layout
from audit.dissect.recording.plan import RecordingPlan, Stream
from audit.dissect.recording.stored_parts import PART_FILE, streams_of
from audit.dissect.recording.stored_tensor import StoredTensor
from audit.storage.local_files import write_atomically
from audit.storage.outside.json_object import read_json_object

_DTYPES = {str(dtype): dtype for dtype in (torch.float16, torch.bfloat16)}

# S steps, b trajectories of the part, m of them recorded, d = C·H·W, q vectors of a map in the sample


@dataclass(frozen=True)
class PartFiles:
    """The files of a part.

    Attributes:
        directory: Local directory.
        trajectories: b.
        recorded: m.
        dtypes: Hookpoint → type of its maps, float16 or bfloat16.
        layouts: Stream → sizes of the whole recording.
        attributes: Attributes with labels, in the order of the rows of ``labels``.
        picture: (3, h, w) of a thumbnail; empty until the images are sampled.
    """

    directory: Path
    trajectories: int
    recorded: int
    attributes: tuple[str, ...]
    dtypes: Mapping[str, torch.dtype]
    layouts: Mapping[Stream, Layout]
    picture: tuple[int, ...] = ()

    def maps(self, hookpoint: str) -> StoredTensor:
        """``(S, m, d)`` whole maps of a hookpoint."""
        layout = next(layout for stream, layout in self.layouts.items() if stream.hookpoint == hookpoint)
        number = list(self.dtypes).index(hookpoint)
        shape = (layout.steps, self.recorded, layout.numbers)
        return StoredTensor(self.directory / f"maps-{number}.bin", shape, self.dtypes[hookpoint])

    def sample(self, stream: Stream) -> StoredTensor | None:
        """``(b, S, q, width)`` vectors for the autoencoder; None if it reads the maps."""
        layout = self.layouts[stream]
        if not layout.sampled:
            return None
        number = list(self.layouts).index(stream)
        shape = (self.trajectories, layout.steps, layout.positions, layout.width)
        return StoredTensor(self.directory / f"sample-{number}.bin", shape, self.dtypes[stream.hookpoint])

    @property
    def labels(self) -> StoredTensor:
        """``(attributes, m)`` perceived groups."""
        return StoredTensor(self.directory / "labels.bin", (len(self.attributes), self.recorded), torch.int64)

    @property
    def thumbnails(self) -> StoredTensor:
        """``(m, 3, h, w)`` pictures."""
        return StoredTensor(self.directory / "thumbnails.bin", (self.recorded, *self.picture), torch.uint8)

    def empty(self) -> None:
        """Make the directory, without what an interrupted worker left in it."""
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True)

    def with_maps(self, hookpoint: str, dtype: torch.dtype, layouts: Mapping[Stream, Layout]) -> PartFiles:
        """Return the files with room for the maps and vectors of one more hookpoint, which is created."""
        files = replace(self, dtypes={**self.dtypes, hookpoint: dtype}, layouts={**self.layouts, **layouts})
        samples = [files.sample(stream) for stream in layouts]
        for file in (files.maps(hookpoint), *(sample for sample in samples if sample is not None)):
            file.create()
        return files

    def with_pictures(self, picture: tuple[int, ...]) -> PartFiles:
        """Return the files with room for labels and for pictures of this size (3, h, w), which is created."""
        files = replace(self, picture=picture)
        files.thumbnails.create()
        files.labels.create()
        return files

    def write_header(self) -> None:
        """Mark the part as complete."""
        header = {
            "trajectories": self.trajectories,
            "recorded": self.recorded,
            "attributes": self.attributes,
            "dtypes": {hookpoint: str(dtype) for hookpoint, dtype in self.dtypes.items()},
            "steps": next(iter(self.layouts.values())).steps,
            "streams": [
                {
                    "hookpoint": stream.hookpoint,
                    "whole_map": stream.whole_map,
                    "sae_steps": stream.sae_steps,
                    "shape": layout.shape,
                }
                for stream, layout in self.layouts.items()
            ],
            "picture": self.picture,
            "files": {file.path.name: file.bytes for file in self._stored},
        }
        write_atomically(self.directory / PART_FILE, json.dumps(header).encode())

    @property
    def _stored(self) -> list[StoredTensor]:
        maps = [self.maps(hookpoint) for hookpoint in self.dtypes]
        samples = [file for stream in self.layouts if (file := self.sample(stream)) is not None]
        return [*maps, *samples, self.labels, self.thumbnails]


def opened_part(directory: Path, plan: RecordingPlan) -> PartFiles:
    """Return the files of a part that is stored.

    Raises:
        ValueError: They are damaged, or lack a stream of the plan.
    """
    path = directory / PART_FILE
    header = read_json_object(path, "the header of a part of a recording")
    try:
        shapes, steps = streams_of(header), int(header["steps"])
        if not all(math.prod(shape) >= 1 for shape in shapes.values()):
            raise ValueError(f"maps of the shapes {list(shapes.values())}")
        files = PartFiles(
            directory,
            int(header["trajectories"]),
            int(header["recorded"]),
            tuple(header["attributes"]),
            {str(hookpoint): _DTYPES[dtype] for hookpoint, dtype in header["dtypes"].items()},
            {stream: Layout.of(plan.settings_of(stream), steps, shape) for stream, shape in shapes.items()},
            tuple(int(side) for side in header["picture"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path}: expected the header of a part of a recording, found {error}") from error
    return files
