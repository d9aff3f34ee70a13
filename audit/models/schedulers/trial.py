"""The scheduler of a pipeline: loaded as published, replaced as stock diffusers does, and tried before it is used."""

from __future__ import annotations

import copy
import inspect
from pathlib import Path
from typing import Any

import torch

from audit.models.files.pipeline_files import part_directory
from audit.models.files.untrusted_model import UnfitModelError, reason_in_short

_SHAPE = (1, 4, 2, 2)
"""Of the latents of a trial: schedulers work on each number by itself."""

_SHIFT = 1.0
"""Any shift of the noise levels (``mu``) shows whether the steps can be taken."""


def load_scheduler(directory: Path, named: str) -> Any:  # noqa: ANN401 - any scheduler of diffusers
    """Load the published scheduler of a pipeline.

    Args:
        directory: Of the pipeline.
        named: Class of diffusers, one that the family allows.

    Raises:
        UnfitModelError: The class cannot be built from the config.
    """
    try:
        return scheduler_class(named).from_pretrained(part_directory(directory, "scheduler"), local_files_only=True)
    except Exception as error:
        raise UnfitModelError(
            f"scheduler/scheduler_config.json: expected a config that {named} can be built from, found one that fails "
            f"({reason_in_short(error)}); download it again"
        ) from error


def scheduler_class(named: str) -> Any:  # noqa: ANN401 - a class of diffusers
    """Return a scheduler's class."""
    import diffusers

    return getattr(diffusers, named)


def replaced_scheduler(published: Any, named: str | None) -> Any:  # noqa: ANN401 - any scheduler of diffusers
    """Return the scheduler that samples: the published one, or another with its config.

    This is what ``pipeline.scheduler = Other.from_config(pipeline.scheduler.config)`` gives: values that the published
    config does not state are the defaults of the other class.

    Raises:
        UnfitModelError: The other class cannot be built from the config.
    """
    if named is None or named == type(published).__name__:
        return published
    try:
        return scheduler_class(named).from_config(published.config)
    except Exception as error:
        raise UnfitModelError(
            f"expected a scheduler that can be built from the published config, found {named}, which fails "
            f"({reason_in_short(error)}); choose another"
        ) from error


def steps_of(scheduler: Any, steps: int) -> int:  # noqa: ANN401 - any scheduler of diffusers
    """Return how many steps a scheduler takes for ``num_inference_steps``, after trying every one of them.

    Raises:
        UnfitModelError: It cannot take this number of steps, or no finite image follows from a finite prediction.
    """
    _check_betas(scheduler)
    tried = copy.deepcopy(scheduler)
    taken = 0
    try:
        _check_number(tried, steps)
        shift = {"mu": _SHIFT} if tried.config.get("use_dynamic_shifting") else {}
        tried.set_timesteps(steps, **shift)
        _check_timesteps(tried, steps)
        draw = torch.Generator().manual_seed(0)
        x = torch.randn(_SHAPE, generator=draw) * float(getattr(tried, "init_noise_sigma", 1.0))
        noise = {"generator": draw} if "generator" in inspect.signature(tried.step).parameters else {}
        for time in tried.timesteps:
            if hasattr(tried, "scale_model_input"):
                tried.scale_model_input(x, time)
            x = tried.step(torch.randn(_SHAPE, generator=draw), time, x, **noise, return_dict=False)[0]
            taken += 1
            if not bool(x.isfinite().all()):
                raise UnfitModelError(_not_finite(tried, taken))
    except UnfitModelError:
        raise
    except Exception as error:
        raise UnfitModelError(
            f"expected a number of steps that {type(scheduler).__name__} can take, found {steps}, with which step "
            f"{taken + 1} fails ({reason_in_short(error)}); choose another number, or another scheduler"
        ) from error
    return taken


def _check_betas(scheduler: Any) -> None:  # noqa: ANN401 - any scheduler of diffusers
    """Refuse noise levels by which the signal does not fade; schedulers of flow matching have none."""
    kept = getattr(scheduler, "alphas_cumprod", None)  # ᾱ, shape (timesteps,)
    if kept is None:
        return
    trained = scheduler.config.num_train_timesteps
    if tuple(kept.shape) != (trained,):
        raise UnfitModelError(
            f"scheduler/scheduler_config.json: expected trained_betas for each of {trained} timesteps, found "
            f"{kept.numel()}; download it again"
        )
    if not bool(((kept >= 0) & (kept <= 1)).all()) or bool((kept.diff() > 0).any()):
        raise UnfitModelError(
            "scheduler/scheduler_config.json: expected betas between 0 and 1, by which the signal fades from step to "
            "step, found others; download it again"
        )


def _check_number(scheduler: Any, steps: int) -> None:  # noqa: ANN401 - any scheduler of diffusers
    trained = int(scheduler.config.get("num_train_timesteps", 1000))
    if steps > trained:
        raise UnfitModelError(
            f"expected at most the {trained} steps that the model was trained with, found {steps}; lower it"
        )


def _check_timesteps(scheduler: Any, steps: int) -> None:  # noqa: ANN401 - any scheduler of diffusers
    """Refuse steps outside the timesteps that the model was trained with.

    Where steps and trained timesteps do not divide, rounding can put the last step before the first timestep, which
    diffusers reads as the noisiest one; an offset can put the first beyond the last.
    """
    trained, times = int(scheduler.config.get("num_train_timesteps", 1000)), scheduler.timesteps
    low, high = float(times.min()), float(times.max())
    flow = hasattr(scheduler.config, "shift")
    if low < 0 or high > trained - (0 if flow else 1):
        raise UnfitModelError(
            f"expected steps within the timesteps 0 to {trained - 1}, found {steps}, which lead from timestep "
            f"{high:g} to {low:g}; take a divisor of {trained}"
        )


def _not_finite(scheduler: Any, step: int) -> str:  # noqa: ANN401 - any scheduler of diffusers
    kept = getattr(scheduler, "alphas_cumprod", None)
    if kept is not None and float(kept.min()) == 0 and scheduler.config.get("prediction_type") == "epsilon":
        return (
            "scheduler/scheduler_config.json: expected v_prediction with zero terminal SNR, found 'epsilon', from "
            "which no image follows at the first step; correct the file"
        )
    return (
        f"scheduler/scheduler_config.json: expected noise levels from which an image follows, found that step {step} "
        "gives numbers that are not finite; download the file again"
    )
