"""The run directory: the names of everything under it, and the only code that writes and reads them.

A file under its final name is whole: it is written under a temporary name beside it, flushed to the disk and renamed.
The Parquet file of a shard is written last and so is the mark that the shard is finished; whatever a killed worker left
behind is neither found nor in the way.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from audit.json_object import json_object

CONFIG = "config.json"
PROVENANCE = "provenance.json"
PROGRESS = "progress.json"
FAILURES = "failures.json"
AUDIT = "audit.json"
RESULTS = "results.parquet"
REPORT = "report.html"
TREND = "trend.json"
TABLE = "results.csv"
INTERSECTIONS = "intersections.csv"
SUMMARY = "summary.md"
JUNIT = "junit.xml"
MODEL_CARD = "model-index.yaml"
OUTBOX = "outbox.json"
SHARDS = "shards"
IMAGES = "images"
LENS = "lens"

MODEL_FINGERPRINT = "model_fingerprint"
"""Key of the provenance that says which weights drew the images."""

CHANGES_NO_RESULT = ("workers", "tracking", "report", "output", "gates", "targets", "alerts")
"""Sections of the config that may differ when a run goes on: who computes, who is told, where it lies, what passes, and
what the finished images are held against."""

ROW_GROUP = 65_536
"""Rows per Parquet row group: fixed, so that equal rows give equal bytes."""


MAX_PICTURE_BYTES = 8 * 1024**2
"""Largest picture that is read; a generated image is a hundredth of it."""


MAX_ROWS = 100_000_000
"""Most rows that are read from one file; a small file can say that it holds billions."""


class UnreadableRunError(ValueError):
    """The directory does not hold a run that can be read."""


class RunConflictError(ValueError):
    """The directory holds another run than the one that wants to go on in it."""


class CorruptShardError(RuntimeError):
    """The file of a finished shard cannot be read.

    Attributes:
        shard_id: Which shard.
    """

    def __init__(self, shard_id: str, reason: str) -> None:
        """Say which shard, and what was found in place of its rows."""
        self.shard_id = shard_id
        message = f"shard {shard_id} cannot be read ({reason}); run the audit again to compute it anew"
        super().__init__(message)


@dataclass(frozen=True)
class RunDirectory:
    """One run on a local path.

    A run may have been handed over by somebody else: nothing is read through a name or a link that leads out of it.

    Attributes:
        path: The directory; it need not exist before ``create``.
    """

    path: Path

    def create(self, config: Mapping[str, Any], provenance: Mapping[str, Any]) -> None:
        """Begin a run, or go on with it where the directory already holds the same one.

        A run that goes on takes over the new config, whose differences change no result, and keeps its provenance: that
        is where its finished shards come from.

        Raises:
            RunConflictError: If the directory holds a run whose config or model would give other results.
        """
        if self.file(CONFIG).exists():
            self._refuse_other(config, provenance)
        elif self.finished():
            raise RunConflictError(
                f"{self.path} holds finished shards but no {CONFIG}; choose another output directory"
            )
        else:
            self.write_json(PROVENANCE, provenance)
        self.write_json(CONFIG, config)

    def file(self, name: str) -> Path:
        """Return the path of a file or directory of this run, for example ``file(REPORT)``."""
        return self.path / name

    def image_path(self, prompt_id: str, index: int, arm: str) -> Path:
        """Return where the image of this key and arm lies, if it was kept."""
        return self.path / image_name(prompt_id, index, arm)

    def finished(self) -> set[str]:
        """Return the ids of the finished shards."""
        return {path.stem for path in (self.path / SHARDS).glob("*.parquet")}

    def is_finished(self, shard_id: str) -> bool:
        """Tell whether a shard is finished, without listing the others."""
        return self._shard_path(shard_id).exists()

    def write_shard(
        self, shard_id: str, table: pa.Table, attribution: Mapping[str, NDArray[Any]] | None = None
    ) -> None:
        """Store a finished shard: first its attribution, where there is one, then its rows, which mark it finished.

        Args:
            shard_id: ``Shard.id``.
            table: One row per image and arm, see ``audit.rows.row_schema``.
            attribution: ``attribution/<attribute>`` of shape (groups, latents), the sum over the shard's baseline
                images of the mean over the steps, and ``images``, how many they were.

        Raises:
            ValueError: If the table has no row.
        """
        if not table.num_rows:
            raise ValueError(f"shard {shard_id} has no row; a failed image is a row with status failed")
        if attribution is not None:
            arrays = {name: np.asarray(array, order="C") for name, array in attribution.items()}
            write_atomically(self._attribution_path(shard_id), save_tensors(arrays))
        write_atomically(self._shard_path(shard_id), _parquet_bytes(table))

    def read_shard(self, shard_id: str) -> pa.Table:
        """Return the rows of a finished shard.

        Raises:
            FileNotFoundError: If the shard is not finished.
            CorruptShardError: If its file is no whole Parquet file, or a checksum in it is wrong.
        """
        path = self._shard_path(shard_id)
        if not path.exists():
            raise FileNotFoundError(f"shard {shard_id} is not finished: expected {path}; run the audit again to go on")
        try:
            return _read_parquet(path)
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the system's word on the storage, not on what the file holds
            raise CorruptShardError(shard_id, f"{path.name}: {error}") from error

    def read_rows(self, shard_ids: Iterable[str]) -> Iterator[pa.Table]:
        """Yield the rows of the shards in the given order, one shard at a time."""
        return (self.read_shard(shard_id) for shard_id in shard_ids)

    def read_attribution(self, shard_id: str) -> dict[str, NDArray[Any]] | None:
        """Return the attribution that was stored with the shard, None if there was none.

        Raises:
            CorruptShardError: If its file is no whole safetensors file.
        """
        path = self._attribution_path(shard_id)
        if not path.exists():
            return None
        try:
            arrays: dict[str, NDArray[Any]] = load_tensors(path.read_bytes())
        except SafetensorError as error:
            raise CorruptShardError(shard_id, f"{path.name}: {error}") from error
        return arrays

    def discard_shard(self, shard_id: str) -> None:
        """Forget a finished shard, so that it is computed again: first its mark, then what belongs to it."""
        self._shard_path(shard_id).unlink(missing_ok=True)
        self._attribution_path(shard_id).unlink(missing_ok=True)

    def write_results(self, table: pa.Table) -> None:
        """Write ``results.parquet``; equal rows give equal bytes."""
        write_atomically(self.file(RESULTS), _parquet_bytes(table))

    def read_results(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the rows of ``results.parquet``, only some of its columns where they are named.

        Raises:
            UnreadableRunError: If it is no Parquet file, or says that it holds more rows than any audit.
        """
        path = self._own(RESULTS)
        try:
            return _read_parquet(path, columns)
        except (pa.ArrowException, OSError) as error:  # pyarrow's word for a broken page is OSError
            raise UnreadableRunError(
                f"{path}: expected a Parquet file, found something else ({error}); run the audit again"
            ) from error

    def write_json(self, name: str, data: Mapping[str, Any]) -> None:
        """Write ``data`` under ``name``.

        Raises:
            ValueError: If ``data`` holds NaN or infinity, which JSON has no word for.
        """
        text = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False)
        write_atomically(self.file(name), f"{text}\n".encode())

    def read_json(self, name: str) -> dict[str, Any]:
        """Return what ``write_json`` wrote under ``name``."""
        return json_object(self._own(name).read_bytes(), f"{self.file(name)}: expected what an audit wrote")

    def read_picture(self, name: str) -> bytes | None:
        """Return the WebP picture under a name such as ``images/nurse/00000-baseline.webp``.

        None where there is none: no such file, one outside of the run, or one that is no picture.
        """
        try:
            path = self._own(name)
        except UnreadableRunError:
            return None
        if not path.is_file() or path.stat().st_size > MAX_PICTURE_BYTES:
            return None
        data = path.read_bytes()
        return data if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else None

    def _own(self, name: str) -> Path:
        """Return the path of ``name``.

        Raises:
            UnreadableRunError: If it lies outside of the run, by its name or by a link.
        """
        path = self.path / name
        if "\0" in name or not path.resolve().is_relative_to(self.path.resolve()):
            raise UnreadableRunError(
                f"{self.path}: expected a run whose files are its own, found {name!r}, which leads out of it; copy the "
                "run with the files that its links mean"
            )
        return path

    def _shard_path(self, shard_id: str) -> Path:
        return self.path / SHARDS / f"{shard_id}.parquet"

    def _attribution_path(self, shard_id: str) -> Path:
        return self.path / SHARDS / f"{shard_id}.attribution.safetensors"

    def _refuse_other(self, config: Mapping[str, Any], provenance: Mapping[str, Any]) -> None:
        old, new = (_what_changes_results(data) for data in (self.read_json(CONFIG), config))
        old_model, new_model = (data.get(MODEL_FINGERPRINT) for data in (self.read_json(PROVENANCE), provenance))
        difference = _first_difference(old, new) or _first_difference(old_model, new_model, MODEL_FINGERPRINT)
        if difference:
            raise RunConflictError(
                f"{self.path} holds another run: {difference}. Take the old value back to go on with that run, or "
                "choose another name or output for a new one"
            )


