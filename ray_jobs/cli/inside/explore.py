"""The command ``explore``: what prompts mean inside the model, from one call of the denoiser for each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ray_jobs.cli.answers import expected_errors, print_json, refuse, show_log
from ray_jobs.cli.options import (
    AddressOption,
    ConfigArgument,
    JsonOption,
    OutputOption,
    SetOption,
    WorkersOption,
    overrides_of,
)

if TYPE_CHECKING:
    from audit.config.optional.exploration import ExploreConfig
    from audit.config.slices import DissectionRequest
    from audit.records.inside.exploration import Exploration
    from audit.records.work import Prompt
    from audit.storage.place import Place
    from ray_jobs.run.inside.explore import ExploreRequest

EXPLORATIONS = "explorations"
"""Directory of explorations under ``output`` of the config."""


def explore(  # noqa: PLR0913 (one parameter per option)
    config: ConfigArgument,
    sets: SetOption = None,
    output: OutputOption = None,
    address: AddressOption = None,
    workers: WorkersOption = None,
    screen: Annotated[
        Path | None,
        typer.Option("--screen", metavar="FILE", help="Rank the prompts of this file: one for {occupation} a line."),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option("--seeds", min=1, metavar="N", help="Noise seeds; 1 with --screen if not given.")
    ] = None,
    keep: Annotated[
        int, typer.Option("--keep", min=1, metavar="N", help="With --screen: prompts of each end that an audit gets.")
    ] = 10,
    as_json: JsonOption = False,
) -> None:
    """Show what prompts mean inside the model, without training and without labels; run again, it resumes.

    Each prompt takes one call of the denoiser for all seeds, and no image is finished. It gets a score on the axis of
    every attribute, similarities to descriptors, and a cluster. Images of a few prompts are then judged, to measure how
    well the scores predict perceived shares. With --screen, thousands of prompts are ranked, and the config of an
    audit of the most extreme ones is written.
    """
    with expected_errors():
        from audit.config.file import read_config
        from audit.config.slices import DissectionRequest
        from audit.preflight.lens import unreadable
        from audit.preflight.readiness import check_explored, check_ready
        from audit.storage.run_directory import RunDirectory
        from ray_jobs.cluster.connection import connect
        from ray_jobs.run.inside.explore import ExploreRequest
        from ray_jobs.run.inside.explore import explore as explored
        from ray_jobs.run.parts import WorkerPool
        from ray_jobs.run.track import track_study

        audit = read_config(config, overrides_of(sets, output, workers), [check_ready, check_explored])
        _refuse_if(unreadable(audit.model))
        section, dissection = _with_seeds(audit.explore, seeds, screen), DissectionRequest.of(audit)
        request = ExploreRequest(
            audit.name, section, dissection, _prompts(dissection, screen), audit.seed, audit.quality
        )
        _refuse_if(request.open_set.problem)
        show_log()
        with connect(address, audit.workers) as cluster:
            found = explored(request, audit.output, WorkerPool(audit.workers, cluster))
        page = _write(audit.output, request, found)
        url = track_study(audit.tracking, RunDirectory(page.parent), "the exploration")
        settings = audit.model_dump(mode="json", exclude_unset=True)
        screened = None if screen is None else _screened(settings, request, found, page.parent, keep)
    if as_json:
        written = {"exploration": str(page), "tracking_url": url, "screened": screened and str(screened)}
        print_json(written | _short(found.as_data()))
    else:
        _show(found, page, url, screened)


def _with_seeds(section: ExploreConfig, seeds: int | None, screen: Path | None) -> ExploreConfig:
    """Return the section with the seeds of the command line; a screen has one seed if none are given."""
    return section.model_copy(update={"seeds": seeds or (section.seeds if screen is None else 1)})


def _refuse_if(problem: str | None) -> None:
    if problem is not None:
        refuse(problem)


def _write(output: str, request: ExploreRequest, found: Exploration) -> Place:
    """Write page and tables, and return the place of the page."""
    from audit.records.inside.exploration import EXPLORATION_FORMAT
    from audit.storage.place import place_of
    from audit.storage.provenance import content_name
    from reports.exploration.files import write_files

    name = content_name(request.name, EXPLORATION_FORMAT, found.model, request.as_data())
    return write_files(found, place_of(output).absolute() / EXPLORATIONS / name)


def _screened(settings: dict[str, Any], request: ExploreRequest, found: Exploration, place: Place, keep: int) -> Place:
    """Write the config of an audit of the most extreme prompts, and return its place."""
    from ray_jobs.cli.inside.screened import write_screened

    return write_screened(settings, request, found, place, keep)


def _show(found: Exploration, page: Place, url: str | None, screened: Place | None) -> None:
    from ray_jobs.cli.inside.explore_table import show_exploration
    from ray_jobs.cli.terminal import open_console

    show_exploration(found, open_console())
    typer.echo(f"Page: {page}")
    if url is not None:
        typer.echo(f"MLflow: {url}")
    if screened is not None:
        typer.echo(f"Audit of the most extreme prompts: difflens-audit plan {screened}")


def _prompts(dissection: DissectionRequest, screen: Path | None) -> tuple[Prompt, ...]:
    """Return the prompts of the config, or those of a file."""
    from audit.planning.plan import prompts_of, prompts_of_model

    section = dissection.prompts
    if screen is not None:
        return prompts_of(section.model_copy(update={"occupations": _names(screen)}), ())
    return prompts_of_model(dissection.model, section)


def _names(file: Path) -> tuple[str, ...]:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        refuse(
            f"--screen: expected a text file with one name a line, found {str(file)!r} that cannot be read ({error})"
        )
    names = tuple(dict.fromkeys(name for line in lines if (name := line.strip()) and not name.startswith("#")))
    if not names:
        refuse(f"--screen: expected at least one name, found none in {str(file)!r}; write one a line")
    return names


def _short(data: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is long; the file has it."""
    short = {key: value for key, value in data.items() if key not in ("similarities", "clusters", "texts")}
    if "open_set" in short:
        short["open_set"] = {key: value for key, value in short["open_set"].items() if key != "pictures"}
    if "pictures" in short:
        kept = ("step", "images", "axes", "scores")
        short["pictures"] = {key: short["pictures"][key] for key in kept}
    return short
