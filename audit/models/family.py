"""The family of models that an audit can sample: Stable Diffusion 1.x and 2.x, as their configs describe them.

Everything here reads plain configs. A model that differs in one of these points would load, draw something, and not be
the model that was published.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from packaging.version import InvalidVersion, Version

from audit.config.problems import listing
from audit.models.files.pipeline_files import PipelineConfigs
from audit.models.files.untrusted_model import NOT_LOADED

FAMILY = "Stable Diffusion 1.x or 2.x"
PIPELINE = "StableDiffusionPipeline"

CLASSES: Mapping[str, tuple[str, ...]] = {
    "unet": ("UNet2DConditionModel",),
    "vae": ("AutoencoderKL",),
    "text_encoder": ("CLIPTextModel",),
    "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
}
"""Part → classes that it may have; the scheduler has a list of its own."""

SAME_PROCESS = (
    "DDIMScheduler",
    "DDIMParallelScheduler",
    "DDPMScheduler",
    "DDPMParallelScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSDEScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "SASolverScheduler",
    "UniPCMultistepScheduler",
)
"""Schedulers that solve the same diffusion process, fixed by the betas (KarrasDiffusionSchedulers of diffusers without
EDM): DDIM solves it too. Any other class stands for a model that was trained for something else."""

_SPACINGS = ("leading", "linspace", "trailing")
_MOST_TIMESTEPS = 100_000
_LONGEST_SIDE = 4096

_DISTILLED = {"LCMScheduler": "latent consistency", "TCDScheduler": "trajectory consistency"}
_BETAS = ("beta_start", "beta_end", "beta_schedule", "trained_betas")
_FLOW = ("shift", "base_shift", "max_shift", "use_flow_sigmas", "use_dynamic_shifting")

_UNET_CONDITIONS = {
    "time_cond_proj_dim": "the guidance scale as an input (a model distilled for latent consistency)",
    "addition_embed_type": "further conditions beside the text (as in SDXL)",
    "class_embed_type": "a class label beside the text",
    "num_class_embeds": "a class label beside the text",
    "encoder_hid_dim": "another encoder's output in place of the text embeddings",
    "encoder_hid_dim_type": "another encoder's output in place of the text embeddings",
}
"""Key of a U-Net's config → what such a U-Net must be given and an audit does not give."""

_FURTHER_CHANNELS = {
    5: "a depth map beside the latents",
    7: "a low-resolution picture beside the latents, for upscaling",
    8: "a picture to edit beside the latents",
    9: "a mask and a masked picture beside the latents, for inpainting",
}


def other_family(index: Mapping[str, Any]) -> Iterator[str]:
    """Find classes in ``model_index.json`` that are of another family.

    Yields:
        Messages.
    """
    found = []
    if index.get("_class_name") != PIPELINE:
        found.append(f"the pipeline class {index.get('_class_name')}")
    for part, named in index.items():
        if isinstance(named, list) and named != [None, None] and part not in (*NOT_LOADED, "scheduler"):
            name = named[-1]
            if name not in CLASSES.get(part, ()):
                found.append(f"{part} of class {name}")
    if found:
        yield f"expected {FAMILY} ({PIPELINE}), found {listing(found)}; audit a model of this family"
        return
    missing = [part for part in (*CLASSES, "scheduler") if not _is_named(index.get(part))]
    if missing:
        yield f"model_index.json: expected the parts of {PIPELINE}, found no {listing(missing)}; download it again"


def unfit_parts(configs: PipelineConfigs) -> Iterator[str]:
    """Find what the parts' configs ask for that an audit does not give, and parts that do not fit each other.

    Yields:
        Messages.
    """
    for part in ("unet", "vae", "text_encoder"):
        yield from _unfit_class(part, configs.parts[part])
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


def unfit_scheduler(named: object, config: Mapping[str, Any]) -> Iterator[str]:
    """Find a noise schedule that the U-Net was not trained with, or that DDIM cannot follow.

    Args:
        named: Library and class, as ``model_index.json`` has them.
        config: ``scheduler_config.json``.

    Yields:
        Messages.
    """
    classes = (named[-1] if isinstance(named, list) and named else named, config.get("_class_name"))
    foreign = sorted(str(name) for name in classes if name is not None and name not in SAME_PROCESS)
    if foreign:
        kind = _DISTILLED.get(foreign[0])
        why = (
            f"of a model distilled for {kind}, which DDIM does not draw as it is published" if kind else "another kind"
        )
        yield (
            f"scheduler: expected one of the process that DDIM solves (DDIM, PNDM, Euler, DPM++ and their kin), found "
            f"{foreign[0]}, {why}; audit the model that it was made from, or another one"
        )
        return
    flow = sorted(key for key in _FLOW if config.get(key)) or (["prediction_type"] if _predicts_flow(config) else [])
    if flow:
        yield (
            f"scheduler/scheduler_config.json: expected a schedule of noise levels (betas), found {listing(flow)} of "
            "flow matching; give the scheduler config that the U-Net was trained with"
        )
    elif not any(config.get(key) is not None for key in _BETAS):
        yield (
            f"scheduler/scheduler_config.json: expected the noise schedule that the U-Net was trained with "
            f"({listing(_BETAS[:3])}), found none; download the file again"
        )
    trained = config.get("num_train_timesteps", 1000)
    if not isinstance(trained, int) or isinstance(trained, bool) or not 1 <= trained <= _MOST_TIMESTEPS:
        yield (
            "scheduler/scheduler_config.json: expected num_train_timesteps, a whole number up to "
            f"{_MOST_TIMESTEPS}, found {trained!r}; download the file again"
        )
    if config.get("timestep_spacing", "leading") not in _SPACINGS:
        yield (
            f"scheduler/scheduler_config.json: expected timestep_spacing {listing(_SPACINGS)}, found "
            f"{config['timestep_spacing']!r}; download the file again"
        )
    if config.get("thresholding"):
        yield (
            "scheduler/scheduler_config.json: expected thresholding false, found true, which is for models that draw "
            "pixels; correct the file"
        )


