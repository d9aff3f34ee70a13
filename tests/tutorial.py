"""Runs a tutorial like a reader: writes its files, runs its commands and Python, and compares the output."""

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from typer.testing import CliRunner

from ray_jobs.cli.commands import app

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = "difflens-audit"
OWN_PROCESS = ("run", "dissect", "explore", "submit", "schedule")
"""Commands that start Ray, which get a process of their own as on a terminal."""

BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```', re.MULTILINE | re.DOTALL)
VERDICT_CODES = (0, 1, 5)
"""Exit codes of ``run`` for a complete audit, with any verdict."""


@dataclass(frozen=True)
class Block:
    """A block of code: its language, the file that it is the content of (empty: none), and its text."""

    language: str
    title: str
    text: str


def blocks_of(name):
    page = (ROOT / "docs" / "tutorials" / f"{name}.md").read_text(encoding="utf-8")
    return [Block(*found) for found in BLOCK.findall(page)]


def walk(name, folder, monkeypatch, skipped=()):
    """Run every step of a tutorial in ``folder``, except calls of the commands in ``skipped``.

    Output that the page shows is compared line by line: each of its lines must be printed, spaces aside.
    """
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PATH", program_in(folder) + os.pathsep + os.environ["PATH"])
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("MPLBACKEND", "agg")
    printed, names = "", {"__name__": "tutorial"}
    for block in blocks_of(name):
        if block.title:
            Path(block.title).write_text(block.text, encoding="utf-8")
        elif block.language == "bash":
            printed = run_commands(block.text, skipped)
        elif block.language == "python":
            exec(compile(block.text, f"{name}.md", "exec"), names)
        elif block.language == "text":
            missing = [line for line in block.text.splitlines() if squeezed(line) not in squeezed(printed)]
            assert missing == [], f"printed instead:\n{printed}"
    return names


def run_commands(text, skipped):
    lines = [line for line in text.splitlines() if not any(f"difflens-audit {name}" in line for name in skipped)]
    printed = ""
    for line in lines:
        code, output = run_command(line)
        printed += output
        expected = VERDICT_CODES if "difflens-audit run" in line else (0,)
        assert code in expected, f"{line}\n{output}"
    return printed


def run_command(line):
    """Run a line in a shell, or here if it is only a command of the program, which then loads its libraries once."""
    program, *words = shlex.split(line)
    if program == PROGRAM and words[0] not in OWN_PROCESS and not set(line) & set("|&;<>$`"):
        answer = CliRunner().invoke(app, words)
        return answer.exit_code, answer.output + (f"{answer.exception!r}" if answer.exception else "")
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=1500)
    return done.returncode, done.stdout + done.stderr


def squeezed(text):
    """Return the text with every run of blanks as one blank."""
    return " ".join(text.split())


def program_in(folder):
    """Write a start script of the program into a folder, and return that folder."""
    place = folder / ".program"
    place.mkdir(exist_ok=True)
    script = place / "difflens-audit"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ray_jobs "$@"\n', encoding="utf-8")
    script.chmod(0o755)
    return str(place)
