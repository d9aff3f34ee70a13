"""Checks of a published noise schedule by its config: can deterministic DDIM follow it, and in how many steps?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from audit.config.problems import listing

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
EDM): DDIM solves it too. Any other class belongs to a model that was trained for another process."""

_SPACINGS = ("leading", "linspace", "trailing")
_MOST_TIMESTEPS = 100_000

_DISTILLED = {"LCMScheduler": "latent consistency", "TCDScheduler": "trajectory consistency"}
_BETAS = ("beta_start", "beta_end", "beta_schedule", "trained_betas")
_FLOW = ("shift", "base_shift", "max_shift", "use_flow_sigmas", "use_dynamic_shifting")


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
            "scheduler/scheduler_config.json: expected thresholding false, found true, which is not supported; correct "
            "the file if the model was trained without it"
        )


def unfit_steps(config: Mapping[str, Any], steps: int) -> str | None:
    """Return why DDIM cannot take a number of steps, None if it can.

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


def _predicts_flow(config: Mapping[str, Any]) -> bool:
    return "flow" in str(config.get("prediction_type"))
