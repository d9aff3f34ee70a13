"""The command ``hookpoints``: prints the modules of a model whose output can be read and edited."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ray_jobs.cli.answers import expected_errors, print_json
from ray_jobs.cli.options import ConfigArgument, JsonOption, SetOption, overrides_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from audit.config.sections import ModelConfig

_INSIDE = re.compile(r"(resnets|attentions|\w+samplers)\.\d+\.")
"""Found in the address of a module inside of a layer, which is listed only with ``--all``."""

_HALF_PRECISION = 2
"""Bytes of a number in half precision, in which maps are recorded."""

Maps = dict[str, tuple[int, int, int]]


def hookpoints(
    config: ConfigArgument,
    sets: SetOption = None,
    every: Annotated[bool, typer.Option("--all", help="Also modules inside of resnets and attentions.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List the hookpoints of a model: address, shape of the map, and its size. Reads configs, no weights."""
    with expected_errors():
        from audit.config.file import read_config

        audit = read_config(config, overrides_of(sets, None))
        maps = {path: shape for path, shape in _maps(audit.model).items() if every or not _INSIDE.search(path)}
    if as_json:
        print_json(hookpoints_as_data(maps))
    else:
        _show(maps)


def hookpoints_as_data(maps: Mapping[str, tuple[int, int, int]]) -> dict[str, Any]:
    """Return hookpoints as plain data; sizes are of one image and step in half precision, conditional half alone."""
    rows = [{"path": path, "shape": list(shape), "bytes": _bytes(shape)} for path, shape in maps.items()]
    return {"hookpoints": rows}


def _maps(model: ModelConfig) -> Maps:
    from audit.models.check import hookpoints_of
    from audit.models.files.untrusted_model import UnfitModelError
    from audit.models.source import pipeline_source
    from audit.preflight.lens import no_network

    missing = no_network(model)
    if missing is not None:
        raise UnfitModelError(missing)
    directory = Path(pipeline_source(model))
    if not directory.is_dir():
        raise UnfitModelError(
            f"model.source: expected a model on this machine, found {model.source!r}; give its directory"
        )
    return hookpoints_of(directory, model)


def _bytes(shape: tuple[int, int, int]) -> int:
    channels, height, width = shape
    return channels * height * width * _HALF_PRECISION


def _show(maps: Mapping[str, tuple[int, int, int]]) -> None:
    from rich.table import Table

    from ray_jobs.cli.terminal import open_console

    table = Table("hookpoint", box=None, header_style="bold", pad_edge=False)
    table.add_column("channels × height × width", justify="right")
    table.add_column("kB per image and step", justify="right")
    for path, shape in maps.items():
        table.add_row(path, " × ".join(map(str, shape)), f"{_bytes(shape) / 1000:,.1f}")
    console = open_console()
    console.print(table)
    console.print("Sizes are those of one image and step in half precision.", highlight=False)
