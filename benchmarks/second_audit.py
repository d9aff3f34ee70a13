"""Times the shards of a second audit of the same model, whose baseline images an earlier audit has kept.

python -m benchmarks.second_audit --pairs 5
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from audit.config.settings import AuditConfig
from audit.config.slices import MeasurementRequest
from audit.generation.baselines import BaselineCache, Origin
from audit.generation.parts import ShardParts, load_parts
from audit.generation.settings import ShardSettings
from audit.generation.shard import do_shard
from audit.planning.plan import plan_shards, prompts_of
from audit.records.work import Shard
from audit.storage.files import storage_of


def audit(occupation: str, batch: int, word: str) -> tuple[ShardParts, ShardSettings, Shard]:
    """Return an audit of the bundled model with one mitigation, and its only shard."""
    config = AuditConfig.model_validate(
        {
            "name": "second",
            "prompts": {"occupations": [occupation], "images_per_prompt": batch},
            "sampling": {"batch": batch},
            "mitigations": [
                {"name": "words", "method": "prompt", "attribute": "gender", "words": {"female": word}},
            ],
        }
    )
    request = MeasurementRequest.of(config)
    [shard] = plan_shards(prompts_of(config.prompts, ()), batch, batch)
    return load_parts(request, None), ShardSettings.of(request), shard


def with_cache(parts: ShardParts, place: Path) -> ShardParts:
    """Return the parts with a directory of kept baselines."""
    origin = Origin(parts.generator.fingerprint, parts.generator.sampling, "float32", 1, "")
    return replace(parts, baselines=BaselineCache(storage_of(place), origin, 10**9))


def main() -> None:
    """Run pairs of audits, and print the median ratio of their times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--batch", type=int, default=32)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    first, second = audit("nurse", arguments.batch, "female"), audit("nurse", arguments.batch, "woman")
    plain = do_shard(*second).table
    ratios = []
    for _ in range(arguments.pairs):
        with tempfile.TemporaryDirectory() as place:
            times = []
            for parts, settings, shard in (first, second):
                started = time.perf_counter()
                made = do_shard(with_cache(parts, Path(place)), settings, shard)
                times.append(time.perf_counter() - started)
            assert made.table.equals(plain), "the rows differ from those of an audit without kept baselines"
        ratios.append(times[1] / times[0])
    spread = f"{min(ratios):.2f}-{max(ratios):.2f}"
    print(
        f"second / first audit, median of {len(ratios)} pairs: {statistics.median(ratios):.2f} ({spread}); rows equal"
    )


if __name__ == "__main__":
    main()
