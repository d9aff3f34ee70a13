"""The main commands of ``difflens-audit``, one function per command.

Only typer is imported at module level, so that ``--help`` is fast; each command imports what it needs. A user error
ends in a message and an exit code. A traceback always means a bug.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ray_jobs.cli.answers import expected_errors, fail, print_json, show_log
from ray_jobs.cli.benchmark.command import benchmark
from ray_jobs.cli.evidence.bundle import bundle, verify
from ray_jobs.cli.inside.compose import compose
from ray_jobs.cli.inside.concepts import concepts
from ray_jobs.cli.inside.explore import explore
from ray_jobs.cli.inside.hookpoints import hookpoints
from ray_jobs.cli.inside.locate import locate
from ray_jobs.cli.jobs import cancel, logs, submit
from ray_jobs.cli.judge import judge
from ray_jobs.cli.options import (
    AddressOption,
    ConfigArgument,
    GateExitCodeOption,
    JsonOption,
    OutputOption,
    RunArgument,
    RunIdOption,
    SetOption,
    WorkersOption,
    overrides_of,
)
from ray_jobs.cli.replay.command import replay
from ray_jobs.cli.schedule import app as schedule
from ray_jobs.cli.starter.command import init
from ray_jobs.cli.weights.fetch import fetch
from ray_jobs.run.exit_codes import ExitCode, at_gates, exit_code

if TYPE_CHECKING:
    from audit.config.file import Check
    from audit.config.models.read import ModelAudits
    from audit.config.settings import AuditConfig
    from audit.storage.place import Place

ABOUT = "Audits text-to-image diffusion models for social bias, before and after an intervention in their own features."

app = typer.Typer(
    name="difflens-audit",
    help=ABOUT,
    epilog="Exit codes: 0 pass, 1 a gate failed, 2 usage or config, 3 incomplete, 4 infrastructure, 5 inconclusive.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # importing rich for --help would double its time
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(schedule, name="schedule")
for _command in (
    init, fetch, hookpoints, locate, explore, compose, concepts, benchmark, judge, submit, logs, cancel, replay, bundle,
verify, ):  # fmt: skip
    app.command()(_command)


class FailOn(StrEnum):
    """Conditions under which ``compare`` fails."""

    WORSE = "worse"


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"difflens-audit {version('difflens-audit')}")
        raise typer.Exit


def _slot_time(slot: str | None) -> str | None:
    from datetime import datetime

    try:
        known = slot is None or datetime.fromisoformat(slot).tzinfo is not None
    except ValueError:
        known = False
    if not known:
        raise typer.BadParameter(f"expected a time with its zone such as 2026-01-05T03:00:00+00:00, found {slot!r}")
    return slot


def _slot_run_id(audit: AuditConfig, slot: str) -> str:
    from datetime import datetime

    from audit.results.comparison.slots import Slot, series_of

    return Slot(series_of(audit), datetime.fromisoformat(slot)).run_id


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Audits text-to-image diffusion models for social bias."""


