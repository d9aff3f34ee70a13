"""Reads a recording from the files of its parts: one block and half at some steps, or masks of all images."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit.analyses.concepts.recorded import STEPS
from audit.storage.files import storage_of
from audit.storage.place import Place, place_of

FIT, TUNE, TEST = "fit", "tune", "test"
_ROLES = (FIT, TEST, FIT, TUNE, FIT, TEST)
"""Roles of the images of a prompt, again and again: half train, a sixth sets thresholds, a third is measured."""

STAGES: dict[str, tuple[float, float]] = {"early": (0.0, 0.4), "middle": (0.4, 0.8), "final": (0.8, 1.0)}
"""Windows of steps as fractions of the run: t in [.6, 1], [.2, .6] and [0, .2] of arXiv 2504.15473."""


def stage_window(stage: str, steps: int) -> range:
    """Return the steps of a window, of a sampler's ``steps``; no step is in two windows.

    From 5 steps on, every window has one.
    """
    first, end = (math.ceil(round(share * steps, 9)) for share in STAGES[stage])
    return range(first, end)


@dataclass(frozen=True)
class StoredRecording:
    """A finished recording.

    Attributes:
        directory: Path or address of its parts.
        files: Names of the files, in the order of the tasks.
        prompts: Number of the prompt of each image, in the order of the files.
        indices: Number of each image among those of its prompt.
    """

    directory: str
    files: tuple[str, ...]
    prompts: tuple[int, ...]
    indices: tuple[int, ...]

    def rows(self, role: str) -> NDArray[np.int64]:
        """Return the numbers of the images that have a role."""
        return np.array([row for row, index in enumerate(self.indices) if _ROLES[index % len(_ROLES)] == role], int)

    def steps(self) -> NDArray[np.int64]:
        """Return the recorded steps."""
        return next(self._each((STEPS,)))[STEPS].astype(np.int64)

    def steps_in(self, stage: str, total: int) -> list[int]:
        """Return the places, among the recorded steps, of those in a stage.

        Args:
            stage: Name of the stage.
            total: Steps of the sampler.

        Raises:
            ValueError: None is recorded.
        """
        window = stage_window(stage, total)
        found = [place for place, step in enumerate(self.steps()) if int(step) in window]
        if not found:
            raise ValueError(f"expected a recorded step in the {stage} window, found none; raise concepts.steps")
        return found

    def array(self, name: str, steps: Sequence[int] | None = None) -> NDArray[Any]:
        """Return an array of all images, or some of its recorded steps (its second axis)."""
        parts = (part[name] for part in self._each((name,)))
        return np.concatenate([part if steps is None else part[:, list(steps)] for part in parts])

    def _each(self, names: Sequence[str]) -> Iterator[dict[str, NDArray[Any]]]:
        place = place_of(self.directory)
        for file in self.files:
            yield arrays_of(place, file, names)


def arrays_of(place: Place, file: str, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Read some arrays of a file in a directory; of a local file nothing else is read.

    Raises:
        ValueError: The file is incomplete, or lacks an array.
    """
    from safetensors import SafetensorError, safe_open
    from safetensors.numpy import load

    try:
        if isinstance(place, Path):
            with safe_open(place / file, framework="numpy") as opened:
                return {name: opened.get_tensor(name) for name in names}
        arrays = load(storage_of(place).read(file))
        return {name: arrays[name] for name in names}
    except (SafetensorError, KeyError) as error:
        raise ValueError(
            f"{place / file}: expected the arrays {', '.join(names)}, found a file that does not hold them ({error}); "
            "delete it and run the command again"
        ) from error
