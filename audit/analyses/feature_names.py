"""Activity of a lens's latents for many texts, from which bias features get names: one text, all seeds, one step."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from audit.analyses.analysis import Instruments, Part, present
from audit.records.work import derive_seed

if TYPE_CHECKING:
    from audit.dissect.sae import SparseAutoencoder

ACTIVITY = "activity"
"""Array of a part: mean value of each latent over the positions of a map, (seeds, F)."""

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class NamesRequest:
    """What is read.

    Attributes:
        lens: Path or address of the lens.
        lens_name: Name of the lens by content.
        hookpoint: Module whose output the lens reads.
        step: Step that is read.
        seeds: Number of noise seeds.
        batch: Most images in a batch.
        latents: F latents.
        texts: The texts.
    """

    lens: str
    lens_name: str
    hookpoint: str
    step: int
    seeds: int
    batch: int
    latents: tuple[int, ...]
    texts: tuple[str, ...]

    def as_data(self) -> dict[str, Any]:
        """Return what determines all parts, as plain data; each task names its text itself."""
        names = ("lens_name", "hookpoint", "step", "seeds", "batch", "latents")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class NamesTask:
    """One text."""

    text: str

    @property
    def id(self) -> str:
        """Name of the task."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]


class FeatureNames:
    """The analysis, see :class:`audit.analyses.analysis.SamplingAnalysis`."""

    name = "names"
    section = "explore"

    def tasks(self, request: NamesRequest) -> tuple[NamesTask, ...]:
        """Return one task for each text."""
        return tuple(NamesTask(text) for text in request.texts)

    def part(self, instruments: Instruments, request: NamesRequest, task: NamesTask) -> dict[str, Floats]:
        """Read the activity of the latents for one text."""
        import torch

        sae = _autoencoder(request.lens)
        seeds = [derive_seed("name", index) for index in range(request.seeds)]
        found = []
        for first in range(0, len(seeds), request.batch):
            own = seeds[first : first + request.batch]
            maps = instruments.generator.maps([task.text] * len(own), own, request.hookpoint, request.step)
            with torch.inference_mode():
                values = sae.latents_of_map(maps.float())[..., list(request.latents)]  # (B, P, F)
            found.append(values.mean(1).cpu())
        return {ACTIVITY: torch.cat(found).numpy()}

    def combine(self, request: NamesRequest, parts: Iterable[Part | None]) -> Floats:
        """Return the activity (texts, seeds, F)."""
        return np.stack([part[ACTIVITY] for part in present(self.tasks(request), parts)])


@lru_cache(maxsize=1)
def _autoencoder(lens: str) -> SparseAutoencoder:
    """Load the autoencoder of a lens, once for all texts of a worker."""
    from audit.dissect.sae import SparseAutoencoder
    from audit.models.device import device_here
    from audit.storage.folder_copy import folder_on_disk
    from audit.storage.place import place_of

    with folder_on_disk(place_of(lens)) as directory:
        return SparseAutoencoder.load(directory).to(device_here())
