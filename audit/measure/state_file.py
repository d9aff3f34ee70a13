"""A network's weights from a file of the user's: tensors by name, and nothing that runs when it is read."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor


def read_state(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file, or of a checkpoint that ``torch.load(weights_only=True)`` reads.

    Raises:
        ValueError: The file holds anything else, such as a pickled object or code.
        OSError: There is no such file.
    """
    try:
        if path.suffix == ".safetensors":
            stored: object = load_file(path)
        else:
            stored = torch.load(path, weights_only=True, map_location="cpu")
    except (pickle.UnpicklingError, SafetensorError, RuntimeError, ValueError, EOFError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"{path}: expected weights and nothing else, found a file that is not ({reason}); a pickled model can run "
            "code when it is read: save its state_dict(), best as safetensors"
        ) from error
    if not isinstance(stored, dict) or not all(isinstance(tensor, Tensor) for tensor in stored.values()):
        raise ValueError(
            f"{path}: expected tensors by name, found {type(stored).__name__}; save the state_dict() alone"
        )
    return stored
