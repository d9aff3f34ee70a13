"""What ``run``, ``plan`` and ``validate`` do with a file that has several models, and ``compare`` with several runs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ray_jobs.cli.answers import print_json, refuse, show_log
from ray_jobs.cli.models.tables import comparison_as_data, show_comparison
from ray_jobs.run.exit_codes import ExitCode, exit_code

if TYPE_CHECKING:
    from audit.config.models.read import ModelAudits
    from audit.results.models.records import ModelComparison
    from audit.storage.place import Place
    from audit.storage.run_directory import RunDirectory
    from ray_jobs.run.models.audits import ModelsOutcome

_RUN = r"[A-Za-z0-9][A-Za-z0-9._-]*"
"""Name of a run directory."""

WORST_FIRST = (ExitCode.INCOMPLETE, ExitCode.GATE_FAILED, ExitCode.INCONCLUSIVE, ExitCode.PASS)
"""The exit code of several audits is the first of these that one of them has."""


def refuse_single(audits: ModelAudits, options: dict[str, object]) -> None:
    """Refuse options that fit only one audit."""
    given = [name for name, value in options.items() if value is not None]
    if given:
        refuse(
            f"expected one model for {', '.join(given)}, found {len(audits.audits)}; the runs of several models are "
            "named by their content. Write one of them under model: in a config of its own"
        )


def run_all(audits: ModelAudits, address: str | None, again: str, *, as_json: bool) -> ExitCode:
    """Run the audits, print the comparison, and return the exit code."""
    show_log()
    from ray_jobs.run.models.audits import run_models

    outcome = run_models(audits, address=address)
    code = worst(_codes(outcome))
    if as_json:
        print_json(_as_data(outcome) | {"exit_code": int(code)})
        return code
    from ray_jobs.cli.terminal import open_console

    console = open_console()
    show_comparison(outcome.comparison, outcome.page, console)
    for model, one in outcome.outcomes.items():
        console.print(f"Report of {model}: {one.report}", markup=False, highlight=False, soft_wrap=True)
    if outcome.tracking_url:
        console.print(f"MLflow {outcome.tracking_url}", markup=False, highlight=False, soft_wrap=True)
    if outcome.incomplete:
        message = f"Images are missing in the audit of {', '.join(outcome.incomplete)}\nTo retry, run: {again}"
        console.print(message, style="bold red", markup=False, soft_wrap=True)
    return code


def worst(codes: Iterable[ExitCode]) -> ExitCode:
    """Return the exit code of several audits."""
    found = set(codes)
    return next(code for code in WORST_FIRST if code in found)


def _codes(outcome: ModelsOutcome) -> Iterable[ExitCode]:
    from audit.results.gates.verdicts import overall_verdict

    for one in outcome.outcomes.values():
        yield exit_code(overall_verdict(one.result.verdicts), complete=one.complete)


def _as_data(outcome: ModelsOutcome) -> dict[str, Any]:
    runs = {
        model: {"run_path": str(one.run_path), "report": str(one.report), "complete": one.complete}
        for model, one in outcome.outcomes.items()
    }
    return {
        "page": str(outcome.page),
        "tracking_url": outcome.tracking_url,
        "runs": runs,
        "incomplete": list(outcome.incomplete),
        **comparison_as_data(outcome.comparison),
    }


def plan_all(audits: ModelAudits, *, as_json: bool) -> None:
    """Print the work of every audit, and the totals."""
    from audit.preflight.readiness import planned_work
    from ray_jobs.cli import terminal

    works = {audit.model: planned_work(audit.config) for audit in audits.audits}
    if as_json:
        models = {model: terminal.work_as_data(work) for model, work in works.items()}
        print_json({"models": models, "images": sum(work.images for work in works.values())})
        return
    from rich.markup import escape
    from rich.table import Table

    table = Table("model", "arms", box=None, header_style="bold", pad_edge=False)
    for column in ("prompts", "images per arm", "images", "shards", "denoiser calls"):
        table.add_column(column, justify="right")
    for model, work in works.items():
        counts = (len(work.prompts), work.images_per_prompt, work.images, work.shards, work.unet_calls)
        table.add_row(escape(model), escape(", ".join(work.arms)), *(f"{count:,}" for count in counts))
    console = terminal.open_console()
    console.print(table)
    for model, work in works.items():
        for line in work.preparation if work.unet_calls else ():
            console.print(f"{model}: {line}", markup=False, highlight=False, soft_wrap=True)
    images = sum(work.images for work in works.values())
    console.print(
        f"\n{images:,} images for {len(works)} models; baseline images that are stored already are not made again.\n"
        "For the power of one audit, plan a config with that model alone.",
        highlight=False,
    )


def validate_all(audits: ModelAudits, name: str, *, as_json: bool) -> None:
    """Print that a file is valid, with the work of each audit and warnings about its judge."""
    from audit.preflight.judges import warnings_of
    from audit.preflight.readiness import planned_work

    warnings = {
        f"{audit.model}: {warning}"
        for audit in audits.audits
        for warning in warnings_of(audit.config.judge, audit.config.model, audit.config.attributes)
    }
    if as_json:
        models = [audit.model for audit in audits.audits]
        print_json({"valid": True, "errors": [], "warnings": sorted(warnings), "models": models})
        return
    typer.echo(f"{name} is valid: {len(audits.audits)} models")
    for audit in audits.audits:
        typer.echo(f"  {audit.model}: {planned_work(audit.config).summary}")
    for warning in sorted(warnings):
        typer.echo(f"Warning: {warning}")


def compare_runs(runs: Sequence[str], to: Path | None, *, as_json: bool) -> None:
    """Compare the models of finished runs, and write the page if a directory is named for it."""
    from audit.results.models.compare import compare_models
    from audit.storage.place import place_of
    from audit.storage.run_directory import RunDirectory

    named = [_name_and_path(run) for run in runs]
    names = _distinct([name for name, _ in named])
    places = [RunDirectory(place_of(path)) for _, path in named]
    comparison = compare_models("comparison", dict(zip(names, places, strict=True)))
    page = None if to is None else _written(comparison, to)
    if as_json:
        print_json(comparison_as_data(comparison) | {"page": None if page is None else str(page)})
    else:
        from ray_jobs.cli.terminal import open_console

        show_comparison(comparison, page, open_console())


def refuse_names(runs: Sequence[str]) -> None:
    """Refuse ``NAME=RUN`` where two runs are compared in time; a directory with such a name is a run."""
    from audit.storage.place import place_of
    from audit.storage.run_directory import AUDIT, RunDirectory

    named = [run for run in runs if _name_and_path(run)[1] != run and not RunDirectory(place_of(run)).has(AUDIT)]
    if named:
        refuse(
            f"expected runs without names, found {named[0]}; two runs are compared in time, earlier and later. Leave "
            "the names out, or add --to DIR to compare the runs as models"
        )


def _name_and_path(run: str) -> tuple[str, str]:
    """Split ``NAME=RUN``; a run without a name is called like its directory, without the hash of its content."""
    name, equals, path = run.partition("=")
    if equals and path and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}", name):
        return name, path
    return re.sub(r"-[0-9a-f]{8}$", "", run.rstrip("/").rpartition("/")[2]) or run, run


def _distinct(names: Sequence[str]) -> list[str]:
    """Return the names, with a number where several runs have the same."""
    return [name if list(names).count(name) == 1 else f"{name}#{number}" for number, name in enumerate(names, 1)]


def _written(comparison: ModelComparison, to: Path) -> Place:
    from reports.models.files import write_files

    return write_files(comparison, to.absolute(), linked=False)


def _run_ids(directory: RunDirectory) -> dict[str, str]:
    """Return the names of the runs of a comparison, by model.

    Raises:
        UnreadableRunError: If its file has something else, or a name that is a path.
    """
    from audit.storage.run_directory import MODEL_RUNS, UnreadableRunError

    try:
        runs = directory.read_json(MODEL_RUNS).get("runs")
    except ValueError as error:
        raise UnreadableRunError(f"{error}; running the config again creates it") from error
    if not isinstance(runs, dict) or not all(isinstance(run, str) and re.fullmatch(_RUN, run) for run in runs.values()):
        raise UnreadableRunError(
            f"{directory.file(MODEL_RUNS)}: expected the name of a run for each model, found {runs!r:.60}; run the "
            "config again to write it"
        )
    return runs


def show_status_of_all(directory: RunDirectory, *, as_json: bool) -> None:
    """Print the progress of the audit of every model of a comparison."""
    from audit.storage.outside.safe_text import printable
    from audit.storage.run_directory import PROGRESS, RunDirectory
    from ray_jobs.run.progress.status import status_lines, status_of

    runs = _run_ids(directory)
    known = {model: RunDirectory(directory.path.parent.parent / run_id) for model, run_id in runs.items()}
    found = {model: status_of(run) if run.has(PROGRESS) else None for model, run in known.items()}
    if as_json:
        print_json({"models": {m: None if s is None else vars(s) | {"silent": s.silent} for m, s in found.items()}})
        return
    for model, status in found.items():
        lines = ["not started"] if status is None else status_lines(status)
        typer.echo("\n".join(f"{printable(model)}: {line}" for line in lines))
