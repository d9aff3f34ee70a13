"""Where this process computes: one answer for whatever must meet on a device, model, lens, judges and embedders."""

from __future__ import annotations

import torch


def device_here() -> torch.device:
    """Return the GPU that this process is shown, or the CPU where it is shown none.

    Ray shows a worker its own GPU alone, and none to a worker that asks for none: an index would be a guess.
    """
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
