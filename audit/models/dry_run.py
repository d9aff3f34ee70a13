"""One call of every part on torch's meta device: do they take each other's shapes, and can the hookpoint be edited?"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor

from audit.models.files.untrusted_model import UnfitModelError, reason_in_short
from audit.models.hooks import edit_output, find_hookpoint

# B images, L text tokens, C latent channels, h w latent grid

_BATCH = 2

Networks = Mapping[str, Any]
"""``text_encoder``, ``unet`` and ``vae``, on the meta device."""


def check_shapes(networks: Networks, size: tuple[int, int], tokens: int) -> None:
    """Encode a text, predict noise, decode and encode a picture as sampling does, with shapes alone.

    Args:
        networks: The parts.
        size: (h, w).
        tokens: L.

    Raises:
        UnfitModelError: A call fails, or gives something that is no prediction or no picture.
    """
    unet, vae = networks["unet"], networks["vae"]
    latents = _try("the U-Net fails on the text encoder's embeddings", _predict, networks, size, tokens)
    expected = (_BATCH, unet.config.in_channels, *size)
    if tuple(latents.shape) != expected:
        raise UnfitModelError(f"unet: expected a prediction of shape {expected}, found {tuple(latents.shape)}")
    image = _try("the VAE fails on the U-Net's latents", lambda: vae.decode(latents).sample)
    again = _try("the VAE fails on its own pictures", lambda: vae.encode(image).latent_dist.mean)
    if image.ndim != 4 or image.shape[1] != 3 or again.shape != latents.shape:
        raise UnfitModelError(
            f"vae: expected pictures (B, 3, H, W) that encode to {expected}, found {tuple(image.shape)} and "
            f"{tuple(again.shape)}"
        )


def check_hookpoint(networks: Networks, size: tuple[int, int], tokens: int, path: str) -> None:
    """Call the U-Net with a hook at a module, and look at what the hook is given.

    Raises:
        ValueError: There is no such module, the U-Net does not pass through it, or its output is no map (B, C, H, W).
    """
    seen: list[tuple[int, ...]] = []

    def look(h: Tensor) -> Tensor:
        seen.append(tuple(h.shape))
        return h

    with ExitStack() as stack:
        stack.enter_context(edit_output(find_hookpoint(networks["unet"], path), look))
        try:
            _predict(networks, size, tokens)
        except TypeError as error:
            raise ValueError(f"hookpoint {path!r}: {error}") from error
    if not seen or any(len(shape) != 4 for shape in seen):
        found = f"outputs of shape {seen[0]}" if seen else "that no call of the U-Net passes through it"
        raise ValueError(f"hookpoint {path!r}: expected a map (B, C, H, W), found {found}; choose a block: 'mid_block'")


@torch.inference_mode()
def _predict(networks: Networks, size: tuple[int, int], tokens: int) -> Tensor:
    """Return the prediction (B, C, h, w)."""
    ids = torch.zeros((_BATCH, tokens), dtype=torch.long, device="meta")
    text = networks["text_encoder"](ids)[0]
    unet = networks["unet"]
    noise: Tensor = unet(torch.empty(_BATCH, unet.config.in_channels, *size, device="meta"), 1, text).sample
    return noise


def _try(what: str, call: Any, *arguments: Any) -> Tensor:  # noqa: ANN401 - any part of a pipeline
    try:
        with torch.inference_mode():
            done: Tensor = call(*arguments)
    except Exception as error:
        raise UnfitModelError(
            f"expected parts that fit each other, found that {what} ({reason_in_short(error)}); take all "
            "parts from one model"
        ) from error
    return done
