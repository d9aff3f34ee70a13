"""Loads a finished run for comparison: its inputs and the result of every image.

Everything is read as plain data. Fields that a file of an older release does not have are listed in ``missing``. Only
fields that are required for any comparison cause an error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from audit.measure.discrepancy.fairness import hard_labels
from audit.planning.targets import Targets
from audit.records.attributes import Attribute
from audit.records.result import COUNTED_SINCE
from audit.records.work import Status
from audit.storage.rows import outside_column, probability_column
from audit.storage.run_directory import (
    AUDIT,
    MODEL_FINGERPRINT,
    RESULTS,
    RunDirectory,
    UnreadableRunError,
    decisive,
)

_AGAIN = "run the audit again to write it"

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

INPUTS = (
    MODEL_FINGERPRINT, "instruments", "versions", "git_revision", "unfinished_shards", "python", "devices", "platform",
    "cpu",
)  # fmt: skip
"""Inputs of a run in the provenance, the most important first; the time of a run is not an input."""

TELLING = (MODEL_FINGERPRINT, "instruments", "versions")
"""Inputs that are required to decide whether two runs are equal."""

DISCREPANCY = "fairness_discrepancy"
"""The measure that gates of older releases computed from mean probabilities."""

_KEYS = {
    "arm": pa.string(), "prompt_id": pa.string(), "index": pa.int64(), "seed": pa.int64(), "status": pa.string(),
}  # fmt: skip
KEY_COLUMNS = tuple(_KEYS)

ASSIGNED = "assigned"
"""The column with the group that each image was steered to; older releases did not write it."""


@dataclass(frozen=True)
class PromptImages:
    """The images of one prompt in one arm, by index.

    Attributes:
        indices: Image indices, ascending, shape (n,).
        seeds: The seeds of the images, shape (n,).
        classified: Whether the judge could classify the image, shape (n,).
        assigned: The group that each image was steered to, shape (n,); None if the arm does not steer images, or if
            the release of the file did not record it.
        columns: Name of the probability column → values of shape (n,), NaN if nothing was perceived.
        outside: Attribute → whether the image is outside its audited groups, shape (n,).
    """

    indices: Ints
    seeds: Ints
    classified: NDArray[np.bool_]
    columns: Mapping[str, Floats]
    assigned: NDArray[np.str_] | None = None
    outside: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)

    def where(self, keep: NDArray[Any]) -> PromptImages:
        """Return the images selected by ``keep``, a mask or indices."""
        columns = {name: values[keep] for name, values in self.columns.items()}
        assigned = None if self.assigned is None else self.assigned[keep]
        outside = {name: values[keep] for name, values in self.outside.items()}
        return PromptImages(self.indices[keep], self.seeds[keep], self.classified[keep], columns, assigned, outside)

    def known(self, attribute: Attribute) -> NDArray[np.bool_]:
        """Return which images have one of the attribute's groups, shape (n,)."""
        outside = self.outside.get(attribute.name)
        return self.classified if outside is None else self.classified & ~outside

    def complete(self, attributes: Sequence[Attribute]) -> NDArray[np.bool_]:
        """Return which images have a group of each of these attributes, shape (n,)."""
        known = (self.known(attribute) for attribute in attributes)
        complete: NDArray[np.bool_] = np.logical_and.reduce([self.classified, *known])
        return complete

    def labels(self, attribute: Attribute) -> Floats:
        """Return the most probable groups as one-hot rows, shape (n, groups), in the order of ``attribute.groups``."""
        names = (probability_column(attribute.name, group) for group in attribute.groups)
        return hard_labels(np.stack([self.columns[name] for name in names], axis=1))


@dataclass(frozen=True)
class FinishedRun:
    """One side of a comparison.

    Attributes:
        run_id: Name of the run.
        schema_version: Version of its ``audit.json``, None if it has none.
        config: The part of the config that can change a result.
        inputs: Other inputs of the result: weights, instruments, lens, versions; see ``INPUTS``.
        attributes: Attributes in the config's order.
        verdicts: ``gate.arm.attribute.prompt``, without the parts that a gate does not have, → verdict.
        bases: Gate → what its figure is computed from; gates without a figure are left out.
        targets: Prompt id → attribute → distribution that counted as fair, in the order of the groups. If the file has
            none, the target is uniform, as it was for every audit of that release.
        images: (arm, prompt id) → its images, in the order of the results.
        missing: Dotted names of the fields that ``audit.json`` does not have.
    """

    run_id: str
    schema_version: int | None
    config: dict[str, Any]
    inputs: dict[str, Any]
    attributes: tuple[Attribute, ...]
    verdicts: dict[str, str]
    bases: dict[str, str]
    targets: Targets
    images: dict[tuple[str, str], PromptImages]
    missing: tuple[str, ...]


