"""Mean activation of latents in the recorded images: by step, and over everything.

Shapes: S steps, m images, P positions, N latents, F features.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from audit.dissect.build import latent_values
from audit.dissect.lens import Lens
from audit.dissect.recording.recording import Recording

MAP_SIDE = 8
"""Most rows and columns of a stored map; larger grids are averaged."""


def step_activity(lens: Lens, recording: Recording, latents: Sequence[int]) -> Tensor:
    """Return the mean value ``(S, m, F)`` of some latents over the positions of each image and step."""
    everything = torch.arange(recording.layout.recorded)
    steps = [
        torch.cat([values.mean(1).cpu() for values in latent_values(lens.sae, recording, step, everything, latents)])
        for step in range(recording.steps)
    ]
    return torch.stack(steps)


def mean_map(lens: Lens, attribute: str, group: str, feature: int, shape: tuple[int, int, int]) -> list[list[float]]:
    """Return the mean activation of a feature by position, over the steps and the images that show its group.

    Args:
        lens: The lens.
        attribute: The attribute.
        group: The group.
        feature: Place of the feature among those of the group.
        shape: (C, H, W) of the recorded maps.

    Returns:
        Rows of the grid, averaged to at most ``MAP_SIDE`` rows and columns; empty without a grid, that is for codes of
        whole maps and for tokens in a row.
    """
    _, height, width = shape
    if lens.sae.shape.whole_map or min(height, width) == 1:
        return []
    grid = lens.firing[attribute][group][:, :, feature].mean(0).view(1, 1, height, width)
    small = torch.nn.functional.adaptive_avg_pool2d(grid, (min(height, MAP_SIDE), min(width, MAP_SIDE)))
    rows: list[list[float]] = small[0, 0].tolist()
    return [[float(f"{value:.3g}") for value in row] for row in rows]
