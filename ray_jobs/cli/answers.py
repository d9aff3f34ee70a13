"""Output shared by all commands: errors as messages with exit codes, results as text or JSON, and the log."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from ray_jobs.run.exit_codes import ExitCode

if TYPE_CHECKING:
    from audit.config.errors import ConfigErrors


_BESIDE_RUNS = frozenset(
    {
        "analyses",
        "benchmarks",
        "compositions",
        "concepts",
        "explorations",
        "fits",
        "lenses",
        "mlartifacts",
        "mlflow.db",
        "models",
        "schedule",
    }
)
"""Names in an output directory that are not runs."""


@contextmanager
def expected_errors() -> Iterator[None]:
    """Convert expected errors to a message and an exit code; other exceptions pass unchanged, since they are bugs."""
    from audit.config.errors import ConfigErrors

    try:
        yield
    except ConfigErrors as mistakes:
        fail(mistakes)
    except (ValueError, RuntimeError, OSError) as error:
        from ray_jobs.cli.failures import code_of

        code = code_of(error)
        if code is None:
            raise
        from audit.storage.outside.safe_text import printable, redact

        typer.echo("\n".join(map(printable, redact(str(error)).splitlines())), err=True)
        raise typer.Exit(code) from error


def fail(mistakes: ConfigErrors) -> NoReturn:
    """Print every error of a config and exit."""
    count = len(mistakes.errors)
    typer.echo(f"{mistakes}\n{count} mistake{'s' if count > 1 else ''} in the {mistakes.subject}", err=True)
    raise typer.Exit(ExitCode.USAGE)


def refuse(message: str) -> NoReturn:
    """Print why a command cannot be run as it was given, and exit."""
    typer.echo(message, err=True)
    raise typer.Exit(ExitCode.USAGE)


def print_json(data: dict[str, Any]) -> None:
    """Print data as JSON on standard output."""
    typer.echo(json.dumps(data, indent=2, ensure_ascii=False))


def show_log() -> None:
    """Print this project's log on standard error, and only warnings of other libraries, with secrets redacted."""
    from audit.storage.outside.safe_text import SecretFree

    shown = logging.StreamHandler()
    shown.setFormatter(SecretFree("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[shown])
    for package in ("audit", "ray_jobs", "reports"):
        logging.getLogger(package).setLevel(logging.INFO)


def run_name(name: str | None) -> str | None:
    """Check the name of a run directory: it must be a valid file name, and not a reserved name."""
    if name is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise typer.BadParameter(f"expected letters, digits, '.', '_' and '-', a letter or digit first, found {name!r}")
    if name in _BESIDE_RUNS:
        raise typer.BadParameter(
            f"expected a name that is not reserved in the output directory, found {name!r}; choose another"
        )
    return name
