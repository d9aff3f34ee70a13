"""Converts a published scheduler to the DDIM steps that replace it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audit.models.ddim import ReverseSchedule
from audit.models.files.pipeline_files import part_directory
from audit.models.files.untrusted_model import UnfitModelError, reason_in_short
from audit.models.published_schedule import unfit_steps

if TYPE_CHECKING:
    from diffusers import DDIMScheduler

DdimConfig = Callable[[Mapping[str, Any]], dict[str, Any]]
"""Config of a published scheduler → config of the DDIM scheduler that replaces it; it depends on the family."""

_OF_THE_LIBRARY = "_use_default_values"
"""Key in which diffusers lists the values that a config did not have."""


def as_ddim(published: Any, ddim_config: DdimConfig) -> DDIMScheduler:  # noqa: ANN401 - any scheduler of diffusers
    """Return DDIM with the noise schedule of a published scheduler.

    Values that its config does not have are taken from its own class: Euler and DPM++ place their steps otherwise than
    DDIM.
    """
    from diffusers import DDIMScheduler

    config = {name: value for name, value in published.config.items() if name != _OF_THE_LIBRARY}
    return DDIMScheduler.from_config(ddim_config(config))


def load_scheduler(directory: Path, named: str) -> Any:  # noqa: ANN401 - any scheduler of diffusers
    """Load the published scheduler of a pipeline.

    Args:
        directory: Of the pipeline.
        named: Class of diffusers, one of ``audit.models.published_schedule.SAME_PROCESS``.

    Raises:
        UnfitModelError: The class cannot be built from the config.
    """
    import diffusers

    kind = getattr(diffusers, named)
    try:
        return kind.from_pretrained(part_directory(directory, "scheduler"), local_files_only=True)
    except Exception as error:
        raise UnfitModelError(
            f"scheduler/scheduler_config.json: expected a config that {named} can be built from, found one that fails "
            f"({reason_in_short(error)}); download it again"
        ) from error


def reverse_schedule(scheduler: DDIMScheduler, steps: int) -> ReverseSchedule:
    """Return the steps of DDIM, each of which can be taken.

    Raises:
        UnfitModelError: The scheduler does not support this number of steps, a beta is outside [0, 1], or no image
            follows from the prediction at some step: noise is predicted without any signal (zero terminal SNR).
    """
    problem = unfit_steps(scheduler.config, steps)
    if problem is not None:
        raise UnfitModelError(f"sampling.steps: {problem}")
    kept = scheduler.alphas_cumprod  # ᾱ, shape (timesteps,)
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
    schedule = ReverseSchedule.of(scheduler, steps)
    _check_prediction(schedule)
    return schedule


def _check_prediction(schedule: ReverseSchedule) -> None:
    divisor = {"epsilon": schedule.signal, "sample": schedule.sigma, "v_prediction": ()}
    if schedule.prediction_type not in divisor:
        raise UnfitModelError(
            "scheduler/scheduler_config.json: expected prediction_type epsilon, v_prediction or sample, found "
            f"{schedule.prediction_type!r}"
        )
    if any(level == 0 for level in divisor[schedule.prediction_type][:-1]):
        raise UnfitModelError(
            f"scheduler/scheduler_config.json: expected v_prediction with zero terminal SNR, found "
            f"{schedule.prediction_type!r}, from which no image follows at the first step; correct the file"
        )
