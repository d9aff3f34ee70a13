"""Checks of a published scheduler by its config: does it sample the process that the model was trained for?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from audit.config.problems import listing, suggestion

_SPACINGS = ("leading", "linspace", "trailing")
_MOST_TIMESTEPS = 100_000

_BETAS = ("beta_start", "beta_end", "beta_schedule", "trained_betas")
_FLOW = ("shift", "base_shift", "max_shift", "use_flow_sigmas", "use_dynamic_shifting")

_TWO_CALLS = (
    "HeunDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "DPMSolverSDEScheduler",
)
"""Solvers of second order: they call the denoiser twice in each step but the last."""


def unfit_scheduler(named: object, config: Mapping[str, Any], allowed: Sequence[str], *, flow: bool) -> Iterator[str]:
    """Find a scheduler of another process than the model was trained for.

    Args:
        named: Library and class, as ``model_index.json`` has them.
        config: ``scheduler_config.json``.
        allowed: Classes that sample models of this family; empty if it is not known.
        flow: Whether the family is trained for flow matching.

    Yields:
        Messages.
    """
    classes = (named[-1] if isinstance(named, list) and named else named, config.get("_class_name"))
    foreign = sorted(str(name) for name in classes if name is not None and allowed and name not in allowed)
    if foreign:
        yield f"scheduler: expected one that samples such a model ({listing(allowed)}), found {foreign[0]}"
        return
    yield from () if flow else _unlike_diffusion(config)
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


def unfit_choice(scheduler: str | None, allowed: Sequence[str]) -> str | None:
    """Return why ``sampling.scheduler`` cannot replace the published scheduler, None if it can."""
    if scheduler is None or scheduler in allowed:
        return None
    if not allowed:
        return f"expected none for a pipeline whose inside is not reached, found {scheduler!r}; remove it"
    hint = suggestion(scheduler, allowed)
    return f"expected a scheduler that samples such a model ({listing(allowed)}), found {scheduler!r}{hint}"


def steps_taken(scheduler: str, steps: int) -> int:
    """Return how often a scheduler of this class steps, with one call of the denoiser for each step.

    Args:
        scheduler: Class.
        steps: ``num_inference_steps``.
    """
    if scheduler in _TWO_CALLS:
        return 2 * steps - 1
    return steps + 1 if scheduler == "PNDMScheduler" else steps


def _unlike_diffusion(config: Mapping[str, Any]) -> Iterator[str]:
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


def _predicts_flow(config: Mapping[str, Any]) -> bool:
    return "flow" in str(config.get("prediction_type"))
