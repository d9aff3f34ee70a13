"""Which items of an audit MLflow has accepted and which remain: ``outbox.json`` in the run directory.

It is written before the first request and after every item that the store accepts. After an outage, a kill or a
deadline, the next attempt sends the remaining items, and repeats an accepted item only if it changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from audit.config.sections import RegisteredModelConfig
from audit.records.result import AuditResult
from audit.storage.run_directory import (
    AUDIT,
    JUNIT,
    MODEL_CARD,
    MODEL_FINGERPRINT,
    OUTBOX,
    REPORT,
    RESULTS,
    SUMMARY,
    TABLE,
    RunDirectory,
    decisive,
)

REQUIRED = (AUDIT, RESULTS, REPORT)
"""Files of a finished audit; without them there is nothing to send."""

FILES = (*REQUIRED, TABLE, SUMMARY, JUNIT, MODEL_CARD)

RUN = "run"
ARM = "arm/"
FILE = "file/"
STATUS = "status"
REGISTERED_MODEL = "registered_model"
"""Items of an outbox: the parent run, a child run per arm, an artifact per file, the runs' status, the registry."""


@dataclass(frozen=True)
class TrackedRun:
    """Address of an audit in MLflow.

    Attributes:
        uri: Tracking address, without secrets.
        experiment_id: Experiment.
        run_id: Parent run.
        child_run_ids: Arm to child run.
        model_id: Logged model that represents the audited weights.
    """

    uri: str
    experiment_id: str
    run_id: str
    child_run_ids: Mapping[str, str]
    model_id: str

    @property
    def url(self) -> str:
        """A link to a server's page, or the store and the run id if no server shows it."""
        if self.uri.startswith("http"):
            return f"{self.uri.rstrip('/')}/#/experiments/{self.experiment_id}/runs/{self.run_id}"
        return f"{self.uri}#{self.run_id}"


@dataclass(frozen=True)
class Outbox:
    """Items to send to MLflow, and items that it has accepted.

    Attributes:
        audit_id: Identifies the audit's runs in MLflow, whichever process created them.
        uri: Tracking address, without secrets.
        experiment: MLflow experiment.
        items: Item → digest of its current content, in the order of sending.
        told: Item → digest of the content that the store accepted.
        tracked: Address of the audit in MLflow, None if it is not known yet.
        problem: Why the last attempt failed; empty if it succeeded.
        note: Result for the alias of a registered model; empty if none is configured.
    """

    audit_id: str
    uri: str
    experiment: str
    items: Mapping[str, str]
    told: Mapping[str, str] = field(default_factory=dict)
    tracked: TrackedRun | None = None
    problem: str = ""
    note: str = ""

    @property
    def left(self) -> tuple[str, ...]:
        """Items that the store has not accepted in their current form."""
        return tuple(item for item, digest in self.items.items() if self.told.get(item) != digest)

    def taken(self, item: str) -> Outbox:
        """Return the outbox after the store accepted one item."""
        return replace(self, told={**self.told, item: self.items[item]})

    def at(self, tracked: TrackedRun) -> Outbox:
        """Return the outbox of an audit that was found at ``tracked``; at a new address no item counts as accepted."""
        return self if tracked == self.tracked else replace(self, tracked=tracked, told={})

    def write(self, run: RunDirectory) -> Outbox:
        """Write the outbox atomically, and return it."""
        run.write_json(OUTBOX, {**asdict(self), "left": list(self.left)})
        return self


def filled_outbox(
    run: RunDirectory, result: AuditResult, uri: str, experiment: str, registered: RegisteredModelConfig | None = None
) -> Outbox:
    """Return the current outbox of a finished run; items that the same store accepted before stay accepted.

    Args:
        run: The run directory.
        result: The content of its ``audit.json``.
        uri: Tracking address, without secrets.
        experiment: MLflow experiment.
        registered: The registered model version to tag.

    Raises:
        FileNotFoundError: The directory lacks ``audit.json``, ``results.parquet`` or ``report.html``.
    """
    missing = [name for name in REQUIRED if not run.has(name)]
    if missing:
        raise FileNotFoundError(
            f"expected {', '.join(missing)} in {run.path}, found none; finish the audit and its report first"
        )
    files = {name: _digest(run.read_bytes(name)) for name in FILES if run.has(name)}
    fresh = Outbox(audit_id(result), uri, experiment, _items(files, _arms(result), registered))
    old = read_outbox(run)
    if old is None or (old.audit_id, old.uri, old.experiment) != (fresh.audit_id, uri, experiment):
        return fresh
    return replace(fresh, told=old.told, tracked=old.tracked, note=old.note)


def read_outbox(run: RunDirectory) -> Outbox | None:
    """Return a run's outbox; None if it is missing or unreadable, and then all items are sent again."""
    try:
        data: dict[str, Any] = run.read_json(OUTBOX)
        data.pop("left")
        tracked = data.pop("tracked")
        return Outbox(tracked=TrackedRun(**tracked) if tracked else None, **data)
    except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
        return None


def audit_id(result: AuditResult) -> str:
    """Return the identifier of an audit in a store, made from its run, weights, decisive config and start time.

    A resumed run directory keeps its provenance and therefore its identifier. A new run of the same name and config is
    another audit, for example the next one of a weekly schedule.
    """
    started = [result.provenance.get(key) for key in (MODEL_FINGERPRINT, "created")]
    text = json.dumps([result.run_id, decisive(result.config), started], sort_keys=True)
    return f"{result.run_id}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _items(files: Mapping[str, str], arms: tuple[str, ...], registered: RegisteredModelConfig | None) -> dict[str, str]:
    whole = files[AUDIT]
    items = {RUN: whole, **{ARM + arm: whole for arm in arms}}
    items |= {FILE + name: digest for name, digest in files.items()}
    items[STATUS] = whole
    if registered:
        items[REGISTERED_MODEL] = _digest(f"{whole} {registered.model_dump_json()}".encode())
    return items


def _arms(result: AuditResult) -> tuple[str, ...]:
    return tuple(dict.fromkeys(row.arm for row in result.results))


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
