"""Time that the workers of a run needed for its images, over all attempts: ``times.json``."""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Self

from audit.records.work import ShardReceipt
from audit.storage.run_directory import TIMES, RunDirectory

LOG = logging.getLogger(__name__)


class WorkTimes:
    """Adds the times of the shards that one attempt makes to those of earlier attempts.

    The file is written when the block ends, whether the attempt ended well or not. A shard that an earlier attempt
    finished has no receipt in this one and is not counted twice.

    Args:
        run: The run directory.
    """

    def __init__(self, run: RunDirectory) -> None:
        """Start at zero."""
        self._run, self._images, self._seconds = run, 0, 0.0

    def add(self, receipt: ShardReceipt) -> None:
        """Count a finished shard: images over all arms, and the wall time of its worker."""
        self._images += receipt.images
        self._seconds += receipt.seconds

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write the sums; an attempt that made no image changes nothing."""
        if not self._images:
            return
        try:
            before = self._run.read_json(TIMES) if self._run.has(TIMES) else {}
            images = self._images + int(before.get("images", 0))
            seconds = self._seconds + float(before.get("seconds", 0.0))
            self._run.write_json(TIMES, {"images": images, "seconds": round(seconds, 3)})
        except (OSError, ValueError, TypeError) as problem:  # a lost time must not stop an audit
            LOG.warning("%s could not be written: %s", TIMES, problem)
