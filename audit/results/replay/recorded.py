"""Reads a finished run that is to be made again: config, provenance and rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from audit.config.fields import API
from audit.storage.run_directory import AUDIT, CONFIG, PROVENANCE, RESULTS, RunDirectory, UnreadableRunError

KEY = ("arm", "prompt_id", "index")
"""Columns that identify a row."""

_COLUMNS = {*KEY, "seed", "status"}


class NotReplayableError(ValueError):
    """The run cannot be made again, or its files are not those of a finished run."""


@dataclass(frozen=True)
class RecordedRun:
    """A finished run.

    Attributes:
        run_id: Its name.
        config: The config that its result was made with.
        stored: The config as it is stored now, from which the replay is made.
        provenance: What else decides its rows.
        rows: ``results.parquet``.
    """

    run_id: str
    config: Mapping[str, Any]
    stored: Mapping[str, Any]
    provenance: Mapping[str, Any]
    rows: pa.Table

    @property
    def attributes(self) -> dict[str, tuple[str, ...]]:
        """Attribute → groups."""
        return {name: tuple(groups) for name, groups in self.config["attributes"].items()}


def read_recorded(run: RunDirectory) -> RecordedRun:
    """Read a finished run.

    The config is that of ``audit.json``, with which the rows were made; ``config.json`` may have been edited since.

    Raises:
        NotReplayableError: If files are missing or damaged, shards are missing, or a hosted endpoint made the images.
        UnreadableRunError: If the rows cannot be read.
    """
    missing = [name for name in (CONFIG, PROVENANCE, AUDIT, RESULTS) if not run.has(name)]
    if missing:
        raise NotReplayableError(
            f"{run.path}: expected a finished run, found no {' and no '.join(missing)}; finish the audit first, or "
            "copy the whole directory"
        )
    result = _object(run, AUDIT)
    config, provenance = _section(run, result, "config"), _section(run, result, "provenance")
    _refuse(run, config, provenance)
    return RecordedRun(
        run_id=str(result.get("run_id") or run.path.name),
        config=config,
        stored=_object(run, CONFIG),
        provenance={**provenance, **_object(run, PROVENANCE)},
        rows=_rows(run),
    )


def _refuse(run: RunDirectory, config: Mapping[str, Any], provenance: Mapping[str, Any]) -> None:
    """Refuse a run that is not complete, or whose images cannot be made again.

    Raises:
        NotReplayableError: If it is one.
    """
    attributes = config.get("attributes")
    known = isinstance(attributes, dict) and all(isinstance(groups, list) for groups in attributes.values())
    if not known or not isinstance(config.get("model"), dict):
        raise NotReplayableError(
            f"{run.file(AUDIT)}: expected the groups of each attribute and the model under config, found "
            f"{sorted(config)!r:.80}; use the release that made the run to make it again"
        )
    if config["model"].get("source") == API:
        raise NotReplayableError(
            f"{run.path}: expected a model whose weights are known, found pictures of a hosted endpoint, which may "
            "answer with other weights; run the audit again and compare both runs: difflens-audit compare A B"
        )
    unfinished = provenance.get("unfinished_shards") or ()
    if unfinished:
        raise NotReplayableError(
            f"{run.path}: expected a finished run, found one without {len(unfinished)} of its shards "
            f"({', '.join(map(str, unfinished[:3]))} …); finish the audit first"
        )


def _rows(run: RunDirectory) -> pa.Table:
    table = run.read_results()
    absent = sorted(_COLUMNS - set(table.schema.names))
    if absent or not table.num_rows:
        found = f"no column {', '.join(absent)}" if absent else "none"
        raise UnreadableRunError(f"{run.file(RESULTS)}: expected a row per image, found {found}; run the audit again")
    keys = list(zip(*(table[name].to_pylist() for name in KEY), strict=True))
    if len(set(keys)) < len(keys):
        raise UnreadableRunError(
            f"{run.file(RESULTS)}: expected each image once, found {len(keys) - len(set(keys))} of {len(keys)} rows "
            "again; run the audit again"
        )
    return table


def _object(run: RunDirectory, name: str) -> dict[str, Any]:
    try:
        return run.read_json(name)
    except ValueError as error:
        raise NotReplayableError(str(error)) from error


def _section(run: RunDirectory, result: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = result.get(name)
    if not isinstance(found, dict):
        raise NotReplayableError(
            f"{run.file(AUDIT)}: expected names and values under {name}, found {found!r:.60}; run the audit again"
        )
    return found