def image_name(prompt_id: str, index: int, arm: str) -> str:
    """Return the name of an image inside its run."""
    return f"{IMAGES}/{prompt_id}/{index:05d}-{arm}.webp"


def write_atomically(path: Path, data: bytes) -> None:
    """Write ``data`` so that ``path`` is either absent, as it was before, or whole; parents are made.

    The temporary name is unique, so two workers that write the same shard do not meet: the last rename wins.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _flush_directory(path.parent)


def _flush_directory(path: Path) -> None:
    """Make a rename durable: POSIX keeps it in the directory, not in the file."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _parquet_bytes(table: pa.Table) -> bytes:
    """Serialise with fixed settings and in one chunk: how the rows were gathered leaves no trace in the bytes."""
    sink = pa.BufferOutputStream()
    whole = table.replace_schema_metadata(None).combine_chunks()
    pq.write_table(whole, sink, version="2.6", compression="zstd", row_group_size=ROW_GROUP, write_page_checksum=True)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _read_parquet(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read one file as it is; ``pq.read_table`` would take a ``key=value`` in the path for a partition column.

    Checksums are compared where the file has them: a flipped bit in a value is no error of the format.

    Raises:
        UnreadableRunError: If it says that it holds more rows than any audit.
    """
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        if file.metadata.num_rows > MAX_ROWS:
            raise UnreadableRunError(f"{path}: expected at most {MAX_ROWS:,} rows, found {file.metadata.num_rows:,}")
        return file.read(columns)


def _what_changes_results(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of the config that fixes the results, as JSON would give it back."""
    data: dict[str, Any] = json.loads(json.dumps(config))
    return {name: value for name, value in data.items() if name not in CHANGES_NO_RESULT}


def _first_difference(old: Any, new: Any, where: str = "") -> str | None:  # noqa: ANN401 - JSON values
    """Describe the first place where two JSON values differ, None if they are equal."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in [*old, *(name for name in new if name not in old)]:
            here = f"{where}.{name}" if where else name
            difference = _first_difference(old.get(name), new.get(name), here)
            if difference:
                return difference
        return None
    if old == new:
        return None
    return f"{where} was {json.dumps(old)}, now it is {json.dumps(new)}"
