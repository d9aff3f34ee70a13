"""Keeps a protocol in the run that it was registered for, and adds every departure from it to the result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from audit.evidence.departures import Made, departures
from audit.evidence.protocol import Protocol, ProtocolError
from audit.records.result import AuditResult
from audit.storage.run_directory import MODEL_FINGERPRINT, PROTOCOL, PROVENANCE, RunDirectory

KEPT = "protocol-kept.json"
"""When the protocol came into the run, and how much of the run there was."""

KEY = "protocol"
"""Key of the provenance in a result with the protocol and the departures from it."""


@dataclass(frozen=True)
class Kept:
    """The state of a run when it got its protocol.

    Attributes:
        at: The time, ISO 8601 in UTC.
        shards: Shards that were finished.
        files: Key of the config → sha256 of the file that it named.
    """

    at: str
    shards: int
    files: dict[str, str]


def keep_protocol(run: RunDirectory, data: bytes, files: Mapping[str, str]) -> None:
    """Copy a protocol into a run; a run that has this protocol stays as it is.

    Args:
        run: The run, before or after its first shard.
        data: Content of the protocol's file.
        files: See :class:`Kept`.

    Raises:
        ProtocolError: If the run has another protocol already.
    """
    given = Protocol.of_bytes(data, "the protocol")
    if run.has(PROTOCOL):
        old = Protocol.of_bytes(run.read_bytes(PROTOCOL), str(run.file(PROTOCOL)))
        if old.sha256 != given.sha256:
            raise ProtocolError(
                f"{run.path}: expected the protocol of {old.registered}, which this run has kept, found one of "
                f"{given.registered}; name the old one with --protocol, or begin another run with --run-id"
            )
        return
    kept = Kept(datetime.now(UTC).isoformat(timespec="seconds"), len(run.finished()), dict(files))
    run.write_json(KEPT, asdict(kept))
    run.write_bytes(PROTOCOL, data)


def with_adherence(run: RunDirectory, result: AuditResult) -> AuditResult:
    """Return a result whose provenance has the run's protocol and the departures from it, if there is a protocol.

    Raises:
        ProtocolError: If the run's protocol was changed.
    """
    if not run.has(PROTOCOL):
        return result
    protocol = Protocol.of_bytes(run.read_bytes(PROTOCOL), str(run.file(PROTOCOL)))
    kept = Kept(**run.read_json(KEPT))
    provenance = run.read_json(PROVENANCE)
    made = Made(
        begun=str(provenance.get("created", "")),
        kept_at=kept.at,
        finished_before=kept.shards,
        fingerprint=provenance.get(MODEL_FINGERPRINT),
        version=str((provenance.get("versions") or {}).get("difflens-audit", "")),
        files=kept.files,
    )
    found: dict[str, Any] = {
        "registered": protocol.registered,
        "sha256": protocol.sha256,
        "weights_known": protocol.model_fingerprint is not None,
        "departures": [asdict(departure) for departure in departures(protocol, made, result)],
    }
    return replace(result, provenance={**result.provenance, KEY: found})
