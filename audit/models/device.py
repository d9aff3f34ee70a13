"""The device of this process, which model, lens, judges and embedders share."""

from __future__ import annotations

import torch


def device_here() -> torch.device:
    """Return the GPU that is visible to this process, or the CPU if none is.

    Ray makes only the assigned GPU visible to a worker, so that it has no index to choose.
    """
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
