"""A tensor in a file that is read and written block by block, so that memory does not depend on its size."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_AS_NUMPY = {torch.float16: np.int16, torch.bfloat16: np.int16, torch.uint8: np.uint8, torch.int64: np.int64}
"""numpy has no bfloat16, so numbers of 16 bits are stored as they are in memory."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file without a header.

    The file is mapped only while a block is copied. A mapping that stays open would count all pages that were ever
    read as memory of the process.

    Attributes:
        path: The file.
        shape: Shape of the tensor, no side is 0.
        dtype: float16, bfloat16, uint8 or int64.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def bytes(self) -> int:
        """Size of the file."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def is_whole(self) -> bool:
        """Whether the file exists with its full size."""
        return self.path.is_file() and self.path.stat().st_size == self.bytes

    def create(self) -> None:
        """Create the file, all zeros; blocks that were not written yet need no disk space."""
        with self.path.open("wb") as file:
            file.truncate(self.bytes)

    def __len__(self) -> int:
        """Return the first side."""
        return self.shape[0]

    def __getitem__(self, key: Any) -> Tensor:  # noqa: ANN401 - indices of numpy or torch, as for a tensor
        """Read a block."""
        # A copy, because a view of the mapping would keep it open.
        return torch.from_numpy(np.array(self._open("r")[_numpy_key(key)])).view(self.dtype)

    def __setitem__(self, key: Any, block: Tensor) -> None:  # noqa: ANN401
        """Write a block."""
        kind = _AS_NUMPY[self.dtype]
        numbers = block.to(self.dtype).contiguous()
        self._open("r+")[_numpy_key(key)] = numbers.view(torch.int16 if kind is np.int16 else self.dtype).numpy()

    def _open(self, mode: Any) -> NDArray[Any]:  # noqa: ANN401 - numpy lists its modes as literals
        return np.memmap(self.path, dtype=_AS_NUMPY[self.dtype], mode=mode, shape=self.shape)


def _numpy_key(key: Any) -> Any:  # noqa: ANN401
    parts = key if isinstance(key, tuple) else (key,)
    return tuple(part.numpy() if isinstance(part, Tensor) else part for part in parts)