@app.command()
def run(  # noqa: PLR0913 (one parameter per option)
    config: ConfigArgument,
    sets: SetOption = None,
    output: OutputOption = None,
    run_id: RunIdOption = None,
    protocol: Annotated[
        Path | None,
        typer.Option(
            "--protocol",
            metavar="FILE",
            help="The protocol from register, if it is not beside the config (audit.protocol.json of audit.yaml).",
        ),
    ] = None,
    slot: Annotated[
        str | None,
        typer.Option("--slot", metavar="TIME", callback=_slot_time, help="Due time, if a schedule starts the run."),
    ] = None,
    address: AddressOption = None,
    workers: WorkersOption = None,
    gate_exit_code: GateExitCodeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run the whole audit. A run that was stopped is resumed."""
    if slot is not None and run_id is not None:
        raise typer.BadParameter("expected --slot or --run-id, found both; --slot already determines the run's name")
    with expected_errors():
        from audit.config.models.read import ModelAudits
        from audit.evidence.protocol import protocol_for
        from ray_jobs.cli.models import command as models

        audit = _ready_audits(config, sets, output, workers)
        if isinstance(audit, ModelAudits):
            models.refuse_single(audit, {"--run-id": run_id, "--slot": slot, "--protocol": protocol})
            raise typer.Exit(
                at_gates(models.run_all(audit, address, _command_again(), as_json=as_json), gate_exit_code)
            )
        registered = protocol_for(config, protocol)
        if slot is not None:
            run_id = _slot_run_id(audit, slot)
        show_log()
        from audit.config.slices import DissectionRequest
        from audit.results.gates.verdicts import overall_verdict
        from ray_jobs.cli.inside.location_notes import edited_through_lens, print_location_notes
        from ray_jobs.run.audit import run_audit

        print_location_notes(DissectionRequest.of(audit), audit.output, edited_through_lens(audit.mitigations))

        outcome = run_audit(audit, run_id=run_id, address=address, protocol=registered)
    verdict = overall_verdict(outcome.result.verdicts)
    code = at_gates(exit_code(verdict, complete=outcome.complete), gate_exit_code)
    from ray_jobs.cli import terminal

    if as_json:
        print_json(terminal.outcome_as_data(outcome) | {"exit_code": int(code)})
    else:
        terminal.show_outcome(outcome, again=_command_again())
    raise typer.Exit(code)


@app.command()
def plan(config: ConfigArgument, sets: SetOption = None, as_json: JsonOption = False) -> None:
    """Estimate cost and statistical power before you run."""
    with expected_errors():
        from audit.config.models.read import ModelAudits, read_audits
        from audit.preflight.readiness import check_gates, check_prompts, check_targets, planned_commands, planned_work

        # The machine that plans may lack the weights and the tracking server of the machine that runs.
        audit = read_audits(config, sets or (), [check_prompts, check_targets, check_gates])
        if isinstance(audit, ModelAudits):
            from ray_jobs.cli.models.command import plan_all

            plan_all(audit, as_json=as_json)
            return
        from audit.config.slices import DissectionRequest
        from ray_jobs.cli.inside.location_notes import edited_through_lens, print_location_notes

        print_location_notes(DissectionRequest.of(audit), audit.output, edited_through_lens(audit.mitigations))
    from audit.records.attributes import Attribute
    from audit.results.two_stages import Stages
    from ray_jobs.cli import terminal
    from ray_jobs.cli.power_table import PlannedTests, power_as_data, power_of, show_power
    from ray_jobs.cli.sampling_table import sampling_as_data, sampling_of, show_sampling

    work, commands = planned_work(audit), planned_commands(audit)
    sampling = sampling_of(Stages.of(audit.prompts, audit.attributes))
    attributes = tuple(Attribute(name, groups) for name, groups in audit.attributes.items())
    tests = PlannedTests(attributes, audit.targets, audit.gates, work.images_per_prompt)
    power = power_of(tests, work.prompts)
    if as_json:
        planned = {"two_stage": sampling_as_data(sampling), "power": power_as_data(power)}
        print_json(terminal.work_as_data(work, commands) | planned)
    else:
        terminal.show_work(work, commands)
        if sampling is not None:
            show_sampling(sampling, terminal.open_console())
        show_power(power, terminal.open_console())


@app.command()
def register(
    config: ConfigArgument,
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="FILE", help="The protocol's file; by default audit.protocol.json of audit.yaml."),
    ] = None,
    sets: SetOption = None,
    output: OutputOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a protocol before the run: config, gates, prompts, images, power, time. A protocol is never replaced.

    The run copies the protocol, and its report lists every departure from it.
    """
    with expected_errors():
        from audit.config.file import read_config
        from audit.config.slices import FilesRequest, MeasurementRequest
        from audit.evidence.protocol import protocol_beside, write_new
        from audit.preflight.readiness import check_gates, check_prompts, check_targets
        from ray_jobs.cli.evidence.register import planned_protocol, protocol_lines
        from ray_jobs.run.audit import stored_config

        audit = read_config(config, overrides_of(sets, output), [check_prompts, check_targets, check_gates])
        request, files = MeasurementRequest.of(audit), FilesRequest.of(audit)
        protocol, place = (
            planned_protocol(stored_config(audit), request, files, audit.gates),
            to or protocol_beside(config),
        )
        write_new(protocol, place)
    if as_json:
        print_json({"protocol": str(place), "registered": protocol.registered, "sha256": protocol.sha256})
    else:
        typer.echo("\n".join(protocol_lines(protocol, place)))


@app.command()
def validate(
    config: ConfigArgument,
    sets: SetOption = None,
    output: OutputOption = None,
    workers: WorkersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find every error in a config at once, each with line, reason and remedy."""
    from audit.config.file import ConfigErrors
    from audit.preflight.readiness import check_composed, check_explored

    try:
        audit = _ready_audits(config, sets, output, workers, [check_explored, check_composed])
    except ConfigErrors as mistakes:
        if not as_json:
            fail(mistakes)
        print_json({"valid": False, "errors": [vars(error) for error in mistakes.errors], "warnings": []})
        raise typer.Exit(ExitCode.USAGE) from None
    from audit.config.models.read import ModelAudits
    from audit.storage.outside.safe_text import printable

    if isinstance(audit, ModelAudits):
        from ray_jobs.cli.models.command import validate_all

        validate_all(audit, printable(config.name), as_json=as_json)
        return
    from audit.preflight.judges import warnings_of

    warnings = list(warnings_of(audit.judge, audit.model, audit.attributes))
    if as_json:
        print_json({"valid": True, "errors": [], "warnings": warnings})
        return
    from audit.preflight.readiness import planned_work

    work = planned_work(audit)
    typer.echo(f"{printable(config.name)} is valid: {work.summary}")
    if work.unet_calls:
        for line in work.preparation:
            typer.echo(line)
    for warning in warnings:
        typer.echo(f"Warning: {warning}")


@app.command()
def dissect(  # noqa: PLR0913 (one parameter per option)
    config: ConfigArgument,
    sets: SetOption = None,
    output: OutputOption = None,
    address: AddressOption = None,
    workers: WorkersOption = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Make the lens again even if it exists.")] = False,
    honesty: Annotated[
        bool,
        typer.Option(
            "--honesty", help="Measure how far the features can be trusted, if the lens is older than these figures."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make only the lens and its variants: find the model's bias features and the strength of their edits."""
    with expected_errors():
        audit = _ready_config(config, sets, output, workers)
        from audit.models.files.untrusted_model import UnfitModelError
        from audit.preflight.lens import no_network

        missing = no_network(audit.model)
        if missing is not None:
            raise UnfitModelError(missing)
        show_log()
        from audit.config.slices import DissectionRequest
        from ray_jobs.cli.inside.location_notes import print_location_notes
        from ray_jobs.run.prepare.lens import dissect as make

        request = DissectionRequest.of(audit)
        print_location_notes(request, audit.output, audit.lens.attributes)
        lenses = make(request, audit.output, audit.workers, address=address, fresh=fresh)
        if honesty:
            from ray_jobs.run.prepare.honesty import add_honesty

            add_honesty(request, lenses[0].place, audit.workers, address=address)
        from ray_jobs.cli import terminal
        from ray_jobs.cli.inside.lens_table import lenses_as_data, show_lenses

    if as_json:
        print_json(lenses_as_data(lenses))
    else:
        show_lenses(lenses, terminal.open_console())


def _report(run: str, statement: Path | None) -> Place:
    from audit.storage.place import place_of
    from audit.storage.run_directory import RunDirectory

    place = place_of(run)
    kept = RunDirectory(place)
    if not kept.has("audit.json"):
        there = not isinstance(place, Path) or place.is_dir()
        found = "an unfinished run" if kept.has("config.json") else "no run" if there else "nothing"
        typer.echo(f"{run}: expected a run directory with audit.json, found {found}; finish the audit first", err=True)
        raise typer.Exit(ExitCode.USAGE)
    if statement is not None:
        from audit.evidence.statement_change import read_statement
        from reports.export.files import replace_statement

        replace_statement(kept, read_statement(statement))
    from reports.html import write_report

    return write_report(place)


@app.command()
def report(
    run: RunArgument,
    statement: Annotated[
        Path | None,
        typer.Option(
            "--statement",
            metavar="FILE",
            help="Replace the auditor's statement by the section statement of this config; no figure changes.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Render the report again from a run directory. This needs no GPU."""
    with expected_errors():
        written = _report(run, statement)
    if as_json:
        print_json({"report": str(written)})
    else:
        typer.echo(f"Report: {written}")


@app.command()
def status(
    run: RunArgument,
    as_json: JsonOption = False,
) -> None:
    """Show the progress of a run, read from its directory."""
    with expected_errors():
        from audit.storage.place import place_of
        from audit.storage.run_directory import MODEL_RUNS, RunDirectory
        from ray_jobs.cli.models.command import show_status_of_all
        from ray_jobs.run.progress.status import status_lines, status_of

        directory = RunDirectory(place_of(run))
        if directory.has(MODEL_RUNS):
            show_status_of_all(directory, as_json=as_json)
            return
        found = status_of(directory)
    if as_json:
        print_json(vars(found) | {"silent": found.silent})
    else:
        typer.echo("\n".join(status_lines(found)))


@app.command()
def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN RUN...",
            help="The earlier and the later run, or runs of several models, each as RUN or NAME=RUN.",
            show_default=False,
        ),
    ],
    fail_on: Annotated[
        FailOn | None, typer.Option("--fail-on", help="Exit with code 1 if the later of two runs is worse.")
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="DIR", help="Compare the runs as models, and write the page to this directory."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what changed between two runs, and which changes are more than chance.

    With more than two runs, or with --to, the runs are compared as models: figures side by side, differences of each
    pair, places, and one error rate for all statements together.
    """
    if len(runs) < 2:
        raise typer.BadParameter(f"expected at least two runs, found {len(runs)}", param_hint="RUN")
    if len(runs) > 2 or to is not None:
        if fail_on is not None:
            raise typer.BadParameter("expected two runs without --to for --fail-on; models are not better or worse")
        with expected_errors():
            from ray_jobs.cli.models.command import compare_runs

            compare_runs(runs, to, as_json=as_json)
        return
    with expected_errors():
        from audit.results.comparison.compare import compare as compare_runs_in_time
        from audit.storage.outside.safe_text import printable
        from audit.storage.place import place_of
        from audit.storage.run_directory import RunDirectory
        from ray_jobs.cli.models.command import refuse_names

        refuse_names(runs)
        comparison = compare_runs_in_time(RunDirectory(place_of(runs[0])), RunDirectory(place_of(runs[1])))
    from ray_jobs.cli.comparison_table import comparison_as_data, comparison_lines

    failed = fail_on is FailOn.WORSE and bool(comparison.judged("worse"))
    code = ExitCode.GATE_FAILED if failed else ExitCode.PASS
    if as_json:
        print_json(comparison_as_data(comparison) | {"exit_code": int(code)})
    else:
        typer.echo("\n".join(map(printable, comparison_lines(comparison))))
    raise typer.Exit(code)


@app.command()
def sync(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN...", help="Run directories, or directories of runs.", show_default=False),
    ],
    uri: Annotated[
        str | None, typer.Option("--uri", metavar="URI", help="Another tracking store than in the runs' configs.")
    ] = None,
    timeout: Annotated[
        float, typer.Option("--timeout", min=1, metavar="SECONDS", help="Time limit for each run.")
    ] = 600.0,
    as_json: JsonOption = False,
) -> None:
    """Send MLflow what it does not have yet, for example after an outage.

    Exit code 0 if MLflow has every run, 4 if one is missing. Gates do not change the exit code.
    """
    from audit.preflight.tracking import unusable_tracking

    obstacle = unusable_tracking(uri) if uri else None
    if obstacle:
        raise typer.BadParameter(obstacle, param_hint="--uri")
    done = []
    with expected_errors():
        from audit.storage.place import place_of
        from ray_jobs.run.sync import sync as hand_over

        for synced in hand_over([place_of(run) for run in runs], uri, timeout):
            done.append(synced)
            if not as_json:
                typer.echo(f"{synced.run_path.name}: {synced.answer}", err=bool(synced.receipt.problem))
    code = ExitCode.INFRASTRUCTURE if any(synced.receipt.problem for synced in done) else ExitCode.PASS
    if as_json:
        rows = [{"run": str(row.run_path), "skipped": row.skipped, **vars(row.receipt)} for row in done]
        print_json({"runs": rows, "exit_code": int(code)})
    raise typer.Exit(code)


@app.command()
def calibrate(
    labels: Annotated[Path, typer.Argument(metavar="LABELS", help="A CSV file of hand labels.", show_default=False)],
    config: Annotated[
        Path | None, typer.Option("--config", metavar="CONFIG", help="Use the attributes and groups of this audit.")
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", metavar="FILE", dir_okay=False, help="Output file; overwritten if it exists.")
    ] = Path("confusion.json"),
    as_json: JsonOption = False,
) -> None:
    """Compute a judge's confusion matrices from hand labels.

    LABELS has a header and one row per image and attribute: attribute,truth,perceived, for example
    gender,female,male. Truth is what a person sees, perceived is the judge's answer. An optional column image allows a
    check for images that were labelled twice. Label about 200 images of each true group.
    """
    if not output.parent.is_dir():
        raise typer.BadParameter(f"expected a directory to write {output.name} to, found no {output.parent}")
    with expected_errors():
        from audit.config.file import read_config
        from audit.perception.judges.confusion_file import write_confusions
        from audit.perception.judges.label_file import read_labels
        from audit.preflight.judges import left_out_groups

        if config is None:
            matrices = read_labels(labels)
        else:
            audit = read_config(config)
            matrices = read_labels(
                labels, audit.attributes, left_out_groups(audit.judge, audit.model, audit.attributes)
            )
    write_confusions(output, matrices)
    from ray_jobs.cli import terminal

    if as_json:
        print_json({"confusion": str(output), "attributes": terminal.confusions_as_data(matrices)})
    else:
        terminal.show_confusions(matrices)
        typer.echo(f"\nConfusion matrices: {output}")


@app.command()
def doctor(
    config: Annotated[
        Path | None, typer.Argument(metavar="[CONFIG]", help="Check the machine for this audit.", show_default=False)
    ] = None,
    named: Annotated[
        Path | None, typer.Option("--config", metavar="CONFIG", help="The same as CONFIG.", show_default=False)
    ] = None,
    sets: SetOption = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check this machine for an audit: packages, every missing weight and its source, Ray, GPUs, tracking, disk."""
    if config is not None and named is not None:
        raise typer.BadParameter(f"expected one config, found {config} and {named}; remove one")
    config = config or named
    with expected_errors():
        from audit.config.file import read_config
        from audit.config.settings import AuditConfig

        audit = read_config(config, sets or ()) if config else AuditConfig(name="doctor")
        from ray_jobs.cli.doctor import doctor_exit_code, examine, healthy

        checks = examine(audit, address)
    if as_json:
        print_json({"healthy": healthy(checks), "checks": [vars(check) for check in checks]})
    else:
        from ray_jobs.cli.terminal import show_checks

        show_checks(checks)
    raise typer.Exit(doctor_exit_code(checks))


def _ready_config(path: Path, sets: Sequence[str] | None, output: str | None, workers: int | None) -> AuditConfig:
    """Read a config and check it against this machine; named options override ``--set``.

    Raises:
        ConfigErrors: Every error found.
    """
    from audit.config.file import read_config
    from audit.preflight.readiness import check_ready

    return read_config(path, overrides_of(sets, output, workers), [check_ready])


def _ready_audits(
    path: Path, sets: Sequence[str] | None, output: str | None, workers: int | None, further: Sequence[Check] = ()
) -> AuditConfig | ModelAudits:
    """Read a config of one model or of several and check it against this machine; see ``_ready_config``.

    Args:
        path: The config.
        sets: Overrides.
        output: Overrides ``output``.
        workers: Overrides ``workers.count``.
        further: Checks of sections that an audit does not use.

    Raises:
        ConfigErrors: Every error found.
    """
    from audit.config.models.read import read_audits
    from audit.preflight.readiness import check_ready

    return read_audits(path, overrides_of(sets, output, workers), [check_ready, *further])


def _command_again() -> str:
    import sys

    return shlex.join(["difflens-audit", *sys.argv[1:]])
