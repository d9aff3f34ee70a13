"""The command ``concepts``: what blocks add over time, the layout before it is visible, and edits by window."""

from __future__ import annotations

from pathlib import Path
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
    from audit.config.optional.concepts import ConceptsConfig
    from audit.config.sections import ModelConfig, QualityConfig
    from audit.config.slices import DissectionRequest
    from audit.records.inside.concepts import Concepts
    from audit.storage.place import Place
    from ray_jobs.run.inside.concepts import ConceptsRequest

CONCEPTS = "concepts"
"""Directory of results under ``output`` of the config."""


def concepts(
    config: ConfigArgument,
    sets: SetOption = None,
    output: OutputOption = None,
    address: AddressOption = None,
    workers: WorkersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show when the layout of a picture is decided inside the model; run again, it resumes.

    Pictures are sampled while what some blocks add is recorded at several steps. Dictionaries made from it are compared
    with the parts of the pictures, and predict the finished layout at each step. With the section concepts.stages,
    concepts are then edited in early, middle and final steps.
    """
    with expected_errors():
        from audit.config.file import read_config
        from audit.config.slices import DissectionRequest
        from audit.preflight.readiness import check_ready
        from audit.storage.run_directory import RunDirectory
        from ray_jobs.cluster.connection import connect
        from ray_jobs.run.inside.concepts import concepts as measured
        from ray_jobs.run.parts import WorkerPool
        from ray_jobs.run.track import track_study

        audit = read_config(config, overrides_of(sets, output, workers), [check_ready])
        request = _request(audit.name, audit.concepts, DissectionRequest.of(audit), audit.quality, audit.seed)
        show_log()
        with connect(address, audit.workers) as cluster:
            found = measured(request, audit.output, WorkerPool(audit.workers, cluster))
        page = _write(audit.output, request, found)
        url = track_study(audit.tracking, RunDirectory(page.parent), "the study")
    if as_json:
        print_json({"page": str(page), "tracking_url": url, **_short(found.as_data())})
    else:
        _show(found, page, url)


def _request(
    name: str, section: ConceptsConfig, dissection: DissectionRequest, quality: QualityConfig, seed: int
) -> ConceptsRequest:
    """Return what is asked of a model; ends the program if the model or the settings do not allow it."""
    from audit.models.families.registry import steps_here
    from audit.perception.segmenters.registry import segmenter_parts, segmenter_problem
    from audit.planning.plan import prompts_of_model
    from audit.preflight.lens import unreadable
    from ray_jobs.run.inside.concepts import (
        ConceptsRequest,
        blocks_of,
        cut_text,
        too_few_steps,
        unknown_attributes,
        unrecognised_styles,
    )

    model = dissection.model
    problem = (
        unreadable(model)
        or segmenter_problem(section.segmenter, model)
        or unknown_attributes(section, dissection.attributes)
        or unrecognised_styles(section, dissection.attributes, quality)
        or too_few_steps(section, steps_here(model, dissection.sampling))
    )
    if problem is not None:
        refuse(problem)
    request = ConceptsRequest(
        name=name,
        concepts=section,
        dissection=dissection,
        quality=quality,
        prompts=prompts_of_model(model, dissection.prompts),
        blocks=blocks_of(section, _shapes(model)),
        parts=segmenter_parts(section.segmenter, model),
        seed=seed,
    )
    cut = cut_text(request)
    if cut is not None:
        refuse(cut)
    return request


def _shapes(model: ModelConfig) -> dict[str, tuple[int, int, int]]:
    from audit.models.check import hookpoints_of
    from audit.models.files.untrusted_model import UnfitModelError
    from audit.models.source import pipeline_source

    directory = Path(pipeline_source(model))
    if not directory.is_dir():
        raise UnfitModelError(
            f"model.source: expected a model on this machine, found {model.source!r}; give its directory"
        )
    return hookpoints_of(directory, model)


def _write(output: str, request: ConceptsRequest, found: Concepts) -> Place:
    """Write page and JSON, and return the place of the page."""
    from audit.records.inside.concepts import CONCEPTS_FORMAT
    from audit.storage.place import place_of
    from audit.storage.provenance import content_name
    from reports.concepts.files import write_files

    name = content_name(request.name, CONCEPTS_FORMAT, found.model, request.as_data())
    return write_files(found, place_of(output).absolute() / CONCEPTS / name)


def _show(found: Concepts, page: Place, url: str | None) -> None:
    from reports.concepts.page import findings

    for finding in findings(found):
        typer.echo(finding)
    typer.echo(f"Page: {page}")
    if url is not None:
        typer.echo(f"MLflow: {url}")


def _short(data: dict[str, Any]) -> dict[str, Any]:
    """Leave out pictures; the file has them."""
    return {key: value for key, value in data.items() if key != "pictures"}
