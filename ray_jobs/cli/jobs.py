"""The commands for audits on a remote cluster: submit, logs, cancel."""

from __future__ import annotations

from typing import Annotated

import typer

from ray_jobs.cli.answers import expected_errors, print_json, show_log
from ray_jobs.cli.options import (
    ConfigArgument,
    GateExitCodeOption,
    JsonOption,
    OutputOption,
    RunIdOption,
    SetOption,
    overrides_of,
)
from ray_jobs.run.exit_codes import ExitCode

DashboardOption = Annotated[
    str, typer.Option("--address", metavar="URL", envvar="RAY_API_SERVER_ADDRESS", help="The cluster's dashboard.")
]
JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="The job id that submit printed.", show_default=False)]


def submit(  # noqa: PLR0913 (one parameter per option)
    config: ConfigArgument,
    address: DashboardOption,
    sets: SetOption = None,
    output: OutputOption = None,
    run_id: RunIdOption = None,
    wait: Annotated[bool, typer.Option("--wait", help="Print the job's output and exit with its code.")] = False,
    gate_exit_code: GateExitCodeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run the audit on a remote cluster, as a Ray job.

    Ray marks every job with a non-zero exit code as FAILED, even if only a gate failed. Use --gate-exit-code 0 to mark
    only crashes as FAILED.
    """
    with expected_errors():
        from audit.config.models.read import ModelAudits, read_audits
        from audit.evidence.protocol import protocol_for
        from audit.preflight.readiness import check_gates, check_prompts
        from ray_jobs.cluster import submit as jobs

        # Weights and servers are checked on the cluster, where the audit runs.
        audit = read_audits(config, overrides_of(sets, output), [check_prompts, check_gates])
        several = isinstance(audit, ModelAudits)
        if several and run_id is not None:
            raise typer.BadParameter("expected one model for --run-id; the runs of several models are named by content")
        show_log()
        job = jobs.submit(audit, address, run_id, gate_exit_code, None if several else protocol_for(config, None))
        if as_json:
            print_json({"job": job, "address": address})
        else:
            typer.echo(f"Job: {job}")
        if wait:
            for text in jobs.follow(job, address):
                typer.echo(text, nl=False, err=as_json)
            code = jobs.exit_code_of(job, address)
            known = {*ExitCode, gate_exit_code}
            raise typer.Exit(code if code is not None and code in known else ExitCode.INFRASTRUCTURE)


def logs(
    job: JobArgument,
    address: DashboardOption,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Continue until the job ends.")] = False,
) -> None:
    """Print the output of a submitted audit."""
    with expected_errors():
        from ray_jobs.cluster import submit as jobs

        for text in jobs.follow(job, address) if follow else [jobs.logs(job, address)]:
            typer.echo(text, nl=False)


def cancel(job: JobArgument, address: DashboardOption, as_json: JsonOption = False) -> None:
    """Stop a submitted audit. Finished shards are kept."""
    with expected_errors():
        from ray_jobs.cluster import submit as jobs

        stopped = jobs.cancel(job, address)
    if as_json:
        print_json({"job": job, "stopped": stopped})
    else:
        typer.echo(f"{job} is being stopped" if stopped else f"{job} had already ended")
