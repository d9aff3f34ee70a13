"""Optimises the parameters of a method by Adam, and resumes from checkpoints after an interruption.

Every step draws from generators of its own seed, so a resumed training takes the same steps as one without a break:
bit for bit only with the same number of threads, on which the order of sums depends.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from audit.planning.fits import LOSSES
from audit.storage.files import Storage

LOG = logging.getLogger(__name__)

BETAS, EPSILON = (0.9, 0.999), 1e-8
"""Adam's usual decays and offset (Kingma & Ba 2015, algorithm 1)."""

Parameters = Mapping[str, Tensor]
"""Name → tensor that requires a gradient."""

Step = Callable[[int], tuple[float, tuple[Tensor, ...]]]
"""``step -> (loss, gradients)``, the gradients in the order of the parameters."""


@dataclass(frozen=True)
class Schedule:
    """Length and rate of a training.

    Attributes:
        name: What is trained, in the log.
        steps: Optimiser steps.
        learning_rate: Adam's step size.
        save_every: Steps between checkpoints.
    """

    name: str
    steps: int
    learning_rate: float
    save_every: int = 50


class Checkpoint(Protocol):
    """Where the state of a training is kept."""

    def read(self) -> dict[str, Tensor]:
        """Return the state, empty if there is none that can be read."""
        ...

    def write(self, state: Mapping[str, Tensor]) -> None:
        """Replace the state."""
        ...


@dataclass(frozen=True)
class StoredCheckpoint:
    """A state in one safetensors file.

    Attributes:
        storage: Files of the fit.
        name: Of the file.
    """

    storage: Storage
    name: str

    def read(self) -> dict[str, Tensor]:
        """Return the state, empty if there is none; half a file is treated as none."""
        if not self.storage.has(self.name):
            return {}
        try:
            state: dict[str, Tensor] = load(self.storage.read(self.name))
        except SafetensorError:
            LOG.warning("%s cannot be read; the training starts again", self.name)
            return {}
        return state

    def write(self, state: Mapping[str, Tensor]) -> None:
        """Replace the state atomically."""
        self.storage.write(
            self.name, save({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()})
        )


@dataclass
class _Adam:
    """Adam without weight decay, in place; its state is tensors that a checkpoint holds."""

    parameters: Parameters
    learning_rate: float
    first: dict[str, Tensor] = field(init=False)
    second: dict[str, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        self.first = {name: torch.zeros_like(value) for name, value in self.parameters.items()}
        self.second = {name: torch.zeros_like(value) for name, value in self.parameters.items()}

    @torch.no_grad()
    def step(self, gradients: tuple[Tensor, ...], number: int) -> None:
        """Take step ``number``, counted from 1."""
        for (name, value), gradient in zip(self.parameters.items(), gradients, strict=True):
            first, second = self.first[name], self.second[name]
            first.lerp_(gradient, 1 - BETAS[0])
            second.lerp_(gradient * gradient, 1 - BETAS[1])
            mean, square = first / (1 - BETAS[0] ** number), second / (1 - BETAS[1] ** number)
            value -= self.learning_rate * mean / (square.sqrt() + EPSILON)

    def state(self) -> dict[str, Tensor]:
        """Return all tensors that continuing needs."""
        parts = {"parameter": self.parameters, "first": self.first, "second": self.second}
        return {f"{part}/{name}": value for part, values in parts.items() for name, value in values.items()}

    @torch.no_grad()
    def restore(self, state: Mapping[str, Tensor]) -> bool:
        """Take over a state, unless it belongs to other parameters."""
        own = self.state()
        if any(name not in state or state[name].shape != value.shape for name, value in own.items()):
            return False
        for name, value in own.items():
            value.copy_(state[name])
        return True


def optimise(parameters: Parameters, step_of: Step, schedule: Schedule, checkpoint: Checkpoint) -> tuple[float, ...]:
    """Train parameters in place, from the last checkpoint if there is one.

    Args:
        parameters: What is trained.
        step_of: Loss and gradients of a step; equal for equal steps and parameters.
        schedule: Length and rate.
        checkpoint: Where the state is kept.

    Returns:
        The loss of every step, also of those before an interruption.

    Raises:
        ValueError: A loss or a gradient is not finite.
    """
    adam, losses = _Adam(parameters, schedule.learning_rate), list[float]()
    state = checkpoint.read()
    if LOSSES in state and adam.restore(state):
        losses = state[LOSSES].tolist()
        LOG.info("%s: resuming at step %d of %d", schedule.name, len(losses), schedule.steps)
    started, first = time.monotonic(), len(losses)
    for step in range(first, schedule.steps):
        loss, gradients = step_of(step)
        if not all(bool(one.isfinite().all()) for one in (torch.tensor(loss), *gradients)):
            raise ValueError(
                f"expected a finite loss in step {step + 1} of {schedule.steps}, found {loss}; set a smaller "
                "learning_rate, or another model.dtype"
            )
        adam.step(gradients, step + 1)
        losses.append(loss)
        done = step + 1
        if done % schedule.save_every == 0 or done == schedule.steps:
            checkpoint.write(adam.state() | {LOSSES: torch.tensor(losses, dtype=torch.float64)})
            pace = (time.monotonic() - started) / (done - first)
            recent = losses[-schedule.save_every :]
            LOG.info(
                "%s: step %d of %d, loss %.4f, %.2f s a step",
                schedule.name, done, schedule.steps, sum(recent) / len(recent), pace,
            )  # fmt: skip
    return tuple(losses)


def gradients_of(loss: Tensor, parameters: Parameters) -> tuple[float, tuple[Tensor, ...]]:
    """Return the value of a loss and its gradient by every parameter, 0 for one that the loss does not depend on."""
    gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True, materialize_grads=True)
    return float(loss.detach()), gradients


def tenths(losses: tuple[float, ...]) -> dict[str, float]:
    """Return the mean loss of the first and of the last tenth of a training, for its card."""
    count = max(1, len(losses) // 10)
    return {"first_loss": sum(losses[:count]) / count, "last_loss": sum(losses[-count:]) / count}
