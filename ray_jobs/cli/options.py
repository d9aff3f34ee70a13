"""Options and arguments shared by several commands, and the overrides that they make."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ray_jobs.cli.answers import run_name

ConfigArgument = Annotated[Path, typer.Argument(metavar="CONFIG", help="The audit's YAML file.", show_default=False)]
RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="A run directory, or its address in an object store.", show_default=False)
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="A.B=VALUE", help="Replace a value of the config; can be repeated.")
]
OutputOption = Annotated[
    str | None, typer.Option("--output", metavar="DIR", help="Where runs are kept: a path or s3://bucket/prefix.")
]
RunIdOption = Annotated[
    str | None, typer.Option("--run-id", metavar="NAME", callback=run_name, help="Name of the run directory.")
]
AddressOption = Annotated[str | None, typer.Option("--address", help="A running Ray cluster instead of this machine.")]
WorkersOption = Annotated[int | None, typer.Option("--workers", min=1, metavar="N", help="Number of worker actors.")]
GateExitCodeOption = Annotated[
    int | None,
    typer.Option(
        "--gate-exit-code",
        min=0,
        max=125,
        metavar="N",
        help="Exit code if gates fail or are inconclusive, instead of 1 and 5; a crash never exits with 0.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]


def overrides_of(sets: Sequence[str] | None, output: str | None, workers: int | None = None) -> list[str]:
    """Return the overrides of the config as ``a.b=value``: ``--set`` options first, then named options.

    Args:
        sets: Values of ``--set``.
        output: Value of ``--output``.
        workers: Value of ``--workers``.
    """
    own = {"output": output, "workers.count": workers}
    # JSON in ASCII writes an emoji as a pair of surrogates, which YAML does not accept.
    texts = {name: json.dumps(value, ensure_ascii=False) for name, value in own.items() if value is not None}
    return [*(sets or ()), *(f"{name}={text}" for name, text in texts.items())]
