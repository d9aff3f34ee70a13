"""Pictures on disk, read inside the model on the workers, beside the directions of prompts at the same noise level."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from audit.analyses.directions import Directions, DirectionsRequest
from audit.analyses.given.picture_maps import PictureMaps, PictureMapsRequest, picture_files
from audit.config.optional.exploration import PicturesConfig
from audit.config.slices import DissectionRequest
from audit.models.families.registry import steps_here
from audit.records.inside.read_pictures import ReadPictures
from audit.results.exploration.pictures import read_pictures_of
from ray_jobs.run.inside.analyse import AnalysisSettings, Request, run_analysis
from ray_jobs.run.network import NetworkSettings
from ray_jobs.run.parts import WorkerPool

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReadPicturesRequest:
    """Which pictures are read.

    Attributes:
        section: The section of the config.
        dissection: Model, sampling, attributes and judge.
        directions: What is read of prompts, at another step.
        prompts: (id, text) of each prompt.
        descriptors: (word, text) of each descriptor.
        seed: Seed of the audit.
    """

    section: PicturesConfig
    dissection: DissectionRequest
    directions: DirectionsRequest
    prompts: tuple[tuple[str, str], ...]
    descriptors: tuple[tuple[str, str], ...]
    seed: int

    @property
    def step(self) -> int:
        """The step that is read: half of the steps if the config does not say."""
        steps = steps_here(self.dissection.model, self.dissection.sampling)
        return self.section.step or max(1, steps // 2)

    @cached_property
    def maps(self) -> PictureMapsRequest:
        """What is read of the pictures."""
        asked = self.directions
        return PictureMapsRequest(
            hookpoint=asked.hookpoint,
            step=self.step,
            seeds=asked.seeds,
            batch=asked.batch,
            neutral=asked.neutral,
            axes=asked.axes,
            images=self.section.images,
            seed=self.seed,
            files=tuple(picture_files(Path(self.section.folder or ""))),
        )

    @property
    def texts(self) -> DirectionsRequest:
        """What is read of prompts and descriptors, at the same step."""
        texts = dict.fromkeys(text for _, text in (*self.prompts, *self.descriptors))
        return replace(self.directions, step=self.step, texts=tuple(texts))

    def as_data(self) -> dict[str, Any]:
        """Return what the result depends on besides the config: the content of the files."""
        return {"step": self.step, "files": [[file.name, file.digest] for file in self.maps.files]}


def find_pictures(request: ReadPicturesRequest, output: str, pool: WorkerPool) -> ReadPictures | None:
    """Read the pictures, or resume with the parts that are missing; None without a folder.

    Args:
        request: What is read.
        output: Path or address of the directory that holds parts.
        pool: Where the tasks run.

    Raises:
        AnalysisError: A task failed.
    """
    if request.section.folder is None:
        return None
    LOG.info("Pictures: %d files at step %d", len(request.maps.files), request.step)
    maps: PictureMaps = run_analysis(_settings(request, "picture-maps", request.maps), output, pool)
    directions: Directions = run_analysis(_settings(request, "directions", request.texts), output, pool)
    texts: dict[str, Sequence[tuple[str, str]]] = {"prompts": request.prompts, "descriptors": request.descriptors}
    return read_pictures_of(maps, directions, texts, request.step)


def _settings(request: ReadPicturesRequest, name: str, asked: Request) -> AnalysisSettings:
    dissection = request.dissection
    network = NetworkSettings(dissection.model, dissection.sampling, request.directions.hookpoint)
    return AnalysisSettings(name, asked, network, dissection.judge, dissection.attributes)
