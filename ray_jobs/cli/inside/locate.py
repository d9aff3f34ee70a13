"""The command ``locate``: makes and prints the location map of a model."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

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
    from collections.abc import Sequence

    from audit.analyses.location_map import MapRequest
    from audit.config.sections import ModelConfig
    from audit.config.slices import DissectionRequest
    from audit.records.located.places import Place


class Pairs(StrEnum):
    """Which groups of an attribute are exchanged."""

    ENDS = "ends"
    ALL = "all"


def locate(  # noqa: PLR0913 (one parameter per option)
    config: ConfigArgument,
    sets: SetOption = None,
    output: OutputOption = None,
    address: AddressOption = None,
    workers: WorkersOption = None,
    attribute: Annotated[
        list[str] | None, typer.Option("--attribute", metavar="NAME", help="Only this attribute; can be repeated.")
    ] = None,
    place: Annotated[
        list[str] | None,
        typer.Option(
            "--place",
            "--hookpoint",
            metavar="PLACE",
            help="This place instead of all, counted without screening: mid_block, text:up_blocks.0; can be repeated.",
        ),
    ] = None,
    prompts: Annotated[int, typer.Option("--prompts", min=1, metavar="N", help="Most prompts of the config.")] = 8,
    images: Annotated[int, typer.Option("--images", min=1, metavar="N", help="Seeds per prompt and attribute.")] = 3,
    carries: Annotated[
        float, typer.Option("--carries", min=0.01, max=1, metavar="X", help="Least share of a place that carries.")
    ] = 0.9,
    pairs: Annotated[
        Pairs, typer.Option("--pairs", help="Exchange the first and the last group, or every pair.")
    ] = Pairs.ENDS,
    all_places: Annotated[bool, typer.Option("--all", help="Count all places, whatever the screening shows.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show where in the model each attribute is decided, by activation patching; run again, it resumes.

    Prompts that name two groups of an attribute are sampled from the same noise. Each place in turn (outputs and skip
    connections of blocks, the text that a block reads) takes its values from the run of the other group. The table
    shows the share of images that follow, and the cheapest place that carries each attribute.
    """
    with expected_errors():
        from dataclasses import replace

        from audit.analyses.stored_maps import Located, store_map
        from audit.config.file import read_config
        from audit.config.slices import DissectionRequest
        from audit.preflight.readiness import check_located
        from ray_jobs.cluster.connection import connect
        from ray_jobs.run.inside.locate import make_map
        from ray_jobs.run.parts import WorkerPool

        audit = read_config(config, overrides_of(sets, output, workers), [check_located])
        dissection = DissectionRequest.of(audit)
        request = _request(dissection, place or (), attribute or ())
        request = replace(request, prompts=request.prompts[:prompts], images=images, carries=carries, pairs=pairs.value)
        if all_places:
            request = replace(request, always=request.places)
        show_log()
        located = Located.of(dissection)
        with connect(address, audit.workers) as cluster:
            pool = WorkerPool(audit.workers, cluster)
            found = make_map(located, request, audit.output, pool)
        if not (place or attribute):  # a map of a part is not that of the model
            store_map(found, located, audit.output)
    if as_json:
        print_json(found.as_data())
    else:
        from ray_jobs.cli.inside.location_table import show_location
        from ray_jobs.cli.terminal import open_console

        show_location(found, open_console())


def _request(request: DissectionRequest, named: Sequence[str], attributes: Sequence[str]) -> MapRequest:
    from audit.analyses.location_map import MapRequest
    from audit.planning.plan import prompts_of_model

    unknown = [name for name in attributes if name not in request.attributes]
    if unknown:
        refuse(f"--attribute: expected an audited attribute ({', '.join(request.attributes)}), found {unknown[0]!r}")
    places = _places(request.model, named)
    return MapRequest(
        attributes={name: tuple(request.attributes[name]) for name in attributes or request.attributes},
        prompts=prompts_of_model(request.model, request.prompts),
        template=request.prompts.template,
        places=places,
        always=tuple(place for place in places if named or str(place) == request.lens.hookpoint),
        images=1,
        batch=request.sampling.batch,
    )


def _places(model: ModelConfig, named: Sequence[str]) -> tuple[Place, ...]:
    from audit.preflight.lens import UnknownBlocksError, places_of
    from audit.records.located.places import Place

    asked: tuple[Place, ...] = ()
    try:
        asked = tuple(Place.parse(text) for text in dict.fromkeys(named))
    except ValueError as error:
        refuse(f"--place: {error}")
    try:
        known = places_of(model)
    except UnknownBlocksError as error:
        if not asked:
            refuse(str(error))
        return asked
    except ValueError as error:
        refuse(str(error))
    return asked or known
