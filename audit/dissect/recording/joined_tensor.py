"""Tensors in the files of several parts, read as one tensor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from audit.dissect.recording.stored_tensor import StoredTensor


@dataclass(frozen=True)
class JoinedTensor:
    """Tensors that are joined along one axis, and read block by block.

    Attributes:
        parts: The tensors, at least one; they differ at most in the length of the axis.
        axis: The axis.
    """

    parts: Sequence[StoredTensor]
    axis: int

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Shape of the whole."""
        shape = list(self.parts[0].shape)
        shape[self.axis] = sum(part.shape[self.axis] for part in self.parts)
        return tuple(shape)

    def __len__(self) -> int:
        """Return the first side."""
        return self.shape[0]

    def __getitem__(self, key: Any) -> Tensor:  # noqa: ANN401 - indices, as for a tensor
        """Read a block."""
        keys = [*(key if isinstance(key, tuple) else (key,))]
        keys += [slice(None)] * (self.axis + 1 - len(keys))
        before, own, after = keys[: self.axis], keys[self.axis], keys[self.axis + 1 :]
        rows = torch.arange(self.shape[self.axis])[own].reshape(-1)
        dim = self.axis - sum(isinstance(one, int) for one in before)
        whole: Tensor | None = None
        for part, places, inside in self._by_part(rows):
            block = self.parts[part][(*before, _as_slice(inside), *after)]
            if len(places) == len(rows):
                whole = block
                break
            if whole is None:
                whole = torch.empty((*block.shape[:dim], len(rows), *block.shape[dim + 1 :]), dtype=block.dtype)
            whole.index_copy_(dim, places, block)
        if whole is None:
            filled = next(part for part in self.parts if part.shape[self.axis])
            whole = filled[(*before, slice(0, 0), *after)]
        return whole.squeeze(dim) if isinstance(own, int) else whole

    def _by_part(self, rows: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield each part that owns some of the rows, with their places among the rows and in the part."""
        owners = torch.bucketize(rows, self._ends, right=True)
        for part in torch.unique(owners).tolist():
            places = (owners == part).nonzero().flatten()
            yield part, places, rows[places] - int(self._ends[part]) + self.parts[part].shape[self.axis]

    @cached_property
    def _ends(self) -> Tensor:
        return torch.tensor([part.shape[self.axis] for part in self.parts]).cumsum(0)


def _as_slice(rows: Tensor) -> Tensor | slice:
    """Return ascending neighbours as a slice, which is copied as one block."""
    first, count = int(rows[0]), len(rows)
    return slice(first, first + count) if torch.equal(rows, torch.arange(first, first + count)) else rows
