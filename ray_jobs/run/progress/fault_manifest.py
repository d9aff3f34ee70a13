"""The manifest of failures: every fault of a run, including those without a lasting effect."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from audit.records.work import Shard, ShardReceipt, Status
from audit.storage.run_directory import FAILURES, PROGRESS, RunDirectory
from ray_jobs.pool.actor_pool import Fault
from ray_jobs.pool.faults import FaultKind
from ray_jobs.run.progress.display import DRIVER

LOG = logging.getLogger(__name__)

SCHEMA_VERSION = 1

Consequence = Literal["tried_again", "given_up", "survived"]


@dataclass(frozen=True)
class Failure:
    """One entry of ``failures.json``.

    Attributes:
        shard: The shard concerned, None for a worker that did not start and for a driver.
        attempt: Which try of the shard, or which start of the worker, from 1.
        kind: One of ``FaultKind``.
        message: What happened, in words.
        node: Where, as ``<address> <node id>``; empty where that is not known.
        time: When the driver noticed, UTC in ISO 8601.
        consequence: ``tried_again``; ``given_up``, which leaves the shard unfinished or the worker unreplaced; or
            ``survived``, where the shard was finished all the same.
    """

    shard: str | None
    attempt: int
    kind: str
    message: str
    node: str
    time: str
    consequence: Consequence


class Manifest:
    """Collects failures and keeps ``failures.json`` current; only the driver writes it, and it continues an older one.

    Args:
        run: The run directory.
    """

    def __init__(self, run: RunDirectory) -> None:
        """Read the failures of earlier attempts."""
        self._run = run
        known = run.read_json(FAILURES)["failures"] if run.has(FAILURES) else []
        self._entries: list[Mapping[str, Any]] = list(known)

    def fault(self, fault: Fault[Shard]) -> None:
        """Add a fault of the pool."""
        shard = None if fault.task is None else fault.task.id
        self._add(shard, fault.attempt, fault.kind, fault.reason, fault.node, _consequence(fault.given_up))

    def receipt(self, receipt: ShardReceipt, attempt: int) -> None:
        """Add the faults of a finished shard: batches that did not fit, images that could not be made."""
        for batch in receipt.too_large:
            message = f"no memory for a batch of {batch}; this worker continues with batches of {(batch + 1) // 2}"
            self._add(receipt.shard_id, attempt, FaultKind.SMALLER_BATCH, message, receipt.node, "survived")
        unmade = receipt.statuses.get(Status.FAILED, 0)
        if unmade:
            message = f"{unmade} of {receipt.images} images count as failed: not received, or one single value"
            self._add(receipt.shard_id, attempt, FaultKind.NO_IMAGE, message, receipt.node, "survived")

    def corrupt_shard(self, shard_id: str, message: str) -> None:
        """Add a finished shard whose file cannot be read; it is made again."""
        self._add(shard_id, 1, FaultKind.CORRUPT_SHARD, message, "", "tried_again")

    def lost_driver(self) -> None:
        """Add the driver of an earlier attempt, if ``progress.json`` still says that it runs."""
        if not self._run.has(PROGRESS):
            return
        last = self._run.read_json(PROGRESS)
        if last.get("state") != "running" or last.get("driver") == DRIVER:  # our own, between two stages
            return
        attempt = 1 + sum(entry["kind"] == FaultKind.LOST_DRIVER for entry in self._entries)
        message = (
            f"an earlier attempt did not finish, {last.get('done', '?')} of {last.get('total', '?')} shards done "
            f"at {last.get('updated', 'an unknown time')}"
        )
        self._add(None, attempt, FaultKind.LOST_DRIVER, message, last.get("host", ""), "tried_again")

    def _add(
        self, shard: str | None, attempt: int, kind: FaultKind, message: str, node: str, consequence: Consequence
    ) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        failure = Failure(shard, attempt, kind.value, message, node, now, consequence)
        self._entries.append(asdict(failure))
        told = {"shard": shard, "attempt": attempt, "kind": kind.value, "node": node}
        LOG.warning("%s, attempt %d: %s, %s: %s", shard or "no shard", attempt, kind, consequence, message, extra=told)
        try:
            self._run.write_json(FAILURES, {"schema_version": SCHEMA_VERSION, "failures": self._entries})
        except OSError as error:
            LOG.warning("%s could not be written and is kept in memory: %s", FAILURES, error)


def _consequence(given_up: bool) -> Consequence:
    return "given_up" if given_up else "tried_again"
