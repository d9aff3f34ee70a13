"""How many maps and vectors of a dissection are recorded, and the disk space that they need.

Shapes: S steps, n trajectories, m of them recorded, d = C·H·W, P vectors of a map, q of them in the sample.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from audit.dissect.sae_training import training_of
from audit.dissect.settings import Dissection

NUMBER_BYTES = 2
"""Bytes of a recorded number: float16, or bfloat16 for a model that runs in it."""

THUMBNAIL = 128
"""Largest width in pixels of a picture that shows what activates a feature."""


@dataclass(frozen=True)
class Layout:
    """Sizes of a recording; they depend only on the settings of the lens and the shape of the maps.

    Attributes:
        steps: S.
        shape: (C, H, W) of one map.
        trajectories: n.
        recorded: m, trajectories whose whole maps are recorded.
        width: Length of one vector of the autoencoder.
        positions: q, vectors of each map that the autoencoder can read; P if it can read all.
        sampled: Whether these vectors are in a file of their own; otherwise they are read from the whole maps.
    """

    steps: int
    shape: tuple[int, int, int]
    trajectories: int
    recorded: int
    width: int
    positions: int
    sampled: bool

    @classmethod
    def of(cls, settings: Dissection, steps: int, shape: tuple[int, int, int]) -> Layout:
        """Plan a recording.

        The autoencoder reads all vectors if its training has time for them. Otherwise it reads equally many random
        positions of every map, because the first trajectories alone would be a poor sample of all.

        Args:
            settings: Settings of the lens.
            steps: Sampler steps.
            shape: (C, H, W) of one map.
        """
        numbers = math.prod(shape)
        width = numbers if settings.whole_map else shape[0]
        total, maps = numbers // width, settings.trajectories * steps
        wanted = training_of(settings).vectors_read(width * NUMBER_BYTES)
        positions = total if maps * total <= wanted else max(1, wanted // maps)
        recorded = min(settings.recorded, settings.trajectories)
        sampled = positions < total or recorded < settings.trajectories
        return cls(steps, shape, settings.trajectories, recorded, width, positions, sampled)

    @property
    def numbers(self) -> int:
        """Numbers of one map, d."""
        return math.prod(self.shape)

    @property
    def map_bytes(self) -> int:
        """Disk space of the whole maps."""
        return self.recorded * self.bytes_of_trajectory

    @property
    def sample_bytes(self) -> int:
        """Disk space of the autoencoder's own file; 0 if it has none."""
        return self.sampled * self.trajectories * self.steps * self.positions * self.width * NUMBER_BYTES

    @property
    def bytes_of_trajectory(self) -> int:
        """Disk space of the whole maps of one trajectory."""
        return self.steps * self.numbers * NUMBER_BYTES

    @property
    def picture_bytes(self) -> int:
        """Disk space of the pictures, at their largest size."""
        return self.recorded * 3 * THUMBNAIL**2
