"""Example pictures of a bias feature: those with its highest activation."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image

from audit.dissect.build import Recording
from audit.dissect.lens import Lens
from audit.dissect.settings import EXAMPLES

FEATURES_SHOWN = 6
PICTURES = 4


def write_examples(lens: Lens, recording: Recording, directory: Path) -> None:
    """Write ``examples/<latent>-<rank>.webp`` for the best features of each group.

    A picture's rank is the mean value of the latent over its steps and positions.
    """
    (directory / EXAMPLES).mkdir(parents=True, exist_ok=True)
    activity = mean_activity(lens, recording)
    for by_group in lens.features.values():
        for features in by_group.values():
            for feature in features[:FEATURES_SHOWN]:
                best = activity[:, feature.latent].topk(min(PICTURES, len(activity))).indices
                for rank, row in enumerate(best.tolist()):
                    picture = Image.fromarray(recording.thumbnails[row].permute(1, 2, 0).numpy())
                    picture.save(directory / EXAMPLES / f"{feature.latent}-{rank}.webp", quality=85)


def mean_activity(lens: Lens, recording: Recording) -> torch.Tensor:
    """Return the mean value ``(n, N)`` of every latent over a trajectory's steps and positions."""
    everything = torch.arange(recording.maps.shape[1])
    total = torch.zeros(len(everything), lens.sae.shape.n_latents)
    for step in range(len(recording.maps)):
        total += lens.sae.latents_of_map(recording.at(step, everything)).mean(1)
    return total / len(recording.maps)
