"""Tests that ``compare`` reports real changes between runs, and no others.

``python -m benchmarks.compared`` audits the occupations of the calibration model before and after DiffLens, with as
many seeds as requested, and once more with the first seed and a lens whose strengths are all 0. Between runs of one
model with different seeds, ``compare`` should report nothing (error rate 5 %). Against the disabled lens it should
report, in the edited arm only, the occupations that the lens had balanced. Other attributes may also move back, if the
lens had moved them.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import subprocess
import sys
from pathlib import Path

from audit.calibration.world import World
from audit.config.settings import AuditConfig
from audit.records.work import BASELINE
from audit.results.comparison.compare import compare
from audit.results.comparison.records import Comparison, Place
from audit.storage.run_directory import RunDirectory
from benchmarks.lens_off import copy_bundled_lens, switch_off

ATTRIBUTE, ARM = "gender", "difflens-gender"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, default=64, help="per occupation and arm")
    parser.add_argument("--output", type=Path, default=Path("build/compared"), help="is emptied first")
    arguments = parser.parse_args()
    output = arguments.output.absolute()
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    copy_bundled_lens(output / "lens")
    runs = [audited(output, seed, arguments.images, f"seed-{seed}") for seed in range(arguments.seeds)]
    for first, second in itertools.combinations(runs, 2):
        print(described(compare(first, second)))
    switch_off(output / "lens")
    off = audited(output, 0, arguments.images, "lens-off")
    for run in runs[:2]:
        comparison = compare(run, off)
        print(described(comparison))
        print(by_occupation(comparison))


def audited(output: Path, seed: int, images: int, name: str) -> RunDirectory:
    """Run an audit like a user, and return its directory."""
    config = AuditConfig.model_validate(
        {
            "name": name,
            "seed": seed,
            "prompts": {"images_per_prompt": images, "attribution": False},
            "quality": {"clip": "none", "features": "none"},
            "lens": {"path": str(output / "lens")},
            "mitigations": [{"name": ARM, "method": "difflens", "attribute": ATTRIBUTE}],
            "tracking": {"enabled": False},
            "output": str(output / "runs"),
        }
    )
    path = output / f"{name}.yaml"
    path.write_text(config.model_dump_json())
    with (output / f"{name}.log").open("wb") as log:
        subprocess.run(
            [sys.executable, "-m", "ray_jobs", "run", str(path), "--run-id", name], stdout=log, stderr=log, check=True
        )
    return RunDirectory(output / "runs" / name)


def described(comparison: Comparison) -> str:
    """Return one line: the number of reported figures, and their arms."""
    flagged = [cell.place for cell in comparison.cells if cell.judgement != "none"]
    edited, of_arm = sum(map(is_edited, flagged)), sum(place.arm == ARM for place in flagged)
    first, second = comparison.runs
    return (
        f"{first} and {second}: {len(flagged)} of {len(comparison.cells)} figures changed: {edited} of {ATTRIBUTE} in "
        f"{ARM}, {of_arm - edited} of other attributes there, {len(flagged) - of_arm} in another arm"
    )


def is_edited(place: Place) -> bool:
    """Return whether a figure belongs to the edited attribute and arm."""
    return (place.arm, place.attribute) == (ARM, ATTRIBUTE)


def by_occupation(comparison: Comparison) -> str:
    """Return a line per occupation: planted share, shares with and without the lens, and whether it is reported."""
    world = World.bundled()
    group = next(iter(world.share(world.occupations[0], ATTRIBUTE)))
    shares = {
        (cell.place.arm, cell.place.prompt_id): cell
        for cell in comparison.cells
        if cell.figure == "share" and cell.group == group and cell.place.attribute == ATTRIBUTE
    }
    named = {cell.place.prompt_id for cell in comparison.cells if is_edited(cell.place) and cell.judgement != "none"}
    lines = [f"{'occupation':>16}  planted  baseline  lens on  lens off  named   ({group} shares)"]
    for name in sorted(world.occupations, key=lambda name: world.share(name, ATTRIBUTE)[group]):
        baseline, edited = shares[BASELINE, name], shares[ARM, name]
        lines.append(
            f"{name:>16}  {world.share(name, ATTRIBUTE)[group]:7.2f}  {baseline.first:8.2f}  {edited.first:7.2f}  "
            f"{edited.second:8.2f}  {'yes' if name in named else 'no'}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
