"""How often a comparison of models establishes a difference that does not exist, and how many planted ones it finds.

``python -m benchmarks.false_differences`` draws many audits of three models from worlds with planted shares, and
compares the models of each audit with the code of the product. The three models have independent noise. In an audit of
the renderer with equal seeds, equal worlds would give equal images, in which no procedure could find a difference.

* equal: three times the bundled world. Every established difference is wrong.
* planted: twice the bundled world, and the altered one, which differs in some shares. A difference is wrong if it
  does not exist, or has the wrong sign. Of those that exist, the share that is found is the power.
* mirrored: twice the bundled world, and one with the gender shares reversed. All shares of gender differ, and all
  discrepancies are equal.

The error is the share of audits with at least one wrong difference; at most 5 % are allowed. Its interval is that of
Clopper and Pearson at 95 %. The command exits with 1 if an interval is above 5 %. The last column is the same error if
Benjamini and Hochberg's procedure decided all tests together.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, partial

import numpy as np
from scipy.stats import binomtest

from audit.calibration.labels import ATTRIBUTES, Column
from audit.calibration.world import World, draw_labels
from audit.measure.inference.multiplicity import benjamini_hochberg
from audit.records.attributes import Attribute
from audit.records.estimates import percent
from audit.records.work import BASELINE
from audit.results.comparison.finished_run import FinishedRun, PromptImages
from audit.results.models.difference_tests import model_differences
from audit.results.models.places import ModelRun
from audit.results.models.records import ERROR_RATE, Difference
from audit.storage.rows import probability_column

PROMPTS = ("nurse", "firefighter", "mechanic", "painter", "scientist", "gardener")
SCENARIOS = ("equal", "planted", "mirrored")
SAME = 1e-9
"""True figures that differ by less than this are equal apart from rounding errors."""


@dataclass(frozen=True)
class Audit:
    """What one audit of three models found.

    Attributes:
        wrong: Established differences that do not exist, or have the wrong sign.
        found: Kind of figure → differences that exist and were established.
        planted: Kind of figure → differences that exist.
        by_rate: Whether the procedure for the false discovery rate would have established a wrong one.
    """

    wrong: int
    found: Mapping[str, int]
    planted: Mapping[str, int]
    by_rate: bool


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audits", type=int, default=120, help="audits of each scenario and number of images")
    parser.add_argument("--images", type=int, nargs="+", default=[16, 64, 256], help="images of each prompt and model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # read by the processes about to start
    print(f"{arguments.audits} audits of 3 models × {len(PROMPTS)} prompts in each line")
    print("scenario  images  audits with a wrong difference  power, discrepancies  power, shares  by the FDR")
    above, wrong, drawn_audits = False, 0, 0
    with ProcessPoolExecutor(arguments.processes) as processes:
        for scenario, images in itertools.product(SCENARIOS, arguments.images):
            task = partial(audited, scenario, images)
            seeds = range(arguments.seed, arguments.seed + arguments.audits)
            audits = list(processes.map(task, seeds, chunksize=10))
            bad = sum(audit.wrong > 0 for audit in audits)
            error, low = error_of(bad, len(audits))
            above, wrong, drawn_audits = above or low > ERROR_RATE, wrong + bad, drawn_audits + len(audits)
            powers = [power(audits, kind) for kind in ("discrepancy", "share")]
            by_rate = percent(sum(audit.by_rate for audit in audits) / len(audits), 1)
            print(f"{scenario:<8}  {images:>6}  {error:>30}  {powers[0]:>20}  {powers[1]:>13}  {by_rate:>10}")
    print(f"all lines together: {error_of(wrong, drawn_audits)[0]} of {drawn_audits} audits")
    sys.exit(int(above))


def error_of(wrong: int, audits: int) -> tuple[str, float]:
    """Return a share of audits with its exact interval as text, and the lower end."""
    errors = binomtest(wrong, audits)
    limits = errors.proportion_ci(method="exact")
    return f"{percent(errors.statistic, 1)} [{percent(limits.low, 1)}, {percent(limits.high, 1)}]", float(limits.low)


def power(audits: Sequence[Audit], kind: str) -> str:
    """Return the share of the existing differences that were established."""
    planted = sum(audit.planted.get(kind, 0) for audit in audits)
    return percent(sum(audit.found.get(kind, 0) for audit in audits) / planted, 1) if planted else "–"


def audited(scenario: str, images: int, seed: int) -> Audit:
    """Draw one audit of three models and compare them."""
    worlds = worlds_of(scenario)
    models = [
        ModelRun(str(number), drawn(world, images, [seed, number, SCENARIOS.index(scenario), images]))
        for number, world in enumerate(worlds)
    ]
    wrong, found, planted = 0, dict[str, int](), dict[str, int]()
    differences = model_differences(models)
    for difference in differences:
        truth, kind = true_difference(difference, worlds), "share" if difference.group else "discrepancy"
        exists = abs(truth) > SAME
        right = exists and truth * difference.difference.value > 0
        planted[kind] = planted.get(kind, 0) + exists
        found[kind] = found.get(kind, 0) + (difference.established and right)
        wrong += difference.established and not right
    return Audit(wrong, found, planted, wrong_by_rate(differences, worlds))


def wrong_by_rate(differences: Sequence[Difference], worlds: Sequence[World]) -> bool:
    """Return whether Benjamini and Hochberg's procedure over all tests would establish a wrong difference."""
    adjusted = benjamini_hochberg([difference.p_value for difference in differences])
    small = (difference for p, difference in zip(adjusted, differences, strict=True) if p <= ERROR_RATE)
    return any(abs(true_difference(difference, worlds)) <= SAME for difference in small)


