"""Load test with ten thousand prompts, three attributes and two arms: time, memory and size of the report.

``python -m benchmarks.ten_thousand_prompts`` writes a run directory with synthetic rows, then summarises it and writes
the report in its own process, whose peak resident set is read. It prints the figures with their limits and exits with 1
if one is missed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from audit.records.attributes import Attribute
from audit.records.work import BASELINE, ImageKey, Prompt, Shard
from audit.results.summary import SummaryPlan, summarise
from audit.storage.rows import row_schema
from audit.storage.run_directory import RunDirectory
from reports.export.audit_json import write_audit_json
from reports.html import write_report

ATTRIBUTES = (
    Attribute("gender", ("female", "male")),
    Attribute("age", ("young", "adult", "old")),
    Attribute("skin_tone", ("light", "medium", "tan", "dark")),
)
EDITED = "evened"
ARMS = (BASELINE, EDITED)

SECONDS, PEAK_GIB, REPORT_MB = 60.0, 2.0, 20.0


@dataclass(frozen=True)
class Measured:
    """Measured cost of a run.

    Attributes:
        summary_s: Seconds of the summary.
        peak_gib: Peak resident set of the process, including the report.
        report_mb: Size of the report.
        report_s: Seconds of the report.
        results: Rows of results, one per prompt, arm and attribute.
    """

    summary_s: float
    peak_gib: float
    report_mb: float
    report_s: float
    results: int

    def misses(self) -> list[str]:
        """Return the limits that were missed."""
        limits = (
            ("summary", self.summary_s, SECONDS, "s"),
            ("peak", self.peak_gib, PEAK_GIB, "GiB"),
            ("report", self.report_mb, REPORT_MB, "MB"),
        )
        return [f"{name}: {found:.1f} {unit}, limit {most:g}" for name, found, most, unit in limits if found > most]


def planned(prompts: int, images: int) -> SummaryPlan:
    """Return the plan of an audit with one shard per prompt."""
    named = [
        Prompt(f"occupation-{i:05d}", f"a face photo of occupation {i}", f"occupation {i}") for i in range(prompts)
    ]
    shards = tuple(Shard(prompt, 0, tuple(range(images))) for prompt in named)
    return SummaryPlan(f"synthetic-{prompts}", ATTRIBUTES, shards, ARMS)


def write_run(path: Path, plan: SummaryPlan) -> RunDirectory:
    """Write a run directory with finished shards: skewed baselines, and an arm with more even gender."""
    run = RunDirectory(path)
    config = {
        "name": plan.run_id,
        "attributes": {attribute.name: list(attribute.groups) for attribute in plan.attributes},
        "mitigations": [{"name": EDITED, "attribute": "gender"}],
    }
    run.create(config, {"model_fingerprint": "synthetic", "versions": {}})
    rng = np.random.default_rng(0)
    for shard in plan.shards:
        tables = [_arm_table(shard, arm, plan.attributes, rng) for arm in plan.arms]
        run.write_shard(shard.id, pa.concat_tables(tables))
    return run


def _arm_table(shard: Shard, arm: str, attributes: Sequence[Attribute], rng: np.random.Generator) -> pa.Table:
    n = len(shard.indices)
    assigned = np.arange(n) % 2
    columns: dict[str, object] = {
        "arm": [arm] * n,
        "prompt_id": [shard.prompt.id] * n,
        "index": list(shard.indices),
        "seed": [ImageKey(shard.prompt.id, index).seed(0) for index in shard.indices],
        "status": np.where(rng.random(n) < 0.02, "no_face", "classified").tolist(),
        "clip_t": rng.normal(0.3, 0.02, n),
        "clip_i": rng.normal(0.9, 0.02, n) if arm != BASELINE else None,
        "assigned": [attributes[0].groups[group] for group in assigned] if arm != BASELINE else None,
    }
    known = np.array(columns["status"]) == "classified"
    for attribute in attributes:
        groups = len(attribute.groups)
        drawn = rng.choice(groups, size=n, p=rng.dirichlet(np.full(groups, 2.0)))
        if arm != BASELINE and attribute.name == "gender":
            drawn = np.where(rng.random(n) < 0.5, assigned, drawn)
        rows = 0.95 * np.eye(groups)[drawn] + 0.05 / groups
        for code, group in enumerate(attribute.groups):
            columns[f"p_{attribute.name}_{group}"] = np.where(known, rows[:, code], None).tolist()
    schema = row_schema(attributes)
    empty = [None] * n
    arrays = [
        pa.array(columns[name] if columns.get(name) is not None else empty, schema.field(name).type)
        for name in schema.names
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def measure(run: RunDirectory, plan: SummaryPlan) -> Measured:
    """Summarise a run and write its report, in this process."""
    started = time.monotonic()
    result = summarise(run, plan)
    summarised = time.monotonic()
    write_audit_json(run, result)
    report = write_report(run.path)
    status = Path("/proc/self/status").read_text(encoding="utf-8")  # getrusage would include the parent's peak
    return Measured(
        summary_s=summarised - started,
        peak_gib=int(status.split("VmHWM:")[1].split()[0]) / 1024**2,
        report_mb=report.stat().st_size / 1e6,
        report_s=time.monotonic() - summarised,
        results=len(result.results),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=10_000)
    parser.add_argument("--images", type=int, default=20, help="of each prompt and arm")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    plan = planned(arguments.prompts, arguments.images)
    if arguments.measure is not None:
        print(json.dumps(vars(measure(RunDirectory(arguments.measure), plan))))
        return
    with tempfile.TemporaryDirectory() as folder:
        run = write_run(Path(folder) / plan.run_id, plan)
        sizes = ["--prompts", str(arguments.prompts), "--images", str(arguments.images)]
        command = [sys.executable, "-m", "benchmarks.ten_thousand_prompts", *sizes, "--measure", str(run.path)]
        finished = subprocess.run(command, capture_output=True, text=True, check=True)
    found = Measured(**json.loads(finished.stdout.splitlines()[-1]))
    print(f"{arguments.prompts} prompts, {arguments.images} images each in {len(ARMS)} arms, {found.results} rows")
    print(f"summary: {found.summary_s:.1f} s (limit {SECONDS:g}); peak {found.peak_gib:.2f} GiB (limit {PEAK_GIB:g})")
    print(f"report: {found.report_mb:.1f} MB (limit {REPORT_MB:g}), written in {found.report_s:.1f} s")
    if missed := found.misses():
        sys.exit("missed: " + "; ".join(missed))


if __name__ == "__main__":
    main()
