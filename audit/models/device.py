"""The device of this process, which model, lens, judges and embedders share."""

from __future__ import annotations

import torch

from audit.storage.provenance import cpu_model


def device_here() -> torch.device:
    """Return the GPU that is visible to this process, or the CPU if none is.

    Ray makes only the assigned GPU visible to a worker, so that it has no index to choose.
    """
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def compute_here() -> dict[str, str]:
    """Return what rounds the numbers of this process, as plain data: two equal ones give equal bits.

    ``instructions`` are the vector instructions that torch uses on this processor. They select other kernels, which
    add in another order.
    """
    on_gpu = torch.cuda.is_available()
    cudnn = torch.backends.cudnn.version() if on_gpu else None  # type: ignore[no-untyped-call]
    gpu = {"cuda": str(torch.version.cuda), "cudnn": str(cudnn)} if on_gpu else {}
    return {
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "processor": cpu_model(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        **gpu,
    }
