"""Shows before any long work that a hookpoint is alive: it is reached, reads and edits the conditional half alone.

A hook that is never called, or whose output nothing reads, would give a lens of nothing and an edit without effect. The
first call of the denoiser is enough for this; :mod:`audit.models.denoising` counts the calls in every later step.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from audit.models.files.untrusted_model import UnfitModelError
from audit.models.generator import DiffusionGenerator

_SIZE = 0.1
"""Size of the trial edit, in standard deviations of the map."""


def require_live(generator: DiffusionGenerator, hookpoints: Iterable[str], text: str) -> None:
    """Try every hookpoint in the first step of a few images.

    Args:
        generator: The model.
        hookpoints: Addresses of modules of the denoiser.
        text: A prompt of the audit, empty for a model that reads none.

    Raises:
        UnfitModelError: A hookpoint is not called once, a neutral edit there changes the prediction, an edit does not
            reach the prediction of the conditional half, or reaches the other half. Or compiled blocks cannot be
            compiled.
        ValueError: There is no such module.
    """
    paths = tuple(dict.fromkeys(hookpoints))
    if not paths and "compiled" not in generator.sampling:  # compiled blocks are tried in any case
        return
    seeds = range(generator.trial_batch)
    plain = generator.first_prediction(text, seeds, {})
    for path in paths:
        neutral = generator.first_prediction(text, seeds, {path: _neutral})
        edited = generator.first_prediction(text, seeds, {path: _small})
        problem = _problem(plain, neutral, edited, len(seeds))
        if problem is not None:
            raise UnfitModelError(f"hookpoint {path!r}: {problem}; choose another block")


def _problem(plain: Tensor, neutral: Tensor, edited: Tensor, batch: int) -> str | None:
    """Return what is wrong, given predictions of the first call: of the conditional half in the last ``batch`` rows."""
    if not torch.equal(neutral, plain):
        return "expected no effect of an edit that changes nothing, found another prediction"
    changed = [not torch.equal(one, other) for one, other in zip(edited, plain, strict=True)]
    others, own = changed[:-batch], changed[-batch:]
    if not all(own):
        return "expected that an edit changes the prediction, found the same: nothing reads this module's output"
    if any(others):
        return "expected that an edit changes the conditional half alone, found that it changes the other half too"
    return None


def _neutral(_step: int, h: Tensor) -> Tensor:
    return h.clone()


def _small(_step: int, h: Tensor) -> Tensor:
    """Add noise that differs by channel: a norm layer would hide what all channels have in common."""
    noise = torch.randn(h.shape, generator=torch.Generator().manual_seed(0))
    return h + (_SIZE * h.float().std() * noise.to(h.device)).to(h.dtype)
