"""The command-line reference, from the commands as typer knows them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer.main
from typer.core import TyperGroup

from docs_site.markdown import NOTICE, code, table
from ray_jobs.cli.commands import app

PROGRAM = "difflens-audit"


def cli_page() -> str:
    """Return a page with every command, its arguments and its options."""
    program = typer.main.get_command(app)
    lines = ["# Command line", "", NOTICE, "", program.help or "", "", program.epilog or "", ""]
    lines += table(("command", "does"), _overview(program))
    for name, command in _leaves(program, PROGRAM):
        lines += _section(name, command)
    return "\n".join(lines)


def _leaves(command: Any, name: str) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - typer's own command classes
    if not isinstance(command, TyperGroup):
        yield name, command
        return
    for word, below in command.commands.items():
        yield from _leaves(below, f"{name} {word}")


def _overview(program: Any) -> Iterator[tuple[str, str]]:  # noqa: ANN401 - as above
    for name, command in _leaves(program, PROGRAM):
        short = name.removeprefix(f"{PROGRAM} ")
        first_line = (command.help or "").strip().split("\n\n")[0]
        yield f"[`{short}`](#{short.replace(' ', '-')})", first_line


def _section(name: str, command: Any) -> list[str]:  # noqa: ANN401 - as above
    arguments = [p for p in command.params if not p.opts[0].startswith("-")]
    options = [p for p in command.params if p.opts[0].startswith("-") and not p.hidden]
    words = [name, *(_argument_word(p) for p in arguments), *(["[OPTIONS]"] if options else [])]
    return [
        f"## {name.removeprefix(f'{PROGRAM} ')}",
        "",
        (command.help or "").strip(),
        "",
        "```text",
        " ".join(words),
        "```",
        "",
        *table(("argument", "meaning"), ((code(_argument_word(p)), p.help or "") for p in arguments)),
        *table(("option", "meaning", "default"), map(_option_row, options)),
    ]


def _argument_word(parameter: Any) -> str:  # noqa: ANN401 - as above
    word = parameter.metavar or parameter.name.upper()
    return f"{word}…" if parameter.nargs == -1 and not word.endswith(("…", "...")) else str(word)


def _option_row(option: Any) -> tuple[str, str, str]:  # noqa: ANN401 - as above
    names = ", ".join(code(name) for name in (*option.opts, *option.secondary_opts))
    value = "" if option.is_flag else f" {code(option.metavar or option.name.upper())}"
    return names + value, option.help or "", _default(option)


def _default(option: Any) -> str:  # noqa: ANN401 - as above
    value = option.default
    if value is None or value is False or callable(value) or value in ((), []):
        return "required" if option.required else ""
    return code(str(getattr(value, "value", value)))
