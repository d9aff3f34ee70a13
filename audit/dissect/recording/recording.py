"""The maps and perceived groups of the sampled trajectories, read block by block from disk.

Shapes: S steps, n trajectories, m of them recorded, d = C·H·W, P vectors of a map, q of them in the sample.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from audit.dissect.recording.files import opened_part
from audit.dissect.recording.joined_tensor import JoinedTensor
from audit.dissect.recording.layout import Layout
from audit.dissect.recording.plan import RecordingPlan, Stream
from audit.dissect.sae_training import ActivationBatch
from audit.dissect.settings import Dissection


@dataclass(frozen=True)
class Recording:
    """What a dissection sampled.

    Attributes:
        layout: Sizes.
        maps: ``(S, m, d)`` in half precision, conditional half.
        sample: ``(n, S, q, width)`` vectors for the autoencoder, None if it reads the maps.
        labels: Attribute → (m,) perceived group, ``UNLABELLED`` if the judge assigned none of the groups.
        partners: (m,) row of the counterfactual, or −1.
        thumbnails: (m, 3, h, w) uint8, at most ``THUMBNAIL`` pixels wide.
    """

    layout: Layout
    maps: JoinedTensor
    sample: JoinedTensor | None
    labels: dict[str, Tensor]
    partners: Tensor
    thumbnails: JoinedTensor

    @classmethod
    def open(cls, directory: Path, plan: RecordingPlan, settings: Dissection) -> Recording:
        """Open what one lens is made from, when all parts are stored.

        Args:
            directory: Local directory of the recording.
            plan: What was recorded.
            settings: Settings of the lens.

        Raises:
            ValueError: A part is damaged, or there are no trajectories.
        """
        if not plan.parts:
            raise ValueError("expected trajectories to sample, found none; raise lens.trajectories")
        parts, stream = [opened_part(directory / part.id, plan) for part in plan.parts], Stream.of(settings)
        samples = [sample for part in parts if (sample := part.sample(stream)) is not None]
        labels = JoinedTensor([part.labels for part in parts], 1)[:]
        row_of = {trajectory: row for row, trajectory in enumerate(plan.recorded)}
        partners = [plan.trajectories[i].partner for i in plan.recorded]
        return cls(
            parts[0].layouts[stream],
            JoinedTensor([part.maps(settings.hookpoint) for part in parts], 1),
            JoinedTensor(samples, 0) if samples else None,
            dict(zip(parts[0].attributes, labels, strict=True)),
            torch.tensor([-1 if partner is None else row_of[partner] for partner in partners]),
            JoinedTensor([part.thumbnails for part in parts], 0),
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one map."""
        return self.layout.shape

    @property
    def steps(self) -> int:
        """Sampler steps."""
        return self.layout.steps

    def at(self, step: int, rows: Tensor) -> Tensor:
        """Return maps ``(len(rows), C, H, W)`` of one step in float32."""
        return self.maps[step, rows].float().view(-1, *self.shape)

    def activations(self, settings: Dissection) -> Iterator[ActivationBatch]:
        """Yield the vectors that the autoencoder is trained from, complete trajectories, in half precision.

        A sample is shuffled by trajectory, so that training sees plain and named prompts from its first step.
        """
        if self.sample is None:
            for first in range(0, self.layout.recorded, settings.batch):
                rows = torch.arange(first, min(first + settings.batch, self.layout.recorded))
                maps = self.maps[:, first : first + settings.batch].view(self.steps, len(rows), *self.shape)
                yield _batch(vectors_of(maps, whole_map=settings.whole_map), rows)
            return
        draws = torch.Generator().manual_seed(settings.seed)
        for rows in torch.split(torch.randperm(len(self.sample), generator=draws), settings.batch):
            yield _batch(self.sample[rows].transpose(0, 1), rows)


def vectors_of(maps: Tensor, *, whole_map: bool) -> Tensor:
    """Split maps (..., C, H, W) into vectors (..., P, width) of the autoencoder."""
    return maps.flatten(-3).unsqueeze(-2) if whole_map else maps.flatten(-2).transpose(-1, -2)


def _batch(vectors: Tensor, trajectories: Tensor) -> ActivationBatch:
    """Label vectors (S, n, P, width) with their step and trajectory."""
    steps, n, positions, _ = vectors.shape
    grid = torch.arange(steps)[:, None, None].expand(steps, n, positions)
    owner = trajectories[None, :, None].expand(steps, n, positions)
    return ActivationBatch(vectors.flatten(0, 2), grid.flatten(), owner.flatten())
