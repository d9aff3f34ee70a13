"""The commands of ``difflens-audit schedule``: recurring audits on this machine, on Kubernetes or with systemd."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ray_jobs.cli.answers import expected_errors, print_json, show_log
from ray_jobs.cli.options import (
    AddressOption,
    ConfigArgument,
    GateExitCodeOption,
    JsonOption,
    OutputOption,
    SetOption,
    overrides_of,
)
from ray_jobs.run.exit_codes import ExitCode, at_gates

if TYPE_CHECKING:
    from audit.config.problems import Problem
    from audit.config.settings import AuditConfig
    from ray_jobs.schedule.slot import Order, SlotOutcome

app = typer.Typer(
    help="Run audits on a schedule: on this machine, on Kubernetes, with systemd.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


class Kind(StrEnum):
    """Kinds of manifests."""

    CRONJOB = "cronjob"
    RAYJOB = "rayjob"
    RAYCRONJOB = "raycronjob"
    SYSTEMD = "systemd"
    ALL = "all"


CronOption = Annotated[str, typer.Option("--cron", metavar="'M H D M W'", help="Due times as a cron expression.")]
ZoneOption = Annotated[str, typer.Option("--time-zone", metavar="NAME", help="Time zone of the cron expression.")]


@app.command()
def run(  # noqa: PLR0913 (one parameter per option)
    config: ConfigArgument,
    cron: CronOption,
    time_zone: ZoneOption = "UTC",
    times: Annotated[int | None, typer.Option("--times", min=1, metavar="N", help="Stop after N audits.")] = None,
    sets: SetOption = None,
    output: OutputOption = None,
    address: AddressOption = None,
) -> None:
    """Run the audit at every due time until stopped (Ctrl-C or SIGTERM), each one in its own process."""
    with expected_errors():
        order = _order(config, sets, output, address)
        _need_apscheduler()
        from ray_jobs.schedule.cron import Cron
        from ray_jobs.schedule.loop import Schedule
        from ray_jobs.schedule.slot_times import SlotTimes

        schedule = Schedule(order, SlotTimes.of(Cron.parse(cron), time_zone), times)
        show_log()
        with _at_signals(schedule.stop):
            schedule.run()


@app.command()
def once(  # noqa: PLR0913 (one parameter per option)
    config: ConfigArgument,
    cron: CronOption,
    time_zone: ZoneOption = "UTC",
    sets: SetOption = None,
    output: OutputOption = None,
    address: AddressOption = None,
    gate_exit_code: GateExitCodeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run the audit that is due, for an external scheduler: CronJob, RayJob, systemd, cron.

    A repeated call for the same due time resumes the audit, and does nothing if it is done. If another process holds
    the lease, it exits with 0.
    """
    import threading
    from datetime import UTC, datetime

    with expected_errors():
        order = _order(config, sets, output, address)
        _need_apscheduler()
        from ray_jobs.schedule.cron import Cron, CronError
        from ray_jobs.schedule.slot import run_slot
        from ray_jobs.schedule.slot_times import SlotTimes

        slots = SlotTimes.of(Cron.parse(cron), time_zone)
        due = slots.last(datetime.now(UTC))
        if due is None:
            raise CronError(f"expected a date that occurs, found {cron!r}, which has had none for years; change --cron")
        show_log()
        stop = threading.Event()
        with _at_signals(stop.set):
            outcome = run_slot(order, due, slots, stop)
    code = at_gates(outcome.code, gate_exit_code) if outcome.state == "done" else outcome.code
    if as_json:
        print_json(_as_data(outcome) | {"exit_code": int(code)})
    else:
        typer.echo(f"{outcome.slot.run_id}: {outcome.state}{f' ({outcome.note})' if outcome.note else ''}")
    raise typer.Exit(code)


