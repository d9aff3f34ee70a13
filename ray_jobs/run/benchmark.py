"""Runs a benchmark: one audit after the other, each resumable, and the page after each of them."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from audit.config.benchmark.read import Benchmark, BenchmarkAudit
from audit.config.mitigations.arms import steered_shares
from audit.config.sections import PromptsConfig
from audit.config.slices import DissectionRequest, MeasurementRequest
from audit.models.families.registry import steps_here
from audit.planning.plan import arms_of, opinions_of
from audit.records.attributes import Attribute
from audit.records.work import BASELINE
from audit.results.arm_rows import ArmRows, arm_rows
from audit.results.benchmark.costs import costs_of
from audit.results.benchmark.rankings import Agreement, held_out_agreements, image_agreements
from audit.results.benchmark.rows import MethodRow, RowOrigin, method_rows
from audit.results.second_opinions import common_answers
from audit.storage.place import Place, place_of
from audit.storage.run_directory import RunDirectory
from ray_jobs.run.audit import AuditOutcome, default_run_id, run_audit
from reports.benchmark.files import write_files
from reports.benchmark.findings import Findings, Strip
from reports.benchmark.strips import strips_of

BENCHMARKS = "benchmarks"
"""Directory beside the runs with the pages of benchmarks."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BenchmarkOutcome:
    """The outcome of a benchmark.

    Attributes:
        place: Directory of the page.
        page: The page.
        findings: What the page shows.
        runs: The runs, in the order of the audits.
        incomplete: Names of the runs in which shards are missing; running the benchmark again tries them again.
    """

    place: Place
    page: Place
    findings: Findings
    runs: tuple[str, ...]
    incomplete: tuple[str, ...]


def run_benchmark(benchmark: Benchmark, *, address: str | None = None) -> BenchmarkOutcome:
    """Run every audit of a benchmark, or resume them, and write the page after each.

    Args:
        benchmark: The benchmark.
        address: A Ray cluster; None for this machine.

    Raises:
        RuntimeError: In the cases of :func:`ray_jobs.run.audit.run_audit`.
    """
    place = place_of(benchmark.output).absolute() / BENCHMARKS / benchmark_id(benchmark)
    finished: list[tuple[BenchmarkAudit, AuditOutcome]] = []
    page, findings = place, Findings(benchmark.config.name)
    for number, audit in enumerate(benchmark.audits, start=1):
        _log.info("Audit %d of %d: %s", number, len(benchmark.audits), audit.title)
        finished.append((audit, run_audit(audit.config, address=address, fitted_on=fit_prompts(benchmark, audit))))
        findings = findings_of(benchmark, finished)
        page = write_files(findings, place)
    runs = tuple(outcome.result.run_id for _, outcome in finished)
    incomplete = tuple(outcome.result.run_id for _, outcome in finished if not outcome.complete)
    return BenchmarkOutcome(place, page, findings, runs, incomplete)


def fit_prompts(benchmark: Benchmark, audit: BenchmarkAudit) -> PromptsConfig | None:
    """Return the prompts that the methods of an audit are fitted with, None for its own."""
    if audit.is_main:
        return None
    return next(
        other.config.prompts
        for other in benchmark.audits
        if other.is_main and (other.model, other.attributes) == (audit.model, audit.attributes)
    )


def benchmark_id(benchmark: Benchmark) -> str:
    """Name a benchmark by what determines the results of its audits."""
    runs = [default_run_id(audit.config, fit_prompts(benchmark, audit)) for audit in benchmark.audits]
    return f"{benchmark.config.name}-{hashlib.sha256(' '.join(runs).encode()).hexdigest()[:8]}"


def findings_of(benchmark: Benchmark, finished: Sequence[tuple[BenchmarkAudit, AuditOutcome]]) -> Findings:
    """Collect the figures of the finished audits."""
    rows: list[MethodRow] = []
    agreements: list[Agreement] = []
    strips: list[Strip] = []
    for audit, outcome in finished:
        run = RunDirectory(outcome.run_path)
        arms, own = _arms(audit, run, outcome), list[MethodRow]()
        request, dissection = MeasurementRequest.of(audit.config), DissectionRequest.of(audit.config)
        costs = costs_of(request, dissection, run, steps_here(request.model, request.sampling))
        targets = {arm.name: steered_shares(arm, audit.config.attributes) for arm in audit.config.mitigations}
        origin = RowOrigin(audit.model, audit.attributes, audit.methods, costs, targets, audit.held_out, audit.control)
        own = list(method_rows(origin, outcome.result, arms))
        rows += own
        if audit.is_main:
            opinions = opinions_of(audit.config.second_opinions, audit.config.attributes)
            answers = tuple(common_answers(run.read_results(), tuple(arms), opinions))
            agreements += image_agreements(own, outcome.result, arms, answers)
            shown = min(benchmark.config.strips, len(arms[BASELINE].prompts))
            names, prompts = arms_of(audit.config.mitigations), tuple(arms[BASELINE].prompts)[:shown]
            strips += strips_of(run, own[0], names, prompts, audit.config.report)
    waiting = tuple(audit.title for audit in benchmark.audits[len(finished) :])
    incomplete = tuple(audit.title for audit, outcome in finished if not outcome.complete)
    agreements += held_out_agreements(rows)
    return Findings(benchmark.config.name, tuple(rows), tuple(agreements), tuple(strips), waiting, incomplete)


def _arms(audit: BenchmarkAudit, run: RunDirectory, outcome: AuditOutcome) -> dict[str, ArmRows]:
    """Read the images of every arm, in the order of the result."""
    table = run.read_results()
    attributes = [Attribute(name, groups) for name, groups in audit.config.attributes.items()]
    sizes: dict[str, int] = {}
    for arm, prompt in zip(table["arm"].to_pylist(), table["prompt_id"].to_pylist(), strict=True):
        if arm == BASELINE:
            sizes[prompt] = sizes.get(prompt, 0) + 1
    return {arm: arm_rows(table, arm, attributes, sizes) for arm in arms_of(audit.config.mitigations)}
