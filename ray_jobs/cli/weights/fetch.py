"""The command ``fetch``: downloads everything that a config needs into one directory, for a machine without network."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ray_jobs.cli.answers import expected_errors, print_json
from ray_jobs.cli.options import ConfigArgument, JsonOption, SetOption

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ray_jobs.fetch.bundle import Source


def fetch(
    config: ConfigArgument,
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="Directory of the bundle.", show_default=False)],
    sets: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Download everything that a config needs into an offline bundle: weights, manifest, and a copy of the config.

    Copy the directory to a machine without network; its config.yaml loads from there. An interrupted download is
    continued by the same command. Exit code 2 if something does not exist or has other content than published, 4 if a
    server cannot be reached.
    """
    with expected_errors():
        from audit.config.file import read_config
        from audit.preflight.readiness import check_files, check_present_files, needs_of
        from ray_jobs.fetch.bundle import bytes_in, make_bundle

        audit = read_config(config, sets or (), [check_present_files])
        sources = make_bundle(
            needs_of(audit),
            audit.model_dump(mode="json", exclude_unset=True),
            config.name,
            to,
            lambda copied: read_config(copied, (), [check_files]),
        )
        size = bytes_in(to)
    if as_json:
        print_json(_as_data(to, sources, size))
    else:
        _show(to, sources, size)


def _as_data(root: Path, sources: Sequence[Source], size: int) -> dict[str, Any]:
    from ray_jobs.fetch.bundle import CONFIG

    rows = [
        {"key": one.need.key, "source": one.need.source, "commit": one.commit, "licence": one.licence}
        | {"path": str(one.path)}
        for one in sources
    ]
    return {"bundle": str(root), "config": str(root / CONFIG), "bytes": size, "sources": rows}


def _show(root: Path, sources: Sequence[Source], size: int) -> None:
    from rich.markup import escape
    from rich.table import Table

    from audit.storage.outside.safe_text import printable
    from ray_jobs.cli.terminal import open_console
    from ray_jobs.fetch.bundle import CONFIG

    if sources:
        table = Table("key", "source", "licence", box=None, header_style="bold", pad_edge=False)
        for one in sources:
            commit = f" @ {one.commit[:12]}" if one.commit else ""
            table.add_row(one.need.key, escape(printable(one.need.source + commit)), escape(one.licence))
        open_console().print(table)
    else:
        typer.echo("This config needs nothing but the installed package.")
    file = printable(shlex.quote(str(root / CONFIG)))
    typer.echo(f"{size / 1e6:,.1f} MB in {printable(str(root))}. Copy it to the other machine, then:")
    typer.echo(f"  difflens-audit validate {file}")
