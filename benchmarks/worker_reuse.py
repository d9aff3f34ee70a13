"""The time of two steps of one command, with workers that are used again and with new ones.

    python -m benchmarks.worker_reuse

Each step loads the bundled calibration model and judge in one worker and samples four images, as the steps of
``explore``, of a lens and of a fit do. The second step is timed: with the process of the first one, and after that
process was stopped. Both are measured in turns, and the ratio is the median over the turns.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from statistics import median

from audit.config.sections import ModelConfig, SamplingConfig, WorkersConfig
from ray_jobs.cluster.connection import connect
from ray_jobs.cluster.idle_actors import IDLE
from ray_jobs.run.parts import WorkerPool, results_of


@dataclass(frozen=True)
class Step:
    """A task."""

    id: str


class Sampler:
    """Loads the model as a worker does; the settings are the steps of the sampler."""

    def __init__(self, steps: int) -> None:
        from audit.models.generator import load_generator

        self._generator = load_generator(ModelConfig(), SamplingConfig(steps=steps))

    def do(self, task: Step) -> int:
        """Sample four images, and return how many there are."""
        from audit.records.work import Prompt

        return len(self._generator.generate(Prompt(task.id, "a face photo of a doctor", "doctor"), [0, 1, 2, 3]))


def main() -> None:
    """Print the seconds of both kinds of steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5)
    turns = parser.parse_args().turns
    workers = WorkersConfig(count=1)
    with connect(None, workers) as cluster:
        pool = WorkerPool(workers, cluster)
        new, used = [], []
        for _ in range(turns):
            IDLE.stop()
            new.append(_seconds(pool))
            used.append(_seconds(pool))
    ratios = [one / other for one, other in zip(used, new, strict=True)]
    print(f"new process: {median(new):.1f} s, used again: {median(used):.1f} s (medians of {turns} turns)")
    print(f"ratio: {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


def _seconds(pool: WorkerPool) -> float:
    started = time.perf_counter()
    for _ in results_of(Sampler, 25, [Step("sample")], pool):
        pass
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