def read_finished_run(run: RunDirectory) -> FinishedRun:
    """Read the result in a run directory.

    Raises:
        UnreadableRunError: If there is no result, or the result has no attributes or no images.
    """
    data = _read_audit(run)
    config, provenance = _section(data, "config"), _section(data, "provenance")
    attributes = _attributes(run, config)
    found = {name: provenance.get(name) for name in INPUTS}
    found["lens"] = _section(data, "lens").get("name")
    absent = [name for name in ("schema_version", "run_id", "provenance") if data.get(name) is None]
    absent += [f"provenance.{name}" for name in TELLING if provenance.get(name) is None]
    version, verdicts = data.get("schema_version"), _verdicts(data.get("verdicts") or [])
    old = not isinstance(version, int) or version < COUNTED_SINCE
    return FinishedRun(
        run_id=str(data.get("run_id") or run.path.name),
        schema_version=version if isinstance(version, int) else None,
        config=decisive(config),
        inputs=found,
        attributes=attributes,
        verdicts={name: str(row["verdict"]) for name, row in verdicts.items()},
        bases={name: _basis(row, old) for name, row in verdicts.items() if row.get("value") is not None},
        targets=_targets(data.get("results") or [], attributes),
        images=_images(run, attributes),
        missing=tuple(absent),
    )


def _basis(row: Mapping[str, Any], old: bool) -> str:
    """Return what the figure of a gate is computed from; older releases used mean probabilities for a distance."""
    if old and row.get("measure") == DISCREPANCY:
        return "mean probabilities"
    return "shares corrected for the judge's errors" if row.get("corrected") else "perceived shares"


def _read_audit(run: RunDirectory) -> dict[str, Any]:
    missing = [name for name in (AUDIT, RESULTS) if not run.has(name)]
    if missing:
        raise UnreadableRunError(
            f"{run.path}: expected a finished run, found no {' and no '.join(missing)}; finish the audit first"
        )
    try:
        return run.read_json(AUDIT)
    except ValueError as error:
        raise UnreadableRunError(str(error)) from error


