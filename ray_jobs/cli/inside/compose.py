"""The command ``compose``: prompts about two people, and which person is perceived as which group."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
    from audit.records.inside.compositions import Compositions
    from audit.storage.place import Place
    from ray_jobs.run.inside.compose import ComposeRequest

COMPOSITIONS = "compositions"
"""Directory of results under ``output`` of the config."""


def compose(
    config: ConfigArgument,
    sets: SetOption = None,
    output: OutputOption = None,
    address: AddressOption = None,
    workers: WorkersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Audit prompts about two people ("a doctor and a nurse"): who is perceived as which group; run again, it resumes.

    Each pair of compositions.pairs is sampled, and each of its occupations alone. Persons are found in each picture and
    matched with their occupations. Pictures without two persons, and pictures whose persons cannot be told apart, are
    counted as such.
    """
    with expected_errors():
        from audit.config.file import read_config
        from audit.config.slices import DissectionRequest
        from audit.preflight.readiness import check_composed, check_ready
        from audit.storage.run_directory import RunDirectory
        from ray_jobs.cluster.connection import connect
        from ray_jobs.run.inside.compose import ComposeRequest
        from ray_jobs.run.inside.compose import compose as composed
        from ray_jobs.run.parts import WorkerPool
        from ray_jobs.run.track import track_study

        audit = read_config(config, overrides_of(sets, output, workers), [check_ready, check_composed])
        if not audit.compositions.pairs:
            refuse("compositions.pairs: expected pairs of occupations such as [doctor, nurse], found none; add some")
        request = ComposeRequest(audit.name, audit.compositions, DissectionRequest.of(audit), audit.quality, audit.seed)
        show_log()
        with connect(address, audit.workers) as cluster:
            found = composed(request, audit.output, WorkerPool(audit.workers, cluster))
        page = _write(audit.output, request, found)
        url = track_study(audit.tracking, RunDirectory(page.parent), "the study")
    if as_json:
        print_json({"page": str(page), "tracking_url": url, **_short(found.as_data())})
    else:
        _show(found, page, url)


def _write(output: str, request: ComposeRequest, found: Compositions) -> Place:
    """Write page and tables, and return the place of the page."""
    from audit.records.inside.compositions import COMPOSITIONS_FORMAT
    from audit.storage.place import place_of
    from audit.storage.provenance import content_name
    from reports.compositions.files import write_files

    name = content_name(request.name, COMPOSITIONS_FORMAT, found.model, request.as_data())
    return write_files(found, place_of(output).absolute() / COMPOSITIONS / name)


def _show(found: Compositions, page: Place, url: str | None) -> None:
    from reports.compositions.words import lines

    for line in lines(found):
        typer.echo(line)
    typer.echo(f"Page: {page}")
    if url is not None:
        typer.echo(f"MLflow: {url}")


def _short(data: dict[str, Any]) -> dict[str, Any]:
    """Leave out pictures; the file has them."""
    return {key: value for key, value in data.items() if key != "pictures"}
