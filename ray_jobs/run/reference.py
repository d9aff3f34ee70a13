"""Features of reference images, embedded by the workers: what the distances of the arms are also measured against."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import ray
from numpy.typing import NDArray

from audit.config.problems import listing
from audit.config.settings import AuditConfig
from audit.storage.outside.picture import PictureError, read_picture
from audit.storage.outside.picture_folder import SUFFIXES, picture_folder
from ray_jobs.cluster.connection import Cluster, asked_resources, work_in, worker_count, worker_resources
from ray_jobs.pool.actor_pool import Failed, Finished, PoolError, run_on_pool
from ray_jobs.pool.limits import ErrorBudget, PoolLimits

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


class ReferenceWorker:
    """Embeds image files; a plain class, made remote by ``reference_features``."""

    def __init__(self, config: AuditConfig, working_directory: str) -> None:
        """Load the feature network; relative paths in the config start from ``working_directory``."""
        import torch

        from audit.perception.embedders.features import load_features

        work_in(working_directory)
        torch.set_num_threads(config.workers.threads)
        self._network = load_features(config.quality, config.model)

    def embed(self, part: ReferencePart) -> NDArray[np.float32]:
        """Return features (files, d); one image at a time, since their sizes may differ.

        Raises:
            ValueError: If the config names no feature network.
        """
        if self._network is None:
            raise ValueError("reference images need a feature network; set quality.features, or drop quality.reference")
        return np.concatenate([self._network.embed(_read(Path(file))) for file in part.files])


def reference_features(config: AuditConfig, cluster: Cluster) -> NDArray[np.float32] | None:
    """Return the features (n, d) of the images under ``quality.reference``, None where the config names none.

    Raises:
        ValueError: If there are fewer than two images.
        PoolError: If an image cannot be read.
    """
    if config.quality.reference is None:
        return None
    parts = reference_parts(Path(config.quality.reference).absolute())
    working_directory = str(Path.cwd())
    worker = ray.remote(ReferenceWorker).options(**worker_resources(config.workers, cluster.gpus))
    outcomes = run_on_pool(
        lambda _number: worker.remote(config, working_directory),
        parts,
        size=worker_count(config.workers, cluster),
        submit=lambda actor, part, _attempt: actor.embed.remote(part),
        error_budget=ErrorBudget(0),
        limits=PoolLimits(resources=asked_resources(config.workers, cluster.gpus)),
    )
    found: dict[int, NDArray[np.float32]] = {}
    with closing(outcomes):
        for outcome in outcomes:
            if isinstance(outcome, Failed):
                raise PoolError(f"the reference images cannot be used: {outcome.reason}")
            if isinstance(outcome, Finished):
                found[outcome.task.number] = outcome.value
    return np.concatenate([found[part.number] for part in parts])


def reference_parts(directory: Path) -> Sequence[ReferencePart]:
    """Cut the images of a directory, in the order of their names, into parts.

    Raises:
        ValueError: If there are fewer than two, which have no covariance.
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
