"""Example pictures of a bias feature: those with its highest activation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from audit.dissect.build import latent_values
from audit.dissect.honesty.files import write_honesty
from audit.dissect.lens import Lens
from audit.dissect.recording.recording import Recording
from audit.dissect.settings import EXAMPLES

FEATURES_SHOWN = 6
PICTURES = 4


def write_examples(lens: Lens, recording: Recording, directory: Path) -> None:
    """Write ``examples/<latent>-<rank>.webp`` for the best features of each group, and ``honesty.json`` for all.

    A picture's rank is the mean value of the latent over its steps and positions.
    """
    (directory / EXAMPLES).mkdir(parents=True, exist_ok=True)
    shown = sorted(
        {
            feature.latent
            for by_group in lens.features.values()
            for features in by_group.values()
            for feature in features[:FEATURES_SHOWN]
        }
    )
    activity = mean_activity(lens, recording, shown)
    for column, latent in enumerate(shown):
        best = activity[:, column].topk(min(PICTURES, len(activity))).indices
        for rank, row in enumerate(best.tolist()):
            picture = Image.fromarray(recording.thumbnails[row].permute(1, 2, 0).numpy())
            picture.save(directory / EXAMPLES / f"{latent}-{rank}.webp", quality=85)
    write_honesty(lens, recording, directory)


def mean_activity(lens: Lens, recording: Recording, latents: Sequence[int]) -> torch.Tensor:
    """Return the mean value ``(m, F)`` of some latents over a trajectory's steps and positions."""
    everything = torch.arange(recording.layout.recorded)
    total = torch.zeros(len(everything), len(latents))
    for step in range(recording.steps):
        total += torch.cat([of.mean(1) for of in latent_values(lens.sae, recording, step, everything, latents)]).cpu()
    return total / recording.steps
