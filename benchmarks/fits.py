"""Fits methods in this process, as the workers of an audit do it, without a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from audit.mitigate.method import Fit, RoundsFit, TrainedFit, in_rounds
from audit.mitigate.registry import METHODS
from audit.mitigate.tools import FitTools
from audit.mitigate.training import StoredCheckpoint
from audit.planning.fits import TENSORS_FILE, TRAINING_FILE, FitRequest
from audit.records.work import Prompt
from audit.storage.files import storage_of


def fit_in_process(request: FitRequest, prompts: Sequence[Prompt], tools: FitTools, directory: Path) -> Path | None:
    """Fit a method and store the fit.

    Args:
        request: The method and what it is fitted with.
        prompts: Prompts of the audit.
        tools: Model, judge, lens and CLIP.
        directory: Where the fit is stored; it is made.

    Returns:
        The directory; None if the method is not fitted.
    """
    fit = METHODS[request.mitigation.method].fit
    if fit is None or request.mitigation.fitted_by is None:
        return None
    directory.mkdir(parents=True, exist_ok=True)
    if isinstance(fit, TrainedFit):
        found = _trained(fit, request, prompts, tools, directory)
    else:
        found = _in_rounds(fit, request, prompts, tools)
    save_file({name: tensor.contiguous() for name, tensor in found.items()}, directory / TENSORS_FILE)
    return directory


def _trained(
    fit: TrainedFit, request: FitRequest, prompts: Sequence[Prompt], tools: FitTools, directory: Path
) -> dict[str, Tensor]:
    examples = [(prompt, fit.examples(tools, request, prompt)) for prompt in prompts]
    return fit.train(tools, request, examples, StoredCheckpoint(storage_of(directory), TRAINING_FILE)).tensors


def _in_rounds(
    fit: Fit | RoundsFit, request: FitRequest, prompts: Sequence[Prompt], tools: FitTools
) -> dict[str, Tensor]:
    rounds, found = in_rounds(fit), dict[str, Tensor]()
    for _ in range(rounds.rounds(request)):
        sums: dict[str, Tensor] = {}
        for prompt in prompts:
            for key, tensor in rounds.part(tools, request, prompt, found).items():
                sums[key] = sums[key] + tensor if key in sums else tensor
        found = rounds.join(request, sums, found)
        if rounds.is_finished(request, found):
            break
    return found
