"""The rows of one arm as arrays: the perceived groups and scores of each image, by prompt.

Legend: n images of the arm over all its prompts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from audit.measure.discrepancy.fairness import hard_labels
from audit.records.attributes import Attribute
from audit.records.work import Status
from audit.storage.rows import (
    ASSIGNED,
    FACES,
    PAIRED,
    assigned_column,
    clip_d_columns,
    outside_column,
    probability_column,
)

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

SCORES = ("clip_i", "clip_t", "p_prompt_shown", *PAIRED)


@dataclass(frozen=True)
class ArmRows:
    """The columns of one arm, its prompts one after the other in plan order.

    Attributes:
        arm: Name of the arm.
        statuses: ``Status`` of the images, independent of the attribute, shape (n,).
        probabilities: Attribute → the judge's probabilities, shape (n, groups), NaN if it perceived none of the groups.
        prompts: Prompt id → its rows.
        scores: Column name → values of shape (n,), NaN where null.
        assigned: The group that each image is steered to, or one of each steered attribute, shape (n,); None if the arm
            does not steer images.
        steered: Steered attribute → the group that each image is steered to, shape (n,); empty in older runs.
        outside: Attribute → which images are outside its audited groups, shape (n,); a missing entry means none.
    """

    arm: str
    statuses: NDArray[np.str_]
    probabilities: dict[str, Floats]
    prompts: dict[str, slice]
    scores: dict[str, Floats]
    assigned: NDArray[np.str_] | None = None
    steered: Mapping[str, NDArray[np.str_]] = field(default_factory=dict)
    outside: Mapping[str, Bools] = field(default_factory=dict)

    def classified(self, attribute: str, prompt_id: str | None = None) -> Floats:
        """Return the probabilities of the classified images of a prompt, or of all, shape (n, groups)."""
        known = self.known(attribute, prompt_id)
        return np.compress(known, self.probabilities[attribute][self._rows(prompt_id)], axis=0)

    def labels(self, attribute: str, prompt_id: str | None = None) -> Floats:
        """Return the most probable groups of the same images as one-hot rows, shape (n, groups)."""
        return hard_labels(self.classified(attribute, prompt_id))

    def counts(self, attribute: str, prompt_id: str | None = None) -> dict[str, int]:
        """Return the images of a prompt, or of all, by their status for an attribute."""
        statuses = self.statuses_of(attribute)[self._rows(prompt_id)]
        return {status.value: int((statuses == status).sum()) for status in Status}

    def statuses_of(self, attribute: str) -> NDArray[np.str_]:
        """Return the status of each image for an attribute, shape (n,)."""
        if attribute not in self.outside:
            return self.statuses
        outside = self.outside[attribute] & (self.statuses == Status.CLASSIFIED)
        return np.where(outside, Status.OUTSIDE_GROUPS.value, self.statuses)

    def known(self, attribute: str, prompt_id: str | None = None) -> Bools:
        """Return which images of a prompt, or of all prompts, have one of the attribute's groups, shape (m,)."""
        known: Bools = self.statuses_of(attribute)[self._rows(prompt_id)] == Status.CLASSIFIED
        return known

    def complete(self, prompt_id: str | None = None) -> Bools:
        """Return which images of a prompt, or of all prompts, have a group of every attribute, shape (m,)."""
        complete: Bools = np.logical_and.reduce([self.known(attribute, prompt_id) for attribute in self.probabilities])
        return complete

    def codes(self, attribute: str) -> NDArray[np.int64]:
        """Return the index of each image's group in the attribute's groups, −1 if it has none of them, shape (n,)."""
        codes = np.full(len(self.statuses), -1)
        known = self.known(attribute)
        codes[known] = self.probabilities[attribute][known].argmax(axis=1)
        return codes

    def prompt_numbers(self) -> NDArray[np.int64]:
        """Return the index of each image's prompt in the arm's prompts, shape (n,)."""
        return np.repeat(np.arange(len(self.prompts)), [rows.stop - rows.start for rows in self.prompts.values()])

    def stratum_codes(self) -> NDArray[np.int64] | None:
        """Return an index for the group that each image is steered to, shape (n,); None if no groups were assigned."""
        return None if self.assigned is None else np.unique(self.assigned, return_inverse=True)[1]

    def strata(self, attribute: str, prompt_id: str | None = None) -> list[str] | None:
        """Return the assigned group of each image that ``classified`` returns; None if no groups were assigned.

        For all prompts together, each prompt has separate strata.
        """
        if self.assigned is None:
            return None
        if prompt_id is not None:
            return [str(group) for group in self.assigned[self._rows(prompt_id)][self.known(attribute, prompt_id)]]
        return [f"{prompt} {group}" for prompt in self.prompts for group in self.strata(attribute, prompt) or ()]

    def _rows(self, prompt_id: str | None) -> slice:
        return slice(None) if prompt_id is None else self.prompts[prompt_id]


