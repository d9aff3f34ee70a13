"""Reads the tensors of a finished fit."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from audit.models.device import device_here
from audit.planning.fits import TENSORS_FILE


def read_fit(name: str, fitted: Path | None) -> dict[str, Tensor]:
    """Return the tensors of a fit, on this process's device.

    Args:
        name: Of the mitigation, for messages.
        fitted: Directory of the fit.

    Raises:
        ValueError: There is no fit, or its file cannot be read.
    """
    if fitted is None:
        raise ValueError(f"mitigation {name!r} uses a method that is fitted first, found none; run the audit")
    try:
        found: dict[str, Tensor] = load_file(fitted / TENSORS_FILE)
    except (OSError, SafetensorError) as error:
        raise ValueError(
            f"{fitted / TENSORS_FILE}: expected the tensors of a fit, found a file that cannot be read ({error}); "
            "delete the directory to fit again"
        ) from error
    return {key: tensor.to(device_here()) for key, tensor in found.items()}
