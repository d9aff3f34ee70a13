"""Reads a network's weights from a user's file: tensors by name, never code."""

from __future__ import annotations

import errno
import pickle
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from audit.models.files.untrusted_model import UnfitModelError

T = TypeVar("T")

Shapes = Mapping[str, tuple[int, ...]]
"""Name of a tensor → its shape."""

_PARALLEL = "module."
"""What ``torch.nn.DataParallel`` puts before the name of every tensor."""

_COUNTER = "num_batches_tracked"
"""A counter of batch normalisation that no prediction uses and that old checkpoints lack."""

_MOST_NAMED = 3


def read_state(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file, or of a checkpoint that ``torch.load(weights_only=True)`` reads.

    Names that ``DataParallel`` prefixed lose the prefix.

    Raises:
        UnfitModelError: The file holds something else, such as a pickled object or code, or is incomplete.
        OSError: There is no such file.
    """
    return _read(path, "cpu")


def read_shapes(path: Path) -> Shapes:
    """Return the shapes of a file's tensors without reading the tensors; see ``read_state``."""
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt") as file:
                shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - no dict
        except SafetensorError as error:
            raise _no_weights(path, error) from error
        return _without_prefix(shapes)
    return {name: tuple(tensor.shape) for name, tensor in _read(path, "meta").items()}


def load_weights(network: nn.Module, path: Path, kind: str, outputs: str) -> None:
    """Load a file into a network; see ``weights_problem``.

    Raises:
        UnfitModelError: The file's tensors are not the network's.
    """
    state = read_state(path)
    obstacle = unlike(shapes_of(network), {name: tuple(tensor.shape) for name, tensor in state.items()}, outputs)
    if obstacle is not None:
        raise UnfitModelError(_unfit(path, kind, obstacle))
    network.load_state_dict(state)


def weights_problem(path: Path, make: Callable[[], nn.Module], kind: str, outputs: str) -> str | None:
    """Return why a file's tensors cannot be loaded into a network, from the file's header; None if they can.

    Args:
        path: The file.
        make: Makes the network; it is made without numbers.
        kind: What the network is, for messages.
        outputs: Name of the tensor whose rows are the network's outputs, reported by their number.
    """
    try:
        found = read_shapes(path)
    except UnfitModelError as error:
        return str(error)
    with torch.device("meta"):
        expected = shapes_of(make())
    obstacle = unlike(expected, found, outputs)
    return None if obstacle is None else _unfit(path, kind, obstacle)


def _unfit(path: Path, kind: str, obstacle: str) -> str:
    return f"{path}: expected the weights of {kind}, found {obstacle}; give another file"


def shapes_of(network: nn.Module) -> Shapes:
    """Return the shapes of a network's tensors; one on torch's ``meta`` device holds no numbers."""
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def unlike(expected: Shapes, found: Shapes, outputs: str = "") -> str | None:
    """Return how a file's tensors differ from those of a network; None if they are equal in name and shape.

    Args:
        expected: Of the network.
        found: Of the file.
        outputs: Name of the tensor whose rows are the network's outputs, which is reported first and by its number.
    """
    if outputs in found and found[outputs] != expected[outputs] and found[outputs][1:] == expected[outputs][1:]:
        return f"{found[outputs][0]} outputs instead of {expected[outputs][0]}"
    missing = [name for name in expected if name not in found and not name.endswith(_COUNTER)]
    unexpected = [name for name in found if name not in expected]
    other = [
        f"{name} of shape {list(found[name])} instead of {list(shape)}"
        for name, shape in expected.items()
        if name in found and found[name] != shape
    ]
    kinds = [("no", missing), ("unexpected", unexpected), ("", other)]
    parts = [f"{word} {_some(names)}".strip() for word, names in kinds if names]
    return "; ".join(parts) if parts else None


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more


def _read(path: Path, device: str) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            stored: object = load_file(path, device)
        else:
            with warnings.catch_warnings():  # about protocols of pickles that are refused anyway
                warnings.simplefilter("ignore")
                stored = torch.load(path, weights_only=True, map_location=device)
    except (pickle.UnpicklingError, SafetensorError, RuntimeError, ValueError, EOFError) as error:
        raise _no_weights(path, error) from error
    except OSError as error:  # torch seeks to before the start of some files that were cut short
        if error.errno != errno.EINVAL:
            raise
        raise _no_weights(path, error) from error
    if not isinstance(stored, dict) or not all(isinstance(tensor, Tensor) for tensor in stored.values()):
        raise UnfitModelError(
            f"{path}: expected tensors by name, found {type(stored).__name__}; save the state_dict() alone"
        )
    return _without_prefix(stored)


def _no_weights(path: Path, error: Exception) -> UnfitModelError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    if isinstance(error, pickle.UnpicklingError):  # torch's own message advises to run the code
        reason = "no tensors by name, or other objects beside them"
    return UnfitModelError(
        f"{path}: expected weights and nothing else, found a file that is not ({reason}); a pickled model can run "
        "code when it is read: save its state_dict(), best as safetensors"
    )


def _without_prefix(named: Mapping[str, T]) -> dict[str, T]:
    if named and all(name.startswith(_PARALLEL) for name in named):
        return {name.removeprefix(_PARALLEL): value for name, value in named.items()}
    return dict(named)
