"""Simulates whole audits, from rows to verdicts: how often does an audit have a wrong pass or a wrong fail?

Every gate's limit is the true value of its figure. A pass is wrong just below it, and a fail is wrong just above it. An
audit counts as wrong once, for any number of wrong gates. ``summarise`` reads the rows as in a real audit, so that the
test includes everything from a judge's answer to a verdict: the judge's errors, its confusion matrix with its own
sampling error, images without a group, and the number of gates.

Legend: K groups, P prompts, n images of each.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from audit.config.sections import GateConfig
from audit.measure.shares.classifier_error import ConfusionMatrix
from audit.planning.targets import AuditTargets
from audit.records.attributes import Attribute
from audit.records.verdicts import Verdict
from audit.records.work import BASELINE, Prompt, Shard, Status
from audit.results.summary import SummaryPlan, summarise
from audit.storage.rows import probability_column, row_schema
from audit.storage.run_directory import RunDirectory
from benchmarks.coverage.settings import Setting
from benchmarks.coverage.tally import OURS, Tally, tallied

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ATTRIBUTE = "group"
LABELLED = 200
"""Images of every group in the judge's confusion matrix, drawn again for every audit."""

EITHER_SIDE = 0.975
"""Share of audits without a wrong pass, and of those without a wrong fail; 95 % have neither."""

MEMORY = Path("/dev/shm")  # noqa: S108 - each audit creates its own directory there
"""Directory of simulated run directories, if it exists: they are written and read once."""

DISTANCE, SHARE = "fairness_discrepancy", "share:g0"


@dataclass(frozen=True)
class Scenario:
    """One kind of audit.

    Attributes:
        target: Target shares, K values.
        truth: True shares of every prompt, K values.
        images: n.
        prompts: P.
        measures: The gates' measures; a gate per prompt, or with ``overall`` one for the whole arm.
        overall: Whether the gates apply to the whole arm.
        missing: Probability that an image of each group has no perceived group, K values.
        accuracy: Probability that the judge names the right group of an image that it classifies; below 1, the audit
            has a confusion matrix.
        allowed: The gates' limit if it is not the true value; all true values satisfy it, and only a fail is
            wrong.
    """

    target: tuple[float, ...]
    truth: tuple[float, ...]
    images: int
    prompts: int = 1
    measures: tuple[str, ...] = (DISTANCE,)
    overall: bool = False
    missing: tuple[float, ...] = ()
    accuracy: float = 1.0
    allowed: float | None = None

    @property
    def wrong(self) -> tuple[str, ...]:
        """Verdicts that are wrong."""
        return ("pass", "fail") if self.allowed is None else ("fail",)

    @property
    def attribute(self) -> Attribute:
        """The attribute, with a name for each group."""
        return Attribute(ATTRIBUTE, tuple(f"g{number}" for number in range(len(self.truth))))

    @property
    def rates(self) -> Floats:
        """P(perceived h | true g), shape (K, K)."""
        apart = (1 - self.accuracy) / (len(self.truth) - 1)
        return np.full((len(self.truth),) * 2, apart) + (self.accuracy - apart) * np.eye(len(self.truth))

    @property
    def prompt_ids(self) -> tuple[str, ...]:
        """Names of the prompts."""
        return tuple(f"p{number}" for number in range(self.prompts))

    @property
    def shards(self) -> tuple[Shard, ...]:
        """One shard for each prompt."""
        return tuple(Shard(Prompt(name, name, name), 0, tuple(range(self.images))) for name in self.prompt_ids)

    def limit(self, measure: str) -> float:
        """Return the limit: by default the true value over all images, classified or not."""
        if self.allowed is not None:
            return self.allowed
        if measure == SHARE:
            return self.truth[0]
        return float(np.linalg.norm(np.array(self.truth) - self.target))

    def gates(self) -> tuple[GateConfig, ...]:
        """Return the gates, each with its limit."""
        prompt = "overall" if self.overall else "each"
        return tuple(
            GateConfig(
                name=measure.replace(":", "-"), measure=measure, attribute=ATTRIBUTE, prompt=prompt,
                max=self.limit(measure),
            )
            for measure in self.measures
        )  # fmt: skip


UNEVEN, DRAWN = (0.02, 0.03, 0.95), (0.069, 0.013, 0.918)
LABOUR, SKEWED = (0.05, 0.15, 0.8), (0.12, 0.18, 0.7)
EVEN, NINE_TO_ONE = (0.5, 0.5), (0.9, 0.1)
FEW_MISSING = (0.2, 0.0)
THREE, LOPSIDED = (1 / 3, 1 / 3, 1 / 3), (0.6, 0.25, 0.15)

