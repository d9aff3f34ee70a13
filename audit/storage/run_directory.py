"""The run directory: the names of its files, and the only code that reads and writes them.

All writes are atomic, on disk and in an object store (:mod:`audit.storage.files`). The Parquet file of a shard is
written last, so its existence means that the shard is finished. Incomplete files of a killed worker are ignored.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from audit.storage.files import Storage, storage_of
from audit.storage.object_store import StorageError
from audit.storage.outside.json_object import json_object
from audit.storage.place import Place

CONFIG = "config.json"
PROVENANCE = "provenance.json"
PROGRESS = "progress.json"
FAILURES = "failures.json"
AUDIT = "audit.json"
RESULTS = "results.parquet"
REPORT = "report.html"
TREND = "trend.json"
LOCATION = "location.json"
PROTOCOL = "protocol.json"
FIT_COSTS = "fits.json"
TIMES = "times.json"
TABLE = "results.csv"
INTERSECTIONS = "intersections.csv"
IMPACT_RATIOS = "impact_ratios.csv"
SUMMARY = "summary.md"
JUNIT = "junit.xml"
MODEL_CARD = "model-index.yaml"
OUTBOX = "outbox.json"
SHARDS = "shards"
IMAGES = "images"
LENS = "lens"

MODEL_RUNS = "runs.json"
"""File of a comparison of models: the runs by model, written before the first one starts."""

MODEL_FINGERPRINT = "model_fingerprint"
"""Key of the provenance that identifies the weights of the audited model."""

CHANGES_NO_RESULT = (
    "workers", "tracking", "report", "output", "gates", "targets", "alerts", "statement", "explore",
    "concepts", "compositions",
)  # fmt: skip
"""Sections of the config that may differ when a run is resumed, because they do not change any image row."""

MODEL_CHANGES_NO_RESULT = ("limits", "api_key_env")
"""Keys of the section ``model`` that may differ too: how an endpoint is asked, not what."""

SHARD_COMPRESSION: Final = "snappy"
"""For a shard of 40 rows, zstd saves no space and needs a millisecond more for each column."""

ROW_GROUP = 65_536
"""Rows per Parquet row group: fixed, so that equal rows give equal bytes."""


_ROWS, _PART = ".parquet", ".safetensors"
"""Suffixes of a shard's files: its rows, and its part of an analysis."""


MAX_PICTURE_BYTES = 8 * 1024**2
"""Size limit of a picture file; a generated image needs a hundredth of it."""


MAX_ROWS = 100_000_000
"""Limit of rows read from one file; a small file can claim to have billions."""


class UnreadableRunError(ValueError):
    """The directory does not contain a run that can be read."""


class RunConflictError(ValueError):
    """The directory contains a different run from the one that is being started or resumed."""


class CorruptShardError(RuntimeError):
    """The file of a finished shard cannot be read.

    Attributes:
        shard_id: The shard.
    """

    def __init__(self, shard_id: str, reason: str) -> None:
        """Build the message from the shard and the reason."""
        self.shard_id = shard_id
        message = f"shard {shard_id} cannot be read ({reason}); run the audit again to recompute it"
        super().__init__(message)


