"""Compares a run with the planted shares: coverage of the intervals, and rank correlation of the skews.

``difflens-audit run configs/planted.yaml`` (or ``configs/rendered.yaml``), then ``python -m benchmarks.planted RUN``.
At guidance 1 the planted shares are the true shares of the training data; for the rendered model they are exact.
Another world is audited with ``--set model.world=DIRECTORY``.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path

from scipy.stats import spearmanr

from audit.calibration.bundle import world_table
from audit.calibration.world import World
from audit.config.sections import ModelConfig
from audit.measure.discrepancy.fairness import total_variation
from audit.measure.inference.intervals import wilson
from audit.records.estimates import percent
from audit.records.groups import GroupResult
from audit.records.work import BASELINE
from audit.storage.run_directory import RunDirectory
from reports.export.audit_json import read_audit_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="run directory of a calibration or rendered model")
    result = read_audit_json(RunDirectory(parser.parse_args().run))
    world = World.load(world_table(ModelConfig.model_validate(result.config["model"])))
    print(f"{result.run_id}: the planted shares of {world.name} and the baseline arm")
    for attribute in result.config["attributes"]:
        rows = [row for row in result.results if row.attribute == attribute and row.arm == BASELINE]
        print(f"{attribute:>10}: {_line(world, attribute, rows)}")


def _line(world: World, attribute: str, rows: Sequence[GroupResult]) -> str:
    """Shares covered, total variation, and the rank correlation of planted and found shares of the first group."""
    planted = [world.share(str(row.prompt_id), attribute) for row in rows]
    pairs = [
        (wilson(round(row.shares[group].value * row.n), row.n), truth)
        for row, shares in zip(rows, planted, strict=True)
        for group, truth in shares.items()
    ]
    covered = [found.low <= truth <= found.high for found, truth in pairs]
    gaps = [
        total_variation([row.shares[group].value for group in shares], list(shares.values()))
        for row, shares in zip(rows, planted, strict=True)
    ]
    first = next(iter(planted[0]))
    rank = spearmanr([shares[first] for shares in planted], [row.shares[first].value for row in rows]).statistic
    return (
        f"{percent(statistics.mean(covered), 1):>7} of {len(covered)} shares inside the interval; total variation, "
        f"mean over {len(gaps)} occupations {statistics.mean(gaps):.3f}, worst {max(gaps):.3f}; "
        f"Spearman of the {first} shares {rank:.3f}"
    )


if __name__ == "__main__":
    main()
