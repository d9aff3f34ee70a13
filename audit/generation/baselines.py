"""Baseline images that are kept beside the runs, for later audits of the same model.

The baseline arm of two audits with different mitigations is the same work. What is kept has a name by content:
everything that determines an image, down to the versions of the libraries that round it. A file that is missing or
damaged is made again, and so is one that lacks an analysis of the audit.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save
from torch import Tensor

from audit.records.work import Shard
from audit.storage.files import Storage
from audit.storage.object_store import StorageError
from audit.storage.provenance import package_versions

LOG = logging.getLogger(__name__)

_FORMAT = 1
"""To be raised when an analysis, or what is kept of it, changes."""

_IMAGES, _VECTORS = "images", "vectors"
_SIZES = "sizes.txt"
"""Journal of the sizes of all kept files, in bytes: an object store cannot add them up."""

_ROUNDING = ("torch", "diffusers", "transformers")
"""Packages whose version can change the last bits of an image."""

Parts = dict[str, dict[str, NDArray[Any]]]

Vectors = dict[str, NDArray[np.float32]]
"""Activations (n, S, m) of n images by the places at which they were recorded."""


@dataclass(frozen=True)
class Baseline:
    """The baseline arm of a shard.

    Attributes:
        images: uint8 (n, 3, H, W).
        parts: Analysis → its part, made while the images were sampled.
    """

    images: Tensor
    parts: Parts


@dataclass(frozen=True)
class Origin:
    """What determines the baseline images of an audit, apart from prompt and seeds.

    Attributes:
        model: Fingerprint of the model.
        sampling: How it is sampled.
        dtype: Number format of its weights.
        threads: CPU threads.
        lens: Name of the lens that the analyses use; empty without one.
    """

    model: str
    sampling: Mapping[str, Any]
    dtype: str
    threads: int
    lens: str

    def name(self, shard: Shard, seed: int, batch: int, analyses: tuple[str, ...]) -> str:
        """Name the baseline of a shard by content."""
        return self._name(shard, seed, batch, {"analyses": sorted(analyses), "lens": self.lens} if analyses else {})

    def name_of_vectors(self, shard: Shard, seed: int, batch: int, places: str) -> str:
        """Name the activations of a shard at some places by content; they depend on no lens."""
        return self._name(shard, seed, batch, {"activations": places})

    def _name(self, shard: Shard, seed: int, batch: int, observed: Mapping[str, Any]) -> str:
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
        settings = [
            _FORMAT,
            [self.model, dict(self.sampling), self.dtype, self.threads, device, package_versions(_ROUNDING)],
            [shard.prompt.id, shard.prompt.text, seed, batch, list(shard.indices)],
            dict(observed),
        ]
        text = json.dumps(settings, sort_keys=True)
        return f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.safetensors"


class BaselineCache:
    """Baseline images in one directory, up to a limit.

    Args:
        storage: The directory.
        origin: What determines the images.
        limit: Largest size of all files, in bytes; the files of earlier audits count.
    """

    def __init__(self, storage: Storage, origin: Origin, limit: int) -> None:
        self._storage, self._origin = storage, origin
        self._left = limit - sum(int(size) for size in storage.lines(_SIZES) if size.isdigit())

    def find(self, shard: Shard, seed: int, batch: int, analyses: tuple[str, ...]) -> Baseline | None:
        """Return what was kept for a shard; None if there is nothing that can be used."""
        found = self._read(self._origin.name(shard, seed, batch, analyses))
        images = found.pop(_IMAGES, np.zeros(0, np.uint8))
        if images.ndim != 4 or len(images) != len(shard.indices):
            return None
        parts: Parts = {analysis: {} for analysis in analyses}
        for key, value in found.items():
            analysis, _, own = key.partition("/")
            parts.setdefault(analysis, {})[own] = value
        return Baseline(torch.from_numpy(images), parts)

    def keep(self, baseline: Baseline, shard: Shard, seed: int, batch: int) -> None:
        """Keep the baseline of a shard, unless it exceeds the limit; a storage that fails costs only time later."""
        arrays = {_IMAGES: baseline.images.numpy()}
        arrays |= {f"{name}/{key}": value for name, part in baseline.parts.items() for key, value in part.items()}
        self._write(self._origin.name(shard, seed, batch, tuple(baseline.parts)), arrays)

    def find_vectors(self, shard: Shard, seed: int, batch: int, places: tuple[str, ...]) -> Vectors:
        """Return the activations that were kept for a shard, by place; those that cannot be used are left out."""
        found = {place: self._read(self._origin.name_of_vectors(shard, seed, batch, place)) for place in places}
        kept = {place: of.get(_VECTORS) for place, of in found.items()}
        return {place: of for place, of in kept.items() if of is not None and len(of) == len(shard.indices)}

    def keep_vectors(self, vectors: Vectors, shard: Shard, seed: int, batch: int) -> None:
        """Keep activations of a shard, unless they exceed the limit."""
        for place, values in vectors.items():
            self._write(self._origin.name_of_vectors(shard, seed, batch, place), {_VECTORS: values})

    def _read(self, name: str) -> dict[str, NDArray[Any]]:
        try:
            found: dict[str, NDArray[Any]] = load(self._storage.read(name))
        except FileNotFoundError:
            return {}
        except (OSError, StorageError, SafetensorError) as error:
            LOG.warning("the kept baseline %s cannot be read (%s); it is made again", name, error)
            return {}
        return found

    def _write(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        # A scalar must stay one: ascontiguousarray would make it an array of one number.
        data = save({key: np.asarray(value, order="C") for key, value in arrays.items()})
        if len(data) > self._left:
            return
        self._left -= len(data)
        try:
            self._storage.write(name, data)
            self._storage.append(_SIZES, str(len(data)))
        except (OSError, StorageError) as error:
            LOG.warning("the baseline %s cannot be kept (%s)", name, error)