@dataclass(frozen=True)
class RunDirectory:
    """One run, in a local directory or in an object store.

    A run can come from another person, so names and links that point outside the run are never followed.

    Attributes:
        path: Its location; it need not exist before ``create``.
    """

    path: Place

    def create(self, config: Mapping[str, Any], provenance: Mapping[str, Any]) -> None:
        """Start a run, or resume it if the directory already contains the same run.

        A resumed run uses the new config, which may differ only in sections that do not change results. It keeps its
        provenance, because that describes its finished shards.

        Raises:
            RunConflictError: If the directory contains a run whose config or model would give other results.
        """
        if self.has(CONFIG):
            self._refuse_other(config, provenance)
        elif self.finished():
            raise RunConflictError(
                f"{self.path} contains finished shards but no {CONFIG}; choose another output directory"
            )
        else:
            self.write_json(PROVENANCE, provenance)
        self.write_json(CONFIG, config)

    @property
    def storage(self) -> Storage:
        """The storage of the run's files."""
        return storage_of(self.path)

    def file(self, name: str) -> Place:
        """Return the location of a file of this run, for example ``file(REPORT)``."""
        return self.path / name

    def has(self, name: str) -> bool:
        """Return whether the run has a file, for example ``has(AUDIT)``."""
        return self.storage.has(name)

    def read_bytes(self, name: str) -> bytes:
        """Return the content of a file.

        Raises:
            FileNotFoundError: If the run has no such file.
            UnreadableRunError: If the name or a link points outside the run.
        """
        self._refuse_foreign(name)
        return self.storage.read(name)

    def write_bytes(self, name: str, data: bytes) -> Place:
        """Write a file atomically and return its location."""
        self.storage.write(name, data)
        return self.file(name)

    def write_images(self, images: Mapping[str, bytes]) -> None:
        """Store WebP pictures under names from :func:`image_name`."""
        self.storage.write_all(images)

    def on_disk(self, name: str) -> AbstractContextManager[Path]:
        """Provide a file of the run, or a copy of it, for code that reads only local files."""
        return self.storage.on_disk(name)

    def finished(self) -> set[str]:
        """Return the ids of the finished shards, from one listing."""
        names = self.storage.names(SHARDS)
        return {name.removesuffix(_ROWS) for name in names if name.endswith(_ROWS)}

    def is_finished(self, shard_id: str) -> bool:
        """Return whether a shard is finished, without listing the others."""
        return self.has(_shard_name(shard_id))

    def write_shard(
        self, shard_id: str, table: pa.Table, parts: Mapping[str, Mapping[str, NDArray[Any]]] | None = None
    ) -> None:
        """Store a finished shard: first its parts of analyses, then its rows, which mark it finished.

        Args:
            shard_id: ``Shard.id``.
            table: One row per image and arm, see ``audit.storage.rows.row_schema``.
            parts: Analysis → arrays by name.

        Raises:
            ValueError: If the table has no rows.
        """
        if not table.num_rows:
            raise ValueError(f"shard {shard_id} has no rows; a failed image must have a row with the status 'failed'")
        for analysis, part in (parts or {}).items():
            arrays = {name: np.asarray(array, order="C") for name, array in part.items()}
            self.storage.write(_part_name(shard_id, analysis), save_tensors(arrays))
        self.storage.write(_shard_name(shard_id), _parquet_bytes(table, SHARD_COMPRESSION))

    def read_shard(self, shard_id: str) -> pa.Table:
        """Return the rows of a finished shard.

        Raises:
            FileNotFoundError: If the shard is not finished.
            CorruptShardError: If its file is not a complete Parquet file, or a checksum in it is wrong.
        """
        [table] = self.read_rows([shard_id])
        return table

    def read_rows(self, shard_ids: Iterable[str]) -> Iterator[pa.Table]:
        """Yield the rows of the shards in the given order, one shard at a time; see :meth:`read_shard`."""
        wanted = tuple(shard_ids)
        for shard_id, data in zip(wanted, self.storage.read_all(map(_shard_name, wanted)), strict=True):
            place = self.file(_shard_name(shard_id))
            if data is None:
                raise FileNotFoundError(
                    f"shard {shard_id} is not finished: expected {place}; run the audit again to resume it"
                )
            try:
                table = _read_parquet(data, place)
            except (pa.ArrowException, OSError) as error:  # pyarrow raises OSError for a broken page
                raise CorruptShardError(shard_id, f"{shard_id}{_ROWS}: {error}") from error
            yield table

    def read_part(self, analysis: str, shard_id: str) -> dict[str, NDArray[Any]] | None:
        """Return the part of an analysis that was stored with a shard, None if there is none.

        Raises:
            CorruptShardError: If its file is not a complete safetensors file.
        """
        [part] = self.read_parts(analysis, [shard_id])
        return part

    def read_parts(self, analysis: str, shard_ids: Iterable[str]) -> Iterator[dict[str, NDArray[Any]] | None]:
        """Yield the parts of the shards in the given order; see :meth:`read_part`."""
        wanted = tuple(shard_ids)
        names = [_part_name(shard_id, analysis) for shard_id in wanted]
        for shard_id, name, data in zip(wanted, names, self.storage.read_all(names), strict=True):
            try:
                arrays = None if data is None else load_tensors(data)
            except SafetensorError as error:
                raise CorruptShardError(shard_id, f"{name.removeprefix(SHARDS)[1:]}: {error}") from error
            yield arrays

    def discard_shard(self, shard_id: str) -> None:
        """Delete a finished shard, so that it is computed again: first its rows, then its attribution."""
        self.storage.delete(_shard_name(shard_id))
        for name in self.storage.names(SHARDS):
            if name.startswith(f"{shard_id}.") and name.endswith(_PART):
                self.storage.delete(f"{SHARDS}/{name}")

    def write_results(self, table: pa.Table) -> None:
        """Write ``results.parquet``; equal rows give equal bytes."""
        self.write_bytes(RESULTS, _parquet_bytes(table, "zstd"))

    def read_results(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the rows of ``results.parquet``, with all or only the named columns.

        Raises:
            UnreadableRunError: If it is not a Parquet file, or claims more than ``MAX_ROWS`` rows.
        """
        try:
            return _read_parquet(self.read_bytes(RESULTS), self.file(RESULTS), columns)
        except StorageError:
            raise
        except (pa.ArrowException, OSError) as error:
            raise UnreadableRunError(
                f"{self.file(RESULTS)}: expected a Parquet file, found something else ({error}); run the audit again"
            ) from error

    def write_json(self, name: str, data: Mapping[str, Any]) -> None:
        """Write ``data`` under ``name``.

        Raises:
            ValueError: If ``data`` contains NaN or infinity, which JSON cannot represent.
        """
        text = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False)
        self.write_bytes(name, f"{text}\n".encode())

    def read_json(self, name: str) -> dict[str, Any]:
        """Return the data that ``write_json`` wrote under ``name``."""
        return json_object(self.read_bytes(name), f"{self.file(name)}: expected a file written by an audit")

    def read_picture(self, name: str) -> bytes | None:
        """Return the WebP picture under a name such as ``images/nurse/00000-baseline.webp``.

        None if the file does not exist, is outside the run or is not a picture.
        """
        if not self.storage.owns(name):
            return None
        try:
            data = self.storage.read(name, most=MAX_PICTURE_BYTES + 1)
        except FileNotFoundError:
            return None
        is_picture = data[:4] == b"RIFF" and data[8:12] == b"WEBP" and len(data) <= MAX_PICTURE_BYTES
        return data if is_picture else None

    def _refuse_foreign(self, name: str) -> None:
        if not self.storage.owns(name):
            raise UnreadableRunError(
                f"{self.path}: expected only files inside the run, found {name!r}, which points outside it; copy the "
                "run with the files that its links point to"
            )

    def _refuse_other(self, config: Mapping[str, Any], provenance: Mapping[str, Any]) -> None:
        old, new = (json.loads(json.dumps(decisive(data))) for data in (self.read_json(CONFIG), config))
        old_model, new_model = (data.get(MODEL_FINGERPRINT) for data in (self.read_json(PROVENANCE), provenance))
        difference = _first_difference(old, new) or _first_difference(old_model, new_model, MODEL_FINGERPRINT)
        if difference:
            raise RunConflictError(
                f"{self.path} contains another run: {difference}. Restore the old value to resume that run, or choose "
                "another name or output for a new one"
            )


def image_name(prompt_id: str, index: int, arm: str) -> str:
    """Return the name of an image inside its run."""
    return f"{IMAGES}/{prompt_id}/{index:05d}-{arm}.webp"


def _shard_name(shard_id: str) -> str:
    return f"{SHARDS}/{shard_id}{_ROWS}"


def _part_name(shard_id: str, analysis: str) -> str:
    return f"{SHARDS}/{shard_id}.{analysis}{_PART}"


def _parquet_bytes(table: pa.Table, compression: Literal["snappy", "zstd"]) -> bytes:
    """Serialise with fixed settings and in one chunk, so that the bytes depend only on the rows."""
    sink = pa.BufferOutputStream()
    whole = table.replace_schema_metadata(None).combine_chunks()
    pq.write_table(
        whole, sink, version="2.6", compression=compression, row_group_size=ROW_GROUP, write_page_checksum=True
    )
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _read_parquet(data: bytes, place: Place, columns: Sequence[str] | None = None) -> pa.Table:
    """Read one file; ``place`` is for messages.

    Checksums are verified if the file has them, because the format itself does not detect a flipped bit in a value.

    Raises:
        UnreadableRunError: If it claims more than ``MAX_ROWS`` rows.
    """
    with pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True) as file:
        if file.metadata.num_rows > MAX_ROWS:
            raise UnreadableRunError(f"{place}: expected at most {MAX_ROWS:,} rows, found {file.metadata.num_rows:,}")
        return file.read(columns, use_threads=file.metadata.num_rows > ROW_GROUP)  # threads slow down a small shard


def decisive(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a config, as plain data, that determines the results."""
    kept = {name: value for name, value in config.items() if name not in CHANGES_NO_RESULT}
    if isinstance(model := kept.get("model"), Mapping):
        kept["model"] = {name: value for name, value in model.items() if name not in MODEL_CHANGES_NO_RESULT}
    return kept


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
