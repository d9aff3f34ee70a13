"""The command ``locate``: prints where in a model each attribute is decided."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from ray_jobs.cli.answers import expected_errors, print_json, show_log
from ray_jobs.cli.options import (
    AddressOption,
    ConfigArgument,
    JsonOption,
    OutputOption,
    SetOption,
    WorkersOption,
    overrides_of,
)
from ray_jobs.run.exit_codes import ExitCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from audit.analyses.location import LocationMap, PlaceShare
    from audit.config.sections import ModelConfig


def locate(  # noqa: PLR0913 (one parameter per option)
    config: ConfigArgument,
    sets: SetOption = None,
    output: OutputOption = None,
    address: AddressOption = None,
    workers: WorkersOption = None,
    attribute: Annotated[
        list[str] | None, typer.Option("--attribute", metavar="NAME", help="Only this attribute; can be repeated.")
    ] = None,
    hookpoint: Annotated[
        list[str] | None,
        typer.Option("--hookpoint", metavar="MODULE", help="This module instead of all blocks; can be repeated."),
    ] = None,
    prompts: Annotated[int, typer.Option("--prompts", min=1, metavar="N", help="Most prompts of the config.")] = 8,
    images: Annotated[int, typer.Option("--images", min=1, metavar="N", help="Seeds per prompt and attribute.")] = 3,
    as_json: JsonOption = False,
) -> None:
    """Show where in the model each attribute is decided, by activation patching; run again, it resumes.

    Prompts that name the first and the last group of an attribute are sampled from the same noise. Each block of the
    U-Net in turn takes its output from the run of the other group. The table shows the share of images that follow.
    """
    with expected_errors():
        from audit.analyses.location import LocationRequest
        from audit.config.file import read_config
        from audit.config.sections import with_clip
        from audit.planning.plan import prompts_of_model
        from audit.preflight.readiness import check_ready
        from ray_jobs.cluster.connection import connect
        from ray_jobs.run.analyse import AnalysisSettings, run_analysis
        from ray_jobs.run.network import NetworkSettings
        from ray_jobs.run.parts import WorkerPool

        audit = read_config(config, overrides_of(sets, output, workers), [check_ready])
        unknown = [name for name in attribute or () if name not in audit.attributes]
        if unknown:
            _refuse(f"--attribute: expected an audited attribute ({', '.join(audit.attributes)}), found {unknown[0]!r}")
        request = LocationRequest(
            attributes={name: tuple(audit.attributes[name]) for name in attribute or audit.attributes},
            prompts=prompts_of_model(audit.model, audit.prompts)[:prompts],
            template=audit.prompts.template,
            hookpoints=_hookpoints(audit.model, hookpoint),
            images=images,
            batch=audit.sampling.batch,
        )
        show_log()
        network = NetworkSettings(audit.model, audit.sampling, audit.lens.hookpoint)
        judge = with_clip(audit.judge, audit.quality)
        settings = AnalysisSettings("location", request, network, judge, audit.attributes)
        with connect(address, audit.workers) as cluster:
            found = run_analysis(settings, audit.output, WorkerPool(audit.workers, cluster))
    if as_json:
        print_json(location_as_data(found))
    else:
        from ray_jobs.cli.terminal import open_console

        show_location(found, open_console())


def location_as_data(found: LocationMap) -> dict[str, Any]:
    """Return a location map as plain data."""
    return {"places": [asdict(place) for place in found.places]}


def show_location(found: LocationMap, console: Console) -> None:
    """Print a location map: a row for each hookpoint, a column for each attribute."""
    from rich.table import Table

    attributes = dict.fromkeys(place.attribute for place in found.places)
    table = Table("hookpoint", box=None, header_style="bold", pad_edge=False)
    for name in attributes:
        table.add_column(name.replace("_", " "), justify="right")
    for path in dict.fromkeys(place.hookpoint for place in found.places):
        own = {place.attribute: place for place in found.places if place.hookpoint == path}
        table.add_row(path, *(_cell(own[name]) for name in attributes))
    console.print("Share of images that follow if this place alone comes from the other group's run:", highlight=False)
    console.print(table)
    for name in attributes:
        place = next(place for place in found.places if place.attribute == name)
        console.print(_counted(place), highlight=False, markup=False)


def _cell(place: PlaceShare) -> str:
    from audit.records.estimates import percent

    if place.share is None:
        return "none counted"
    return f"{percent(place.share.value)} ({percent(place.share.low)} to {percent(place.share.high)})"


def _counted(place: PlaceShare) -> str:
    first, last = place.groups
    return (
        f"{place.attribute.replace('_', ' ')}: {first} and {last}; {place.counted} of {place.sampled} images counted, "
        "those whose unpatched runs show the groups that their prompts name"
    )


def _hookpoints(model: ModelConfig, named: Sequence[str] | None) -> tuple[str, ...]:
    from audit.preflight.lens import UnknownBlocksError, block_hookpoints

    try:
        blocks = block_hookpoints(model)
    except UnknownBlocksError as error:
        if not named:
            _refuse(str(error))
        return tuple(named)
    except ValueError as error:
        _refuse(str(error))
    return tuple(named) if named else blocks


def _refuse(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(ExitCode.USAGE)