SCENARIOS = {
    "1 gate, target .02 .03 .95": Scenario(UNEVEN, DRAWN, 61),
    "8 gates, target .02 .03 .95": Scenario(UNEVEN, DRAWN, 61, 8),
    "16 gates, target .05 .15 .8": Scenario(LABOUR, SKEWED, 37, 8, (DISTANCE, SHARE)),
    "mean over 2 prompts": Scenario(EVEN, NINE_TO_ONE, 13, 2, overall=True),
    "mean over 7 prompts": Scenario(EVEN, NINE_TO_ONE, 13, 7, overall=True),
    "mean over 8 prompts": Scenario(THREE, LOPSIDED, 20, 8, overall=True),
    "mean over 40 prompts": Scenario(EVEN, NINE_TO_ONE, 13, 40, overall=True),
    "1 gate, images of one group missing": Scenario(EVEN, (0.64, 0.36), 400, missing=FEW_MISSING),
    "8 gates, images of one group missing": Scenario(EVEN, (0.64, 0.36), 100, 8, missing=FEW_MISSING),
    "1 gate, parity, images of one group missing": Scenario(EVEN, EVEN, 400, missing=(0.4, 0.0), allowed=0.1),
    "mean over 7 prompts, images of one group missing": Scenario(
        EVEN, (0.64, 0.36), 60, 7, overall=True, missing=FEW_MISSING
    ),
    "1 gate, a judge that errs": Scenario(EVEN, (0.8, 0.2), 150, accuracy=0.85),
    "8 gates, a judge that errs": Scenario(THREE, LOPSIDED, 80, 4, (DISTANCE, SHARE), accuracy=0.85),
    "16 gates, a judge that errs": Scenario(EVEN, (0.8, 0.2), 60, 8, (DISTANCE, SHARE), accuracy=0.9),
    "mean over 7 prompts, a judge that errs": Scenario(EVEN, (0.8, 0.2), 40, 7, overall=True, accuracy=0.85),
    "8 gates, a judge that errs and images missing": Scenario(
        EVEN, (0.75, 0.25), 100, 8, missing=FEW_MISSING, accuracy=0.9
    ),
}
"""All scenarios, by their names on the page."""


def settings(quick: bool) -> list[Setting]:
    """Return the cells."""
    chosen = list(SCENARIOS.items())[:2] if quick else SCENARIOS.items()
    return [Setting(len(s.truth), s.images, "own", s.accuracy, name) for name, s in chosen]


def study(setting: Setting, simulations: int) -> list[Tally]:
    """Return how many audits have no wrong pass, and how many no wrong fail."""
    scenario, rng = SCENARIOS[setting.detail], setting.rng()
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as scratch:
        found = [set(verdicts(scenario, rng, Path(scratch) / str(number))) for number in range(simulations)]
    tallies = (
        tallied(f"audits without a wrong {wrong}", setting, 0.0, {OURS: [_ends(wrong in told) for told in found]})
        for wrong in scenario.wrong
    )
    return [replace(tally, confidence=EITHER_SIDE) for tally in tallies]


def verdicts(scenario: Scenario, rng: np.random.Generator, place: Path) -> Iterator[str]:
    """Draw one audit, summarise it and yield the verdict of every gate."""
    run = RunDirectory(place)
    run.create({"name": "simulated"}, {})
    for shard in scenario.shards:
        run.write_shard(shard.id, _rows(scenario, shard, rng), None)
    matrix = ConfusionMatrix.of(scenario.attribute.groups, rng.multinomial(LABELLED, scenario.rates))
    plan = SummaryPlan(
        run_id="simulated",
        attributes=(scenario.attribute,),
        shards=scenario.shards,
        arms=(BASELINE,),
        targets=AuditTargets({name: {ATTRIBUTE: scenario.target} for name in scenario.prompt_ids}),
        confusions={ATTRIBUTE: matrix} if scenario.accuracy < 1 else {},
        gates=scenario.gates(),
    )
    told: Sequence[Verdict] = summarise(run, plan).verdicts
    yield from (verdict.verdict for verdict in told)


def _rows(scenario: Scenario, shard: Shard, rng: np.random.Generator) -> pa.Table:
    """Return the rows of a shard: each image has a true group, and the judge names a group or none."""
    truth = rng.choice(len(scenario.truth), size=scenario.images, p=scenario.truth)
    perceived = (rng.random((scenario.images, 1)) > scenario.rates.cumsum(axis=1)[truth]).sum(axis=1)
    perceived = np.minimum(perceived, len(scenario.truth) - 1)
    missing = rng.random(scenario.images) < np.array(scenario.missing or [0.0] * len(scenario.truth))[truth]
    schema = row_schema((scenario.attribute,))
    columns: dict[str, object] = {
        "arm": [BASELINE] * scenario.images,
        "prompt_id": [shard.prompt.id] * scenario.images,
        "index": list(shard.indices),
        "seed": list(shard.indices),
        "status": np.where(missing, Status.NO_FACE.value, Status.CLASSIFIED.value).tolist(),
    }
    for number, group in enumerate(scenario.attribute.groups):
        columns[probability_column(ATTRIBUTE, group)] = (perceived == number).astype(float)
    filled = [
        pa.array(columns[field.name], field.type) if field.name in columns else pa.nulls(scenario.images, field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(filled, schema=schema)


def _ends(wrong: bool) -> tuple[float, float]:
    """Return an interval that contains 0 if nothing was wrong, so that audits are counted like intervals."""
    return (1.0, 1.0) if wrong else (0.0, 0.0)
