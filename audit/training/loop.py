"""A resumable training loop for all parts of the calibration model."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from audit.models.device import device_here

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Schedule:
    """Duration and learning rate of the training of one part.

    Attributes:
        steps: Optimiser steps.
        batch: Examples per step.
        learning_rate: Peak rate; linear warm-up over ``warmup`` steps, then cosine decay to 2 %.
        warmup: Steps of warm-up.
        weight_decay: Decoupled weight decay (AdamW).
        ema: Decay of the exponential moving average of the weights that is shipped; 0 ships the last weights.
        save_every: Steps between checkpoints.
    """

    steps: int
    batch: int
    learning_rate: float
    warmup: int = 100
    weight_decay: float = 0.01
    ema: float = 0.0
    save_every: int = 250

    def rate(self, step: int) -> float:
        """Return the learning rate at ``step``."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        progress = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.learning_rate * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Make weight initialisation inside the block depend on ``seed`` only, without changing the global generator."""
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(seed)
        yield


@contextmanager
def one_thread() -> Iterator[None]:
    """Run the code inside on one thread: the renderer's operations are so small that a second one slows them down."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def train(
    module: nn.Module,
    loss_of: Callable[[int, torch.Generator], Tensor],
    schedule: Schedule,
    checkpoint: Path,
) -> list[float]:
    """Train ``module`` in place. After an interruption, the next call resumes from the last checkpoint.

    Args:
        module: The trainable parts; at the end it has the averaged weights, in eval mode on the CPU.
        loss_of: ``(step, generator) -> scalar loss``, called with the module on ``device_here()``. The generator is on
            the CPU and seeded by the step, so that a resumed run uses the same batches as an uninterrupted one.
        schedule: Steps, rates, averaging.
        checkpoint: File of the training state.

    Returns:
        Mean loss of each tenth of the run.
    """
    device = device_here()
    module.to(device)
    optimizer = torch.optim.AdamW(
        module.parameters(), lr=schedule.learning_rate, betas=(0.9, 0.99), weight_decay=schedule.weight_decay
    )
    average = {name: value.detach().clone() for name, value in module.state_dict().items()}
    losses: list[float] = []
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True, map_location=device)
        module.load_state_dict(state["module"])
        optimizer.load_state_dict(state["optimizer"])
        average, losses = state["average"], state["losses"]
        LOG.info("%s: resuming at step %d of %d", checkpoint.stem, len(losses), schedule.steps)
    module.train()
    started, first = time.monotonic(), len(losses)
    for step in range(first, schedule.steps):
        losses.append(_optimise(module, loss_of, optimizer, schedule, step))
        _average(average, module, schedule.ema, step)
        done = step + 1
        if done % schedule.save_every == 0 or done == schedule.steps:
            _save(checkpoint, module, optimizer, average, losses)
            _log_progress(checkpoint.stem, losses, schedule, (time.monotonic() - started) / (done - first))
    module.load_state_dict(average)
    module.eval().cpu()
    tenth = max(1, schedule.steps // 10)
    return [sum(part) / len(part) for part in (losses[i : i + tenth] for i in range(0, len(losses), tenth))]


def _optimise(
    module: nn.Module,
    loss_of: Callable[[int, torch.Generator], Tensor],
    optimizer: torch.optim.Optimizer,
    schedule: Schedule,
    step: int,
) -> float:
    for group in optimizer.param_groups:
        group["lr"] = schedule.rate(step)
    loss = loss_of(step, torch.Generator().manual_seed(step))
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(module.parameters(), 1.0)
    optimizer.step()
    return float(loss.detach())


def _average(average: dict[str, Tensor], module: nn.Module, decay: float, step: int) -> None:
    weight = 1 - min(decay, (1 + step) / (10 + step))
    for name, value in module.state_dict().items():
        if value.is_floating_point():
            average[name].lerp_(value, weight)
        else:
            average[name].copy_(value)


def _save(
    path: Path,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: dict[str, Tensor],
    losses: list[float],
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".partial")
    state = {
        "module": module.state_dict(),
        "optimizer": optimizer.state_dict(),
        "average": average,
        "losses": losses,
    }
    torch.save(state, temporary)
    os.replace(temporary, path)


def _log_progress(name: str, losses: list[float], schedule: Schedule, seconds_per_step: float) -> None:
    recent = losses[-schedule.save_every :]
    left = (schedule.steps - len(losses)) * seconds_per_step / 60
    LOG.info(
        "%s: step %d of %d, loss %.4f, %.2f s a step, %.1f min left",
        name,
        len(losses),
        schedule.steps,
        sum(recent) / len(recent),
        seconds_per_step,
        left,
    )
