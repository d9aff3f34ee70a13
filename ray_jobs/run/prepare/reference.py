"""Embeds the reference images on the workers; distances of the arms to their features are measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from audit.config.problems import listing
from audit.config.sections import ModelConfig, QualityConfig
from audit.storage.outside.picture import PictureError, read_picture
from audit.storage.outside.picture_folder import SUFFIXES, picture_folder
from ray_jobs.run.parts import PreparationError, WorkerPool, results_of

if TYPE_CHECKING:
    from torch import Tensor

FILES_PER_PART = 256


@dataclass(frozen=True)
class ReferencePart:
    """Some of the reference images.

    Attributes:
        number: Position among the parts.
        files: Paths as the workers see them.
    """

    number: int
    files: tuple[str, ...]

    @property
    def id(self) -> str:
        """Name in messages."""
        return f"reference-{self.number}"


@dataclass(frozen=True)
class ReferenceSettings:
    """What a worker needs to embed reference images.

    Attributes:
        quality: Names the feature network.
        model: The audited model; a bundled network comes with it.
    """

    quality: QualityConfig
    model: ModelConfig


class ReferenceWorker:
    """Embeds image files; a plain class, run by ``results_of``."""

    def __init__(self, settings: ReferenceSettings) -> None:
        """Load the feature network."""
        from audit.perception.embedders.features import load_features

        self._network = load_features(settings.quality, settings.model)

    def do(self, part: ReferencePart) -> NDArray[np.float32]:
        """Return features (files, d); one image at a time, since their sizes may differ.

        Raises:
            ValueError: If no feature network is named, or an image cannot be used.
        """
        if self._network is None:
            raise ValueError("reference images need a feature network; set quality.features, or drop quality.reference")
        return np.concatenate([self._network.embed(_read(Path(file))) for file in part.files])


def reference_features(quality: QualityConfig, model: ModelConfig, pool: WorkerPool) -> NDArray[np.float32] | None:
    """Return the features (n, d) of the images under ``quality.reference``, None if the config names none.

    Raises:
        ValueError: If there are fewer than two images.
        PreparationError: If an image cannot be read.
    """
    if quality.reference is None:
        return None
    parts = reference_parts(Path(quality.reference).absolute())
    try:
        results = results_of(ReferenceWorker, ReferenceSettings(quality, model), parts, pool)
        found: dict[str, NDArray[np.float32]] = {part.id: features for part, features in results}
    except PreparationError as error:
        raise PreparationError.during("the reference images cannot be used", error) from error
    return np.concatenate([found[part.id] for part in parts])


def reference_parts(directory: Path) -> Sequence[ReferencePart]:
    """Split the images of a directory, in the order of their names, into parts.

    Raises:
        ValueError: If there are fewer than two images, which have no covariance.
    """
    files = [str(path) for path in picture_folder(directory).pictures]
    if len(files) < 2:
        raise ValueError(
            f"quality.reference: expected at least 2 images ({listing(sorted(SUFFIXES))}) in {directory}, "
            f"found {len(files)}"
        )
    starts = range(0, len(files), FILES_PER_PART)
    return [ReferencePart(number, tuple(files[start : start + FILES_PER_PART])) for number, start in enumerate(starts)]


def _read(path: Path) -> Tensor:
    """Read a picture as uint8 (1, 3, H, W).

    Raises:
        ValueError: If it cannot be used; the message names it.
    """
    import torch

    try:
        pixels = read_picture(path)
    except PictureError as error:
        raise ValueError(f"{path}: {error}") from error
    return torch.from_numpy(pixels).permute(2, 0, 1)[None]