@app.command()
def manifests(  # noqa: PLR0913 (one parameter per option)
    config: ConfigArgument,
    cron: CronOption,
    image: Annotated[str | None, typer.Option("--image", help="Container image with difflens-audit[schedule].")] = None,
    time_zone: ZoneOption = "UTC",
    kind: Annotated[Kind, typer.Option("--kind", help="Kind of manifests.")] = Kind.CRONJOB,
    output: Annotated[Path, typer.Option("--output", metavar="DIR", help="Output directory.")] = Path("manifests"),
    claim: Annotated[
        str, typer.Option("--claim", help="PersistentVolumeClaim for the runs, shared by all pods.")
    ] = "difflens-audit-runs",
    cpus: Annotated[int, typer.Option("--cpus", min=1, help="CPUs of each computing pod.")] = 4,
    memory: Annotated[str, typer.Option("--memory", help="Memory of each computing pod.")] = "16Gi",
    gpus: Annotated[int | None, typer.Option("--gpus", min=0, help="GPUs of each computing pod.")] = None,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="Number of Ray worker pods.")] = None,
    user: Annotated[
        str | None,
        typer.Option("--user", metavar="NAME", help="User of the systemd unit.", show_default="the current user"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write manifests for a scheduled audit: Kubernetes CronJob, KubeRay RayJob or RayCronJob, systemd units.

    Each kind is written to its own directory under DIR, ready for kubectl apply -f or systemctl enable. Nothing is
    applied.
    """
    if image is None and kind is not Kind.SYSTEMD:
        raise typer.BadParameter("expected a container image, found none; add --image", param_hint="--image")
    with expected_errors():
        from audit.config.file import read_config
        from ray_jobs.schedule.cron import Cron, zone
        from ray_jobs.schedule.manifests.files import kubernetes_files, systemd_files, write_files
        from ray_jobs.schedule.manifests.kubernetes import RAYCRONJOB_IS_ALPHA, Deployment, ScheduledAudit, Size

        audit, when, whom = read_config(config), Cron.parse(cron), user or _own_name()
        zone(time_zone)
        scheduled = ScheduledAudit(audit.name, audit.output, audit.model, audit.workers)
        files: dict[str, str] = {}
        if image is not None and kind is not Kind.SYSTEMD:
            size = Size(cpus, memory, gpus, workers)
            deployment = Deployment(scheduled, config.read_text(encoding="utf-8"), when, time_zone, image, claim, size)
            files |= kubernetes_files(deployment, None if kind is Kind.ALL else kind.value)
        if kind in (Kind.SYSTEMD, Kind.ALL):
            files |= systemd_files(scheduled, config, when, time_zone, whom)
    written = write_files(output, files)
    _warn_of_places(audit, kind, whom)
    if as_json:
        print_json({"files": [str(path) for path in written]})
        return
    typer.echo("\n".join(map(str, written)))
    if kind in (Kind.RAYCRONJOB, Kind.ALL):
        typer.echo(f"Note: {RAYCRONJOB_IS_ALPHA}", err=True)


def _warn_of_places(audit: AuditConfig, kind: Kind, user: str) -> None:
    """Warn of files that pods cannot see under the same path, and of a unit that runs as root."""
    from ray_jobs.cluster.relative_paths import relative_paths

    relative = relative_paths(audit) if kind is not Kind.SYSTEMD else {}
    for key, path in relative.items():
        typer.echo(
            f"Warning: {key}: expected an absolute path that every pod sees, found {path!r}; put the file on a volume "
            "that the pods mount, and use its path there",
            err=True,
        )
    if kind in (Kind.SYSTEMD, Kind.ALL) and user == "root":
        typer.echo(
            "Warning: the systemd unit runs as root; set a user with write access to the output with --user", err=True
        )


def _own_name() -> str:
    import getpass
    import os

    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user often has only a number; systemd accepts both
        return str(os.getuid())


def _order(config: Path, sets: Sequence[str] | None, output: str | None, address: str | None) -> Order:
    """Return the scheduled audit after validation of its config.

    Raises:
        ConfigErrors: Every error in the config.
    """
    from audit.config.file import read_config
    from ray_jobs.schedule.slot import Order

    overrides = overrides_of(sets, output)
    read_config(config, overrides, [_secret_is_here])
    return Order(config.absolute(), tuple(overrides), address)


def _secret_is_here(audit: AuditConfig) -> list[Problem]:
    import os

    from audit.config.problems import Problem

    name = audit.alerts.secret_env
    if audit.alerts.webhook is None or name is None or os.environ.get(name):
        return []
    message = f"expected the webhook's secret in the environment variable {name}, found none; set it"
    return [Problem(("alerts", "secret_env"), message)]


@contextmanager
def _at_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call ``stop`` at SIGTERM and Ctrl-C, instead of exiting immediately."""
    import signal

    before = {number: signal.signal(number, lambda *_: stop()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _need_apscheduler() -> None:
    from importlib.util import find_spec

    if find_spec("apscheduler") is None:
        typer.echo(
            "expected APScheduler, found none; install it with: pip install 'difflens-audit[schedule]'", err=True
        )
        raise typer.Exit(ExitCode.USAGE)


def _as_data(outcome: SlotOutcome) -> dict[str, object]:
    from dataclasses import asdict

    return {
        "slot": outcome.slot.time.isoformat(),
        "series": outcome.slot.series,
        "run_id": outcome.slot.run_id,
        "state": outcome.state,
        "note": outcome.note,
        "alerts": [asdict(alert) for alert in outcome.alerts],
    }
