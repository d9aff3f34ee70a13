"""How published models are sampled according to their own pages; nothing in their files states it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from audit.config.fields import GENERATED_HERE, UNCONDITIONAL


@dataclass(frozen=True)
class Usual:
    """Settings that a model is published with.

    Attributes:
        steps: ``num_inference_steps``.
        guidance: ``guidance_scale``; 0 where the pipeline is called without guidance.
    """

    steps: int
    guidance: float


_STABLE_DIFFUSION, _PIXART, _TURBO = Usual(50, 7.5), Usual(20, 4.5), Usual(1, 0.0)

KNOWN: Mapping[str, Usual] = {
    "CompVis/stable-diffusion-v1-4": _STABLE_DIFFUSION,
    "runwayml/stable-diffusion-v1-5": _STABLE_DIFFUSION,
    "stable-diffusion-v1-5/stable-diffusion-v1-5": _STABLE_DIFFUSION,
    "stabilityai/stable-diffusion-2": _STABLE_DIFFUSION,
    "stabilityai/stable-diffusion-2-base": _STABLE_DIFFUSION,
    "stabilityai/stable-diffusion-2-1": _STABLE_DIFFUSION,
    "stabilityai/stable-diffusion-2-1-base": _STABLE_DIFFUSION,
    "stabilityai/sd-turbo": _TURBO,
    "stabilityai/stable-diffusion-xl-base-1.0": Usual(50, 5.0),
    "stabilityai/sdxl-turbo": _TURBO,
    "SimianLuo/LCM_Dreamshaper_v7": Usual(4, 8.0),
    "stabilityai/stable-diffusion-3-medium-diffusers": Usual(28, 7.0),
    "stabilityai/stable-diffusion-3.5-medium": Usual(40, 4.5),
    "stabilityai/stable-diffusion-3.5-large": Usual(28, 3.5),
    "stabilityai/stable-diffusion-3.5-large-turbo": Usual(4, 0.0),
    "black-forest-labs/FLUX.1-dev": Usual(50, 3.5),
    "black-forest-labs/FLUX.1-schnell": Usual(4, 0.0),
    "PixArt-alpha/PixArt-XL-2-1024-MS": _PIXART,
    "PixArt-alpha/PixArt-Sigma-XL-2-1024-MS": _PIXART,
    "Efficient-Large-Model/Sana_1600M_1024px_diffusers": _PIXART,
    "google/ddpm-celebahq-256": Usual(1000, 1.0),
}
"""Hub id → settings on the model's page."""


def usual_sampling(source: str) -> Usual | None:
    """Return how a model is sampled if the config does not say it.

    Args:
        source: ``model.source``.

    Returns:
        None for a directory and for a hub id that is not in the table: such a config must state the settings, because
        other steps or another guidance change the shares.
    """
    if source in GENERATED_HERE:
        return Usual(25, 1.0 if source == UNCONDITIONAL else 3.0)
    return KNOWN.get(source)