def arm_rows(table: pa.Table, arm: str, attributes: Sequence[Attribute], sizes: Mapping[str, int]) -> ArmRows:
    """Select the rows of one arm from a table that is sorted by arm, prompt and index.

    Args:
        table: All rows.
        arm: The arm.
        attributes: Attributes with their groups.
        sizes: Prompt id → images, in the order of the rows.

    Raises:
        ValueError: If a status is unknown, or an image with a group has no probabilities.
    """
    rows = table.filter(pc.equal(table["arm"], arm))
    statuses = np.array(rows["status"].to_pylist())
    of_images = set(Status) - {Status.OUTSIDE_GROUPS}
    unknown = set(statuses.tolist()) - of_images
    if unknown:
        raise ValueError(f"expected a status among {sorted(of_images)}, found {sorted(unknown)}; run the audit again")
    ends = np.cumsum(list(sizes.values())).tolist()
    found = ArmRows(
        arm=arm,
        statuses=statuses,
        probabilities={attribute.name: _probabilities(rows, attribute) for attribute in attributes},
        prompts={name: slice(end - size, end) for (name, size), end in zip(sizes.items(), ends, strict=True)},
        scores={name: _scores(rows, name) for name in (*SCORES, FACES, *clip_d_columns(attributes))},
        assigned=_groups(rows, ASSIGNED),
        steered={a.name: own for a in attributes if (own := _groups(rows, assigned_column(a.name))) is not None},
        outside={a.name: _flags(rows[outside_column(a.name)]) for a in attributes},
    )
    for name, values in found.probabilities.items():
        if np.isnan(values[found.known(name)]).any():
            raise ValueError(f"expected probabilities of {name} for every classified image, found an image without any")
    return found


def _probabilities(rows: pa.Table, attribute: Attribute) -> Floats:
    columns = [_floats(rows[probability_column(attribute.name, group)]) for group in attribute.groups]
    return np.stack(columns, axis=1)


def _groups(rows: pa.Table, name: str) -> NDArray[np.str_] | None:
    """Return a column of groups; None if an image has none, or a file of an older version lacks the column."""
    if name not in rows.schema.names or rows[name].null_count:
        return None
    return np.array(rows[name].to_pylist(), dtype=np.str_)


def _scores(rows: pa.Table, name: str) -> Floats:
    """Return a column of scores, NaN everywhere if a file of an older version lacks it."""
    return _floats(rows[name]) if name in rows.schema.names else np.full(rows.num_rows, np.nan)


def _flags(column: pa.ChunkedArray) -> Bools:
    """Return a boolean column with false for null."""
    flags: Bools = pc.fill_null(column, fill_value=False).to_numpy(zero_copy_only=False)
    return flags


def _floats(column: pa.ChunkedArray) -> Floats:
    """Return a float column with NaN for null."""
    values: Floats = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return values
