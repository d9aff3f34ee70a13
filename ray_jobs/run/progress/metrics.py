"""Metrics of a running audit for Prometheus, through Ray: their names, and the counters of worker and driver.

Ray exports them on every node beside its own, with ``ray_`` before the name; docs/grafana.json draws them.
"""

from __future__ import annotations

from collections.abc import Mapping

from ray.util.metrics import Counter, Gauge, Histogram

IMAGES = "difflens_images"
SHARD_SECONDS = "difflens_shard_seconds"
IDLE_SECONDS = "difflens_gpu_idle_seconds"
QUEUE_DEPTH = "difflens_queue_depth"
FAULTS = "difflens_faults"

SECONDS = [0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0]
"""Bounds of the histogram of shard times."""


class WorkerMetrics:
    """Metrics of a worker."""

    def __init__(self) -> None:
        """Register the metrics; the same name in several workers is one metric."""
        self._images = Counter(IMAGES, "Images made, by arm and status.", tag_keys=("arm", "status"))
        self._seconds = Histogram(SHARD_SECONDS, "Wall time of a shard in its worker.", boundaries=SECONDS)
        self._idle = Counter(IDLE_SECONDS, "Time that workers waited for a shard, with their GPU in hand.")

    def begun(self, idle_seconds: float) -> None:
        """Count the time since the last shard, or since the models were loaded."""
        self._idle.inc(max(idle_seconds, 1e-9))  # Ray refuses a zero

    def finished(self, seconds: float, images: Mapping[tuple[str, str], int]) -> None:
        """Count a shard with its images by arm and status."""
        self._seconds.observe(seconds)
        for (arm, status), count in images.items():
            self._images.inc(count, {"arm": arm, "status": status})


class DriverMetrics:
    """Metrics of the driver."""

    def __init__(self) -> None:
        """Register the metrics."""
        self._depth = Gauge(QUEUE_DEPTH, "Shards that are neither finished nor given up.")
        self._faults = Counter(FAULTS, "Faults, by kind.", tag_keys=("kind",))

    def waiting(self, shards: int) -> None:
        """Set the number of shards that are not finished."""
        self._depth.set(shards)

    def fault(self, kind: str) -> None:
        """Count a fault."""
        self._faults.inc(1, {"kind": kind})
