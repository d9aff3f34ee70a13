"""The command ``init``: writes a starter config from options, and asks for missing values on a terminal."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ray_jobs.cli.answers import fail, print_json
from ray_jobs.cli.options import JsonOption

if TYPE_CHECKING:
    from ray_jobs.cli.starter.text import Starter

DEFAULT_FILE = "audit.yaml"


def init(  # noqa: PLR0913 (one parameter per option)
    path: Annotated[Path, typer.Argument(metavar="[PATH]", help="File to write, or its directory.")] = Path(
        DEFAULT_FILE
    ),
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Name of the audit; by default that of the file.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", metavar="MODEL", help="calibration (bundled), a diffusers directory, or owner/name on the hub."
        ),
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option("--judge", metavar="JUDGE", help="bundled, zero-shot, or the file of a FairFace checkpoint."),
    ] = None,
    races: Annotated[
        int | None, typer.Option("--races", metavar="7|4", help="Number of races of the FairFace checkpoint.")
    ] = None,
    occupations: Annotated[
        list[str] | None, typer.Option("--occupation", metavar="NAME", help="An occupation; can be repeated.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a commented starter config. On a terminal, ask for values without an option."""
    if races not in (None, 7, 4):
        raise typer.BadParameter(f"expected 7 or 4, found {races}", param_hint="--races")
    target = path / DEFAULT_FILE if path.is_dir() else path
    _check_target(target, force)
    ask = not as_json and sys.stdin.isatty() and sys.stdout.isatty()
    answers = _asked(model, judge, occupations or ()) if ask else (model, judge, occupations or ())
    _write(target, _starter(name or _name_of(target), races, *answers))
    if as_json:
        print_json({"config": str(target)})
        return
    from audit.storage.outside.safe_text import printable

    file = printable(shlex.quote(str(target)))
    typer.echo(f"Wrote {printable(str(target))}. Next:")
    for command, does in (("validate", "checks it"), ("plan", "estimates cost and power"), ("run", "runs the audit")):
        typer.echo(f"  difflens-audit {command} {file}  # {does}")


def _check_target(target: Path, force: bool) -> None:
    if not target.parent.is_dir():
        raise typer.BadParameter(f"expected a directory to write {target.name} to, found no {target.parent}")
    if target.is_dir():
        raise typer.BadParameter(f"expected a file, found the directory {target}; name another file")
    if target.exists() and not force:
        raise typer.BadParameter(f"{target} exists already; choose another file, or overwrite it with --force")


def _name_of(target: Path) -> str:
    """Derive the audit's name from the file name; only letters, digits, ``.``, ``_`` and ``-`` are allowed."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", target.stem).strip("._-")[:60] or "audit"


def _asked(model: str | None, judge: str | None, occupations: Sequence[str]) -> tuple[str, str, Sequence[str]]:
    """Ask for values without an option."""
    from audit.config.fields import GENERATED_HERE
    from ray_jobs.cli.starter.text import OCCUPATIONS

    model = model or typer.prompt("Model (calibration, a diffusers directory, or owner/name)", default="calibration")
    bundled = model in GENERATED_HERE
    if judge is None:
        judge = typer.prompt(
            "Judge (bundled, zero-shot, or the file of a FairFace checkpoint)", default="bundled" if bundled else None
        )
    if not occupations and _reads_text(model):
        answer = typer.prompt("Occupations, separated by commas", default="all" if bundled else ", ".join(OCCUPATIONS))
        occupations = () if answer.strip() == "all" else tuple(filter(None, map(str.strip, answer.split(","))))
    return model, judge, occupations


def _reads_text(model: str) -> bool:
    """Return whether a model reads a prompt; a model that is not on this machine is assumed to."""
    from audit.config.sections import ModelConfig
    from audit.models.families.registry import reads_text

    # The text is not checked yet; whether it can be the source of a model is checked when the config is read back.
    return reads_text(ModelConfig.model_construct(source=model, world=None)) is not False


def _starter(name: str, races: int | None, model: str | None, judge: str | None, occupations: Sequence[str]) -> Starter:
    """Fill in defaults: the bundled model, its judge, and the attributes that the judge can classify."""
    from audit.config.fields import DEFAULT_ATTRIBUTES
    from audit.perception.judges.kinds.fairface import FAIRFACE, races_in_name
    from ray_jobs.cli.starter.text import Starter

    model = model or "calibration"
    draft = Starter(name, model, judge or "bundled", races, occupations, reads_text=_reads_text(model))
    if draft.from_outside and draft.judge == "bundled":
        raise typer.BadParameter(
            f"expected the file of a FairFace checkpoint, or zero-shot, for {model!r}: the bundled judge classifies "
            "drawings only",
            param_hint="--judge",
        )
    if draft.judge == "bundled":
        return replace(draft, attributes=DEFAULT_ATTRIBUTES)
    known = races or races_in_name(Path(draft.judge))
    answers = FAIRFACE[known or 7].answers
    return replace(draft, attributes={key: groups for key, groups in answers.items() if known or key != "race"})


def _write(target: Path, starter: Starter) -> None:
    """Write the config only if it can be read back, so that an invalid value leaves no file."""
    from tempfile import TemporaryDirectory

    from audit.config.errors import ConfigErrors
    from audit.config.file import read_config
    from ray_jobs.cli.starter.text import starter_text

    with TemporaryDirectory() as directory:
        draft = Path(directory) / "answers"
        draft.write_text(starter_text(starter), encoding="utf-8")
        try:
            read_config(draft)
        except ConfigErrors as mistakes:
            fail(ConfigErrors([replace(error, file="init", line=None, column=None) for error in mistakes.errors]))
    target.write_text(starter_text(starter), encoding="utf-8")
