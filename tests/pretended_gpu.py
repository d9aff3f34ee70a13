"""A GPU that need not be there: tensors that say ``cuda:0``, compute on the CPU, and refuse to meet the CPU's tensors.

Inside ``pretended_gpu()`` torch finds a GPU, and whatever is moved to it is wrapped. An operation on wrapped and plain
tensors fails as it does on a real GPU, ``numpy()`` of a wrapped one too; the numbers are those of the CPU's kernels.
What a real GPU does besides (kernels that lack a type, memory that ends, other roundings) is not seen here.
"""

from __future__ import annotations

from contextlib import contextmanager
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("cuda", 0)
ATEN = torch.ops.aten
MOVES = (ATEN.to, ATEN._to_copy, ATEN.copy_)
INDEXES = (ATEN.index, ATEN.index_put, ATEN.index_put_)


class OnGpu(torch.Tensor):
    """A tensor on the pretended GPU; ``held`` has its numbers."""

    @staticmethod
    def __new__(cls, held):
        return torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=DEVICE,
        )

    def __init__(self, held):
        self.held = held

    def __repr__(self):
        return f"OnGpu({self.held!r})"

    def tolist(self):
        return self.held.tolist()

    def numpy(self, *_, **__):
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")

    __array__ = numpy

    @classmethod
    def __torch_dispatch__(cls, operation, _types, args=(), kwargs=None):
        return compute(operation, args, kwargs or {})


class Watching(TorchDispatchMode):
    """Sees what no wrapped tensor takes part in: moves to the GPU, and tensors that are made there."""

    def __torch_dispatch__(self, operation, _types, args=(), kwargs=None):
        return compute(operation, args, kwargs or {})


def compute(operation, args, kwargs):
    """Do an operation on the CPU; its results are where a GPU's would be."""
    if operation is ATEN._has_compatible_shallow_copy_type.default:
        return False  # a parameter that moves is replaced, not filled
    leaves = tree_leaves((args, kwargs))
    asked = next((leaf for leaf in leaves if isinstance(leaf, torch.device)), None)
    refuse_strangers(operation, args, leaves, asked)
    there = any(isinstance(leaf, OnGpu) for leaf in leaves) if asked is None else asked.type == DEVICE.type
    held_args, held_kwargs = tree_map(held, (args, kwargs))
    result = operation(*held_args, **held_kwargs)
    if operation._schema.name.endswith("_"):  # changes its first argument, which stays where it is
        return args[0] if operation._schema.returns else None
    with torch.inference_mode(False):  # a view of a parameter must not become an inference tensor
        return tree_map(lambda value: OnGpu(value) if there and isinstance(value, torch.Tensor) else value, result)


def held(value):
    """Return what the CPU computes with in place of an argument."""
    if isinstance(value, OnGpu):
        return value.held
    return torch.device("cpu") if isinstance(value, torch.device) else value


def refuse_strangers(operation, args, leaves, asked):
    """Raise what a GPU raises where tensors of both devices meet; numbers without a dimension may come from the CPU."""
    packet = operation.overloadpacket
    met = tree_leaves((args[0], args[2:])) if packet in INDEXES else leaves  # indices may come from anywhere
    if packet in INDEXES and not isinstance(args[0], OnGpu):
        met = leaves
    plain = [leaf for leaf in met if isinstance(leaf, torch.Tensor) and not isinstance(leaf, OnGpu) and leaf.dim()]
    if plain and any(isinstance(leaf, OnGpu) for leaf in met) and packet not in MOVES:
        raise RuntimeError(f"Expected all tensors to be on the same device, found cuda:0 and cpu in {operation}")
    drawn_there = asked is not None and asked.type == DEVICE.type
    if drawn_there and any(isinstance(leaf, torch.Generator) for leaf in leaves):
        raise RuntimeError(f"Expected a 'cuda' device type for generator but found 'cpu' in {operation}")


@contextmanager
def pretended_gpu():
    """Let torch find the GPU inside the block."""
    torch._C._ensureCUDADeviceGuardSet()  # what asks the driver for the current device asks nobody
    overwrite = torch.__future__.get_overwrite_module_params_on_conversion()
    lift = torch._C._only_lift_cpu_tensors()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device=) moves where the mode sees it
    try:
        with (
            mock.patch.object(torch.cuda, "is_available", return_value=True),
            mock.patch.object(torch.cuda, "_lazy_init", return_value=None),
            Watching(),
        ):
            yield
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(overwrite)
        torch._C._set_only_lift_cpu_tensors(lift)