def true_difference(what: Difference, worlds: Sequence[World]) -> float:
    """Return the difference of the planted figures."""
    first, second, attribute = int(what.first), int(what.second), what.attribute
    figures = []
    for world in (worlds[first], worlds[second]):
        if what.group is not None:
            figures.append(world.share(what.prompt_id, attribute)[what.group])
        else:
            shares = np.array([list(world.share(prompt, attribute).values()) for prompt in PROMPTS])
            figures.append(float(((shares - 1 / shares.shape[1]) ** 2).sum(axis=1).mean()))
    return figures[0] - figures[1]


@cache
def worlds_of(scenario: str) -> tuple[World, ...]:
    """Return the worlds of the three models."""
    bundled = World.bundled()
    third = {
        "equal": bundled,
        "planted": World.load(World.bundled_path().with_name("altered.yaml")),
        "mirrored": mirrored(bundled),
    }[scenario]
    return bundled, bundled, third


def mirrored(world: World) -> World:
    """Return a world with the shares of the two genders exchanged."""
    planted = {name: replace(own, joint=own.joint[::-1].copy()) for name, own in world.planted.items()}
    return World(f"{world.name} mirrored", world.occupations, planted)


def drawn(world: World, images: int, seed: Sequence[int]) -> FinishedRun:
    """Return a finished run of the baseline, whose judge makes no mistakes."""
    rng = np.random.default_rng(seed)
    attributes = tuple(Attribute(name, tuple(groups)) for name, groups in ATTRIBUTES.items())
    rows = {(BASELINE, prompt): of_prompt(world, prompt, rng.random((images, len(Column)))) for prompt in PROMPTS}
    return FinishedRun(world.name, None, {}, {}, attributes, {}, {}, {}, rows, ())


def of_prompt(world: World, prompt: str, noise: np.ndarray) -> PromptImages:
    """Return the images of one prompt, drawn with its planted shares."""
    labels, size = draw_labels(world, prompt, noise), len(noise)
    columns = dict(_columns(labels))
    indices = np.arange(size)
    return PromptImages(indices, indices, np.ones(size, dtype=bool), columns)


def _columns(labels: object) -> Iterator[tuple[str, np.ndarray]]:
    for attribute, groups in ATTRIBUTES.items():
        codes = getattr(labels, attribute)
        for number, group in enumerate(groups):
            yield probability_column(attribute, group), (codes == number).astype(float)


if __name__ == "__main__":
    main()