def unfit_steps(config: Mapping[str, Any], steps: int) -> str | None:
    """Return why DDIM cannot take a number of steps, None where it can.

    Where steps and trained timesteps do not divide, rounding can put the last step before the first timestep, which
    diffusers reads as the noisiest one; an offset can put the first beyond the last.

    Args:
        config: Of the DDIM scheduler.
        steps: The number of steps.
    """
    trained = config.get("num_train_timesteps", 1000)
    if steps > trained:
        return f"expected at most the {trained} steps that the model was trained with, found {steps}; lower it"
    times = timesteps(config, steps)
    if len(times) != steps or times[-1] < 0 or times[0] >= trained:
        found = f"found {steps}, which lead from timestep {times[0]} to {times[-1]}"
        return f"expected steps within the timesteps 0 to {trained - 1}, {found}; take a divisor of {trained}"
    return None


def timesteps(config: Mapping[str, Any], steps: int) -> list[int]:
    """Return the timesteps of DDIM as diffusers places them (Lin et al. 2024, table 2), from noise to image."""
    trained, offset = config.get("num_train_timesteps", 1000), config.get("steps_offset", 0)
    match config.get("timestep_spacing", "leading"):
        case "linspace":
            times = np.linspace(0, trained - 1, steps).round()[::-1]
        case "trailing":
            times = np.round(np.arange(trained, 0, -trained / steps)) - 1
        case _:
            times = np.arange(steps)[::-1] * (trained // steps) + offset
    return [int(time) for time in times]


def latent_size(unet: Mapping[str, Any]) -> tuple[int, int]:
    """Return height and width of the latents that a U-Net is published for.

    Args:
        unet: Its config; ``sample_size`` is one number or two. As diffusers does, one number below 64 in a config of
            before its release 0.9 is read as 64.

    Raises:
        ValueError: It says none, or no positive whole numbers.
    """
    size = unet.get("sample_size")
    if isinstance(size, int) and 0 < size < 64 and _is_old(unet):
        return 64, 64
    sides = [int(side) for side in (size if isinstance(size, list | tuple) else (size, size)) if _is_length(side)]
    if len(sides) != 2 or (isinstance(size, list | tuple) and len(size) != 2):
        raise ValueError(
            f"unet/config.json: expected sample_size, the height and width of the latents, found {size!r}; add it: 64 "
            "for a model of 512 pixels"
        )
    return sides[0], sides[1]


def _is_length(side: object) -> bool:
    return isinstance(side, int) and not isinstance(side, bool) and 0 < side <= _LONGEST_SIDE


def _is_old(config: Mapping[str, Any]) -> bool:
    written_by = config.get("_diffusers_version")
    try:
        return written_by is not None and Version(Version(written_by).base_version) < Version("0.9.0.dev0")
    except (InvalidVersion, TypeError) as error:
        raise ValueError(f"unet/config.json: expected a version in _diffusers_version, found {written_by!r}") from error


def _is_named(part: object) -> bool:
    """Whether ``model_index.json`` names a library and a class for a part."""
    return isinstance(part, list) and len(part) == 2 and all(isinstance(name, str) for name in part)


def _predicts_flow(config: Mapping[str, Any]) -> bool:
    return "flow" in str(config.get("prediction_type"))


def _unfit_class(part: str, config: Mapping[str, Any]) -> Iterator[str]:
    """A config is read by the class that the index names, whatever class it says it was written by."""
    named = config.get("_class_name")
    if named is None and part == "text_encoder":
        named = (config.get("architectures") or [None])[0] if isinstance(config.get("architectures"), list) else None
        kind = config.get("model_type", "clip_text_model")
        if kind != "clip_text_model":
            named = f"model_type {kind}"
    if named is not None and named not in CLASSES[part]:
        yield f"{part}/config.json: expected the config of a {CLASSES[part][0]}, found one of {named}"
    if config.get("quantization_config"):
        yield f"{part}/config.json: expected weights in half or single precision, found quantization_config"


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
