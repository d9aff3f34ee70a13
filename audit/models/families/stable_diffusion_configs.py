"""Checks of the configs of Stable Diffusion 1.x and 2.x.

A model that differs in one of these points would load and draw something, but not what the published model draws.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from packaging.version import InvalidVersion, Version

from audit.models.families.configs import Classes, sample_size
from audit.models.files.pipeline_files import PipelineConfigs

FAMILY = "Stable Diffusion 1.x or 2.x"

CLASSES: Classes = {
    "unet": ("UNet2DConditionModel",),
    "vae": ("AutoencoderKL",),
    "text_encoder": ("CLIPTextModel",),
    "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
}
"""Part → classes that it may have; schedulers are checked separately."""

_UNET_CONDITIONS = {
    "addition_embed_type": "further conditions beside the text (as in SDXL)",
    "class_embed_type": "a class label beside the text",
    "num_class_embeds": "a class label beside the text",
    "encoder_hid_dim": "another encoder's output in place of the text embeddings",
    "encoder_hid_dim_type": "another encoder's output in place of the text embeddings",
}
"""Key of a U-Net's config → input that this U-Net needs and an audit does not have."""

_FURTHER_CHANNELS = {
    5: "a depth map beside the latents",
    7: "a low-resolution picture beside the latents, for upscaling",
    8: "a picture to edit beside the latents",
    9: "a mask and a masked picture beside the latents, for inpainting",
}


def unfit_parts(configs: PipelineConfigs) -> Iterator[str]:
    """Find what the parts' configs ask for that an audit does not give, and parts that do not fit each other.

    Yields:
        Messages.
    """
    unet, vae, text = (configs.parts[part] for part in ("unet", "vae", "text_encoder"))
    yield from _unfit_unet(unet)
    yield from _unfit_vae(vae)
    channels, latents = unet.get("in_channels", 4), vae.get("latent_channels", 4)
    if channels != latents:
        more = _FURTHER_CHANNELS.get(channels) if isinstance(channels, int) else None
        why = f"; such a U-Net takes {more}" if more else ""
        yield f"unet/config.json: expected in_channels {latents}, as the VAE's latents have, found {channels!r}{why}"
    elif unet.get("out_channels", 4) != channels:
        yield f"unet/config.json: expected out_channels {channels}, as in_channels, found {unet.get('out_channels')!r}"
    width, wanted = text.get("hidden_size", 512), unet.get("cross_attention_dim", 1280)
    if not isinstance(wanted, list) and width != wanted:  # one for each block is tried by a dry run
        yield (
            f"unet/config.json: expected cross_attention_dim {width}, the width of the text encoder, found {wanted!r}; "
            "the U-Net was trained with another text encoder"
        )


def latent_size(unet: Mapping[str, Any]) -> tuple[int, int]:
    """Return height and width of the latents that a U-Net is published for.

    Args:
        unet: Its config; ``sample_size`` is one number or two. As diffusers does, one number below 64 in a config of
            before its release 0.9 is read as 64.

    Raises:
        ValueError: The config has no size, or not one or two positive whole numbers.
    """
    size = unet.get("sample_size")
    if isinstance(size, int) and 0 < size < 64 and _is_old(unet):
        return 64, 64
    return sample_size("unet", unet)


def _is_old(config: Mapping[str, Any]) -> bool:
    written_by = config.get("_diffusers_version")
    try:
        return written_by is not None and Version(Version(written_by).base_version) < Version("0.9.0.dev0")
    except (InvalidVersion, TypeError) as error:
        raise ValueError(f"unet/config.json: expected a version in _diffusers_version, found {written_by!r}") from error


def _unfit_unet(unet: Mapping[str, Any]) -> Iterator[str]:
    for key, needs in _UNET_CONDITIONS.items():
        if unet.get(key) is not None:
            yield f"unet/config.json: expected {FAMILY}, found {key} {unet[key]!r}: this U-Net takes {needs}"
    if unet.get("attention_type", "default") != "default":
        yield f"unet/config.json: expected attention_type 'default', found {unet['attention_type']!r}"
    try:
        latent_size(unet)
    except ValueError as error:
        yield str(error)


def _unfit_vae(vae: Mapping[str, Any]) -> Iterator[str]:
    scale = vae.get("scaling_factor", 0.18215)  # older configs leave the default of the class unsaid
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale < math.inf:
        yield f"vae/config.json: expected scaling_factor, a positive number, found {scale!r}; download the file again"
    for key in ("in_channels", "out_channels"):
        if vae.get(key, 3) != 3:
            yield f"vae/config.json: expected {key} 3, red, green and blue, found {vae[key]!r}"
