"""Names of the distances between sets of images, which depend on the feature network that a run used.

Only distances on the FID Inception network with its published weights are called FID and KID. Other networks give other
numbers, so their names say which network it was.
"""

from __future__ import annotations

from dataclasses import dataclass

from audit.records.quality import Measurement, QualityResult
from reports.index.story import Story

_DISTANCES = ("fid", "kid", "fid_to_reference", "kid_to_reference")

_NETWORKS = {
    "calibration-features-64": "calibration features",
    "torchvision-inception-v3": "torchvision Inception v3",
    "fid-inception": "FID Inception network, own weights",
    "dinov2-vit-s14": "DINOv2 ViT-S/14",
    "dinov2-vit-b14": "DINOv2 ViT-B/14",
    "dinov2-vit-l14": "DINOv2 ViT-L/14",
    "dinov2-vit-g14": "DINOv2 ViT-g/14",
}
"""First part of a network's signature → its display name."""


@dataclass(frozen=True)
class DistanceNames:
    """Names of the Fréchet and of the kernel distance, ``FID`` and ``KID`` where these names are right."""

    frechet: str = "Fréchet distance"
    kernel: str = "Kernel distance"

    @property
    def are_published(self) -> bool:
        """Whether papers report the same distance, as FID and KID."""
        return self.frechet == "FID"

    @classmethod
    def of_signature(cls, signature: str) -> DistanceNames:
        """Return the names for the network in a figure's signature; names without a network if it is unknown."""
        network = part_of(signature, "net")
        if network.startswith("fid-inception:published:"):
            return cls("FID", "KID")
        name = network.partition(":")[0]
        words = _NETWORKS.get(name, "DINOv2, own size" if name.startswith("dinov2-") else "")
        if not words:
            return cls()
        frechet = "FD-DINOv2" if name == "dinov2-vit-l14" else f"Fréchet distance ({words})"
        return cls(frechet, f"Kernel distance ({words})")


def distance_names(story: Story) -> DistanceNames:
    """Return the names of a run's distances; all arms use one network."""
    signatures = (found.signature for row in story.result.quality for found in _distances(row))
    return DistanceNames.of_signature(next(signatures, ""))


def measures_distances(story: Story) -> bool:
    """Return whether any arm has a distance between sets of images."""
    return any(_distances(row) for row in story.result.quality)


def part_of(signature: str, key: str) -> str:
    """Return what a signature first says under a key, for example ``resize``; empty if it does not have it.

    The name of a weight file can contain ``|`` and cannot change an earlier part.
    """
    parts = (part.partition(":") for part in signature.split("|"))
    return next((value for name, _, value in parts if name == key), "")


def _distances(row: QualityResult) -> list[Measurement]:
    found = (getattr(row, name) for name in _DISTANCES)
    return [measurement for measurement in found if measurement is not None]