def _section(data: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = data.get(name) or {}
    if not isinstance(found, dict):
        raise UnreadableRunError(f"{AUDIT}: expected names and values under {name}, found {found!r:.60}; {_AGAIN}")
    return found


def _attributes(run: RunDirectory, config: Mapping[str, Any]) -> tuple[Attribute, ...]:
    named = _section(config, "attributes")
    if not named:
        raise UnreadableRunError(
            f"{run.file(AUDIT)}: expected config.attributes with the groups of each attribute, found none; use the "
            "release that made the run to compare it"
        )
    if not all(map(_are_groups, named.values())):
        raise UnreadableRunError(
            f"{run.file(AUDIT)}: expected a list of groups for each attribute, each once, found {named!r:.60}; {_AGAIN}"
        )
    return tuple(Attribute(name, tuple(groups)) for name, groups in named.items())


def _are_groups(value: object) -> bool:
    if not isinstance(value, list) or not all(isinstance(group, str) for group in value):
        return False
    return len(set(value)) == len(value)


def _verdicts(rows: Any) -> dict[str, dict[str, Any]]:  # noqa: ANN401 - a file can contain any value
    """Name each verdict's row by its gate, arm, attribute and prompt, without the parts that it does not have."""
    keys = ("gate", "arm", "attribute", "prompt_id")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UnreadableRunError(f"{AUDIT}: expected a list of verdicts, found {rows!r:.60}; {_AGAIN}")
    complete = [row for row in rows if row.get("gate") and row.get("verdict")]
    return {".".join(str(row[key]) for key in keys if row.get(key)): row for row in complete}


def _targets(rows: Any, attributes: tuple[Attribute, ...]) -> Targets:  # noqa: ANN401 - a file can contain any value
    groups = {attribute.name: attribute.groups for attribute in attributes}
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UnreadableRunError(f"{AUDIT}: expected a list of results, found {rows!r:.60}; {_AGAIN}")
    targets: dict[str, dict[str, tuple[float, ...]]] = {}
    for row in rows:
        target, attribute = row.get("target"), str(row.get("attribute"))
        if target and attribute in groups:
            if not isinstance(target, dict) or not all(type(target.get(g)) in (int, float) for g in groups[attribute]):
                raise UnreadableRunError(
                    f"{AUDIT}: expected a target share for each group, found {target!r:.60}; {_AGAIN}"
                )
            shares = tuple(float(target[group]) for group in groups[attribute])
            targets.setdefault(str(row.get("prompt_id")), {})[attribute] = shares
    return targets


def _images(run: RunDirectory, attributes: tuple[Attribute, ...]) -> dict[tuple[str, str], PromptImages]:
    names = [probability_column(attribute.name, group) for attribute in attributes for group in attribute.groups]
    table = _read_results(run, names)
    keys = list(zip(table["arm"].to_pylist(), table["prompt_id"].to_pylist(), strict=True))
    places: dict[tuple[str, str], list[int]] = {}
    for place, key in enumerate(keys):
        places.setdefault(key, []).append(place)
    whole = PromptImages(
        indices=_array(table["index"]),
        seeds=_array(table["seed"]),
        classified=np.array(table["status"].to_pylist()) == Status.CLASSIFIED,
        columns={name: _array(table[name]) for name in names},
        outside=_outside(run, attributes),
    )
    assigned = _assigned(run)
    return {key: _of_key(whole, assigned, _by_index(whole, np.array(own))) for key, own in places.items()}


def _outside(run: RunDirectory, attributes: Sequence[Attribute]) -> dict[str, NDArray[np.bool_]]:
    """Return which images are outside the groups of each attribute; older files do not have these columns."""
    table = run.read_results([outside_column(attribute.name) for attribute in attributes])
    known = [a.name for a in attributes if outside_column(a.name) in table.column_names]
    return {name: np.array([flag is True for flag in table[outside_column(name)].to_pylist()]) for name in known}


def _assigned(run: RunDirectory) -> NDArray[np.object_] | None:
    """Return the group that each image was steered to, or None for an image; None if the file has no such column."""
    table = run.read_results([ASSIGNED])
    return np.array(table[ASSIGNED].to_pylist(), dtype=object) if ASSIGNED in table.column_names else None


def _of_key(whole: PromptImages, assigned: NDArray[np.object_] | None, places: Ints) -> PromptImages:
    """Return the images at these indices; ``assigned`` is set only if all of them were steered."""
    own = whole.where(places)
    names = None if assigned is None else assigned[places]
    steered = names is not None and all(isinstance(name, str) for name in names)
    return replace(own, assigned=np.array(names, dtype=np.str_)) if steered else own


def _read_results(run: RunDirectory, names: Sequence[str]) -> pa.Table:
    """Return only the key columns and those of ``names``, each with the type that an audit writes."""
    wanted = pa.schema(
        [
            *(pa.field(name, _KEYS[name], nullable=False) for name in KEY_COLUMNS),
            *(pa.field(n, pa.float64()) for n in names),
        ]
    )
    table = run.read_results(list(dict.fromkeys(wanted.names)))
    absent = [name for name in wanted.names if table.column_names.count(name) != 1]
    nulls = [name for name in KEY_COLUMNS if not absent and table[name].null_count]
    if absent or nulls or not table.num_rows:
        found = f"no {', '.join(absent)}" if absent else f"rows without {', '.join(nulls)}" if nulls else "no rows"
        raise UnreadableRunError(f"{run.file(RESULTS)}: expected a row per image, found {found}; run the audit again")
    try:
        return table.select(wanted.names).cast(wanted)
    except (pa.ArrowException, ValueError) as error:
        raise UnreadableRunError(
            f"{run.file(RESULTS)}: expected the columns of an audit, found other types ({error}); run the audit again"
        ) from error


def _array(column: pa.ChunkedArray) -> NDArray[Any]:
    """Return a column as an array, floats with NaN for null."""
    values: NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return values


def _by_index(images: PromptImages, places: Ints) -> Ints:
    return places[np.argsort(images.indices[places], kind="stable")]
