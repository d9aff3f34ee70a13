"""Samples the trajectories of a dissection and writes what is needed later to disk, part by part.

A part is one batch. Its result does not depend on who samples it or when, because every image has its own seed and
every batch its own composition; so workers share the parts, and an interrupted recording continues with the missing
ones.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from audit.dissect.group_heads import UNLABELLED
from audit.dissect.recording.files import PartFiles
from audit.dissect.recording.forecast import recording_bytes, recordings_that_fit
from audit.dissect.recording.layout import THUMBNAIL, Layout
from audit.dissect.recording.plan import Part, RecordingPlan, Stream
from audit.dissect.recording.recording import vectors_of
from audit.dissect.recording.stored_parts import missing_parts
from audit.dissect.recording.trajectories import Groups
from audit.models.generator import DiffusionGenerator
from audit.perception.judges.interface import Judge
from audit.perception.judges.perceived import NO_GROUP
from audit.records.work import derive_seed

# S steps, B images of a batch, m of them recorded

LOG = logging.getLogger(__name__)


class Recorder:
    """Samples parts of a recording and records the activations at its hookpoints.

    Args:
        generator: The model.
        judge: Labels the images.
        groups: Groups by attribute.
        plan: What is recorded.
    """

    def __init__(self, generator: DiffusionGenerator, judge: Judge, groups: Groups, plan: RecordingPlan) -> None:
        self._generator, self._judge, self._attributes, self._plan = generator, judge, tuple(groups), plan

    def record_all(self, directory: Path) -> None:
        """Record the parts that are missing in a local directory.

        Raises:
            ValueError: The disk is too small, or maps have numbers that cannot be stored.
        """
        missing = missing_parts(self._plan, directory)
        for number, part in enumerate(missing):
            left = sum(of.last - of.first for of in missing[number:])
            self.record(part, directory / part.id, left)

    def record(self, part: Part, directory: Path, left: int) -> None:
        """Sample one part and write it.

        Args:
            part: The part.
            directory: Local directory of the part.
            left: Trajectories that are not recorded yet, for which the disk must have room.

        Raises:
            ValueError: The disk is too small, or maps have numbers that cannot be stored.
        """
        keeper = _Keeper(self._plan, part, directory, left, self._generator.steps, self._attributes)
        trajectories = self._plan.trajectories[part.first : part.last]
        texts, seeds = [t.prompt.text for t in trajectories], [t.seed for t in trajectories]
        observers = {hookpoint: partial(keeper.keep, hookpoint) for hookpoint in self._plan.hookpoints}
        images = self._generator.sample(texts, seeds, observers=observers)
        keeper.check_steps()
        thumbnails = _thumbnails(images)
        files = keeper.files.with_pictures(tuple(thumbnails.shape[1:]))
        if len(keeper.places):
            files.thumbnails[:] = thumbnails[keeper.places]
            files.labels[:] = self._labels(images[keeper.places])
        files.write_header()

    def _labels(self, images: Tensor) -> Tensor:
        """Return the perceived groups (attributes, B)."""
        seen = self._judge.perceive(images, "")
        codes = torch.stack([torch.from_numpy(seen.codes(attribute)) for attribute in self._attributes])
        return torch.where(codes == NO_GROUP, UNLABELLED, codes)


class _Keeper:
    """Writes the maps of one part as they are computed.

    Attributes:
        files: Files of the part.
        places: (m,) places of the recorded trajectories in the batch.
    """

    def __init__(
        self, plan: RecordingPlan, part: Part, directory: Path, left: int, steps: int, attributes: tuple[str, ...]
    ) -> None:
        self._plan, self._first, self._left, self._steps = plan, part.first, left, steps
        self.places = torch.tensor([i - part.first for i in plan.rows_of(part)], dtype=torch.long)
        self.files = PartFiles(directory, part.last - part.first, len(self.places), attributes, {}, {})
        self.files.empty()
        self._seen: dict[str, list[int]] = {hookpoint: [] for hookpoint in plan.hookpoints}

    def keep(self, hookpoint: str, step: int, h: Tensor) -> None:
        """Write the maps (B, C, H, W) of one hookpoint and step."""
        maps = _stored(h)
        if hookpoint not in self.files.dtypes:
            self._make_room(hookpoint, maps)
        if len(self.places):
            self.files.maps(hookpoint)[step] = maps[self.places].flatten(1)
        for stream, layout in self.files.layouts.items():
            sample = self.files.sample(stream) if stream.hookpoint == hookpoint else None
            if sample is not None:
                seed = derive_seed(self._plan.lenses[0].seed, "positions", self._first, step)
                vectors = vectors_of(maps, whole_map=stream.whole_map)
                sample[:, step] = _some_positions(vectors, layout.positions, seed)
        self._seen[hookpoint].append(step)

    def check_steps(self) -> None:
        """Require one map of each hookpoint for each step.

        Raises:
            ValueError: There are more or fewer.
        """
        for hookpoint, steps in self._seen.items():
            if steps != list(range(self._steps)):
                raise ValueError(
                    f"expected one map of {hookpoint!r} for each of {self._steps} steps, found maps of steps {steps}; "
                    "choose another lens.hookpoint"
                )

    def _make_room(self, hookpoint: str, maps: Tensor) -> None:
        channels, height, width = maps.shape[1:]
        layouts = {
            stream: Layout.of(self._plan.settings_of(stream), self._steps, (channels, height, width))
            for stream in self._plan.streams
            if stream.hookpoint == hookpoint
        }
        self._check_space({**self.files.layouts, **layouts})
        self.files = self.files.with_maps(hookpoint, maps.dtype, layouts)

    def _check_space(self, layouts: Mapping[Stream, Layout]) -> None:
        share = self._left / len(self._plan.trajectories)
        needed, free = share * recording_bytes(layouts), shutil.disk_usage(self.files.directory).free
        if needed > free:
            fits = recordings_that_fit(layouts, free / share)
            remedy = f"set lens.recorded_trajectories to {fits} or less, or " * (fits >= 1)
            raise ValueError(
                f"expected {gigabytes(needed)} of free disk space for the maps of {len(self._plan.recorded)} "
                f"trajectories in {self.files.directory.parent}, found {gigabytes(free)}; {remedy}make room there"
            )


def gigabytes(count: float) -> str:
    """Write a number of bytes in GB, with one decimal below 100."""
    number = count / 1e9
    return f"{number:,.0f} GB" if number >= 100 else f"{number:.1f} GB"


def _stored(h: Tensor) -> Tensor:
    """Return maps on the CPU in half precision; those of a model in bfloat16 keep its range.

    Raises:
        ValueError: A number is not finite, or too large for half precision.
    """
    stored = h.to(h.dtype if h.dtype == torch.bfloat16 else torch.float16).cpu()
    if not bool(stored.isfinite().all()):
        largest = float(h.float().abs().nan_to_num(float("inf")).max())
        raise ValueError(
            f"expected maps of finite numbers up to 65504, found {largest:g}; set model.dtype: bfloat16, or choose "
            "another lens.hookpoint"
        )
    return stored


def _some_positions(vectors: Tensor, count: int, seed: int) -> Tensor:
    """Return ``count`` random positions of each of the maps, vectors (B, P, width) → (B, count, width)."""
    if count == vectors.shape[1]:
        return vectors
    draws = torch.rand(vectors.shape[:2], generator=torch.Generator().manual_seed(seed))
    chosen = draws.topk(count, sorted=False).indices
    return vectors.gather(1, chosen.unsqueeze(-1).expand(-1, -1, vectors.shape[2]))


def _thumbnails(images: Tensor) -> Tensor:
    if images.shape[-1] <= THUMBNAIL:
        return images
    size = (max(1, THUMBNAIL * images.shape[-2] // images.shape[-1]), THUMBNAIL)
    shrunk = torch.nn.functional.interpolate(images.float(), size=size, mode="bicubic", antialias=True)
    return shrunk.round().clamp(0, 255).byte()
