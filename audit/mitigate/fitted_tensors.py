"""Reads the tensors of a finished fit."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from audit.models.device import device_here
from audit.planning.fits import TENSORS_FILE


def fitted_tensors(mitigation: str, fitted: Path | None) -> dict[str, Tensor]:
    """Load the tensors of a fit onto this process's device.

    Args:
        mitigation: Name of the mitigation, for messages.
        fitted: Directory of the finished fit.

    Raises:
        ValueError: If no fit is given, or its file cannot be read.
    """
    if fitted is None:
        raise ValueError(f"mitigation {mitigation!r} uses tensors that are fitted first, found none; run the audit")
    try:
        found: dict[str, Tensor] = load_file(fitted / TENSORS_FILE)
    except (OSError, SafetensorError) as error:
        raise ValueError(
            f"{fitted / TENSORS_FILE}: expected the tensors of a fit, found a file that cannot be read ({error}); "
            "delete the directory to fit again"
        ) from error
    return {name: tensor.to(device_here()) for name, tensor in found.items()}
