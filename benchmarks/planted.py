"""Audits the auditor: how many of a run's Wilson intervals cover the shares that were planted.

``difflens-audit run configs/planted.yaml`` (or ``configs/rendered.yaml``), then ``python -m benchmarks.planted RUN``.
At guidance 1 the planted shares are the truth of the training data, for the rendered model they are the truth itself.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

from audit.calibration.bundle import world_table
from audit.calibration.world import World
from audit.config.settings import ModelConfig
from audit.measure.fairness import total_variation
from audit.records import BASELINE
from audit.store import RunDirectory
from reports.export import read_audit_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="run directory of a calibration or rendered model")
    result = read_audit_json(RunDirectory(parser.parse_args().run))
    world = World.load(world_table(ModelConfig.model_validate(result.config["model"])))
    print(f"{result.run_id}: share of {world.name}'s planted values inside the 95 % Wilson interval")
    for attribute in result.config["attributes"]:
        covered, gaps = [], []
        for row in result.results:
            if row.attribute != attribute or row.arm != BASELINE:
                continue
            planted = world.share(str(row.prompt_id), attribute)
            covered += [row.shares[group].low <= planted[group] <= row.shares[group].high for group in planted]
            gaps.append(total_variation([row.shares[group].value for group in planted], list(planted.values())))
        print(
            f"{attribute:>10}: {statistics.mean(covered):6.1%} of {len(covered)} shares; "
            f"total variation, mean over {len(gaps)} occupations {statistics.mean(gaps):.3f}, worst {max(gaps):.3f}"
        )


if __name__ == "__main__":
    main()
