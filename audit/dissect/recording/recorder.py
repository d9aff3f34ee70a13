"""Samples the trajectories of a dissection and writes what is needed later to disk, batch by batch.

A recording that was interrupted continues with the first batch that is not complete. The result is bit-identical,
because every image has its own seed and every batch its own composition.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from audit.dissect.group_heads import UNLABELLED
from audit.dissect.recording.files import HEADER_FILE, RecordingFiles, resumed_files
from audit.dissect.recording.layout import THUMBNAIL, Layout
from audit.dissect.recording.recording import Recording, vectors_of
from audit.dissect.recording.trajectories import Groups, Trajectory, recorded_trajectories
from audit.dissect.settings import Dissection
from audit.models.generator import DiffusionGenerator
from audit.perception.judges.interface import Judge
from audit.perception.judges.perceived import NO_GROUP
from audit.records.work import derive_seed

# S steps, n trajectories, m of them recorded, B images of a batch

LOG = logging.getLogger(__name__)
LOG_SECONDS = 30.0


class Recorder:
    """Samples trajectories and records the activations at the hookpoint.

    Args:
        generator: The model.
        judge: Labels the images.
        groups: Groups by attribute.
        trajectories: All images to sample.
        settings: Settings of the lens.
        directory: Local directory of the recording, which belongs to this lens alone; an interrupted recording in it
            is continued.
    """

    def __init__(
        self,
        generator: DiffusionGenerator,
        judge: Judge,
        groups: Groups,
        trajectories: Sequence[Trajectory],
        settings: Dissection,
        directory: Path,
    ) -> None:
        self.directory = directory
        self._generator, self._judge, self._attributes = generator, judge, tuple(groups)
        self._trajectories, self._settings = trajectories, settings
        self._recorded = recorded_trajectories(trajectories, settings)
        self._row_of = {trajectory: row for row, trajectory in enumerate(self._recorded)}
        self._files: RecordingFiles | None = None

    def record(self) -> Recording:
        """Sample the trajectories that are missing, and return the recording.

        Raises:
            ValueError: There are no trajectories, the disk is too small, or maps have numbers that cannot be stored.
        """
        count, batch = len(self._trajectories), self._settings.batch
        done = self._resume()
        started = logged = time.monotonic()
        for first in range(done, count, batch):
            last = min(first + batch, count)
            self._sample(first, last).write_header(last)
            if time.monotonic() - logged >= LOG_SECONDS or last == count:
                logged = time.monotonic()
                LOG.info(
                    "sampled %d of %d trajectories, %.2f per second", last, count, (last - done) / (logged - started)
                )
        if self._files is None:
            raise ValueError("expected trajectories to sample, found none; raise lens.trajectories")
        return self._recording(self._files)

    def delete(self) -> None:
        """Delete the recording."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def _resume(self) -> int:
        """Return how many trajectories of an interrupted recording are complete."""
        if not (self.directory / HEADER_FILE).exists():
            return 0
        try:
            self._files, done = resumed_files(self.directory, self._layout, self._attributes)
        except ValueError as error:
            LOG.warning("sampling all trajectories again: %s", error)
            return 0
        LOG.info("resuming the dissection: %d of %d trajectories are sampled", done, len(self._trajectories))
        return done

    def _sample(self, first: int, last: int) -> RecordingFiles:
        """Sample one batch and write it; all but the header."""
        batch, kept = self._trajectories[first:last], [i for i in range(first, last) if i in self._row_of]
        places = torch.tensor([i - first for i in kept], dtype=torch.long)
        rows = torch.tensor([self._row_of[i] for i in kept], dtype=torch.long)
        seen: list[int] = []
        texts, seeds = [t.prompt.text for t in batch], [t.seed for t in batch]
        keep = partial(self._keep, first, places, rows, seen)
        images = self._generator.sample(texts, seeds, observers={self._settings.hookpoint: keep})
        files = self._files
        if files is None or seen != list(range(files.layout.steps)):
            raise ValueError(
                f"expected one map of {self._settings.hookpoint!r} for each of {self._generator.steps} steps, found "
                f"maps of steps {seen}; choose another lens.hookpoint"
            )
        thumbnails = _thumbnails(images)
        if files.picture is None:
            self._files = files = files.with_pictures(tuple(thumbnails.shape[1:]))
        if len(kept):
            files.thumbnails[rows] = thumbnails[places]
            files.labels[:, rows] = self._labels(images[places])
        return files

    def _keep(self, first: int, places: Tensor, rows: Tensor, seen: list[int], step: int, h: Tensor) -> None:
        """Write the maps (B, C, H, W) of one step."""
        maps = _stored(h)
        if self._files is None:
            self._files = self._new_files(maps)
        files, layout = self._files, self._files.layout
        if len(rows):
            files.maps[step, rows] = maps[places].flatten(1)
        if files.sample is not None:
            seed = derive_seed(self._settings.seed, "positions", first, step)
            vectors = vectors_of(maps, whole_map=self._settings.whole_map)
            files.sample[first : first + len(maps), step] = _some_positions(vectors, layout.positions, seed)
        seen.append(step)

    def _new_files(self, maps: Tensor) -> RecordingFiles:
        channels, height, width = maps.shape[1:]
        layout = self._layout(self._generator.steps, (channels, height, width))
        files = RecordingFiles(self.directory, layout, maps.dtype, self._attributes)
        files.create()
        return files

    def _layout(self, steps: int, shape: tuple[int, int, int]) -> Layout:
        counted = replace(self._settings, trajectories=len(self._trajectories), recorded=len(self._recorded))
        return Layout.of(counted, steps, shape)

    def _labels(self, images: Tensor) -> Tensor:
        """Return the perceived groups (attributes, B)."""
        seen = self._judge.perceive(images, "")
        codes = torch.stack([torch.from_numpy(seen.codes(attribute)) for attribute in self._attributes])
        return torch.where(codes == NO_GROUP, UNLABELLED, codes)

    def _recording(self, files: RecordingFiles) -> Recording:
        partners = [self._trajectories[i].partner for i in self._recorded]
        return Recording(
            files.layout,
            files.maps,
            files.sample,
            dict(zip(self._attributes, files.labels[:], strict=True)),
            torch.tensor([-1 if partner is None else self._row_of[partner] for partner in partners]),
            files.thumbnails,
        )


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
