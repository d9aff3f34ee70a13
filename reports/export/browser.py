"""Prints a page as PDF or as a picture with a headless Chromium, if there is one on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from enum import Enum
from pathlib import Path

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")
"""Names under which a Chromium is looked for on the PATH."""

_FLAGS = (
    "--headless=new", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run", "--no-default-browser-check",
)  # fmt: skip
_SECONDS = 180


class NotPrintedError(RuntimeError):
    """A page could not be printed, and why."""


class Output(Enum):
    """What a page is printed as: the flag that names the file, its suffix, and its first bytes."""

    PDF = ("--print-to-pdf", "pdf", b"%PDF-")
    PNG = ("--screenshot", "png", b"\x89PNG")


def printed(html: str, output: Output, *flags: str, program: str | None = None) -> bytes:
    """Return a page in another form, made from exactly this HTML, without network.

    Args:
        html: The page.
        output: The form.
        flags: Further flags of Chromium.
        program: The browser; None looks for one on the PATH.

    Raises:
        NotPrintedError: If no Chromium is found, or it prints nothing.
    """
    found = program or next(filter(None, map(shutil.which, PROGRAMS)), None)
    if found is None:
        raise NotPrintedError("no Chromium was found on the PATH; install one and run the command again")
    flag, suffix, magic = output.value
    with tempfile.TemporaryDirectory() as scratch:
        page, file = Path(scratch) / "report.html", Path(scratch) / f"report.{suffix}"
        page.write_text(html, encoding="utf-8")
        # Chromium's sandbox refuses to run as root, for example in a container.
        root = ("--no-sandbox",) if hasattr(os, "geteuid") and os.geteuid() == 0 else ()
        own = (f"--user-data-dir={scratch}/profile", f"{flag}={file}", page.as_uri())
        command = [found, *_FLAGS, *flags, *root, *own]
        try:
            done = subprocess.run(command, capture_output=True, timeout=_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NotPrintedError(f"{found} could not print the report ({error})") from error
        if not file.is_file():
            raise NotPrintedError(f"{found} printed no report (exit code {done.returncode})")
        data = file.read_bytes()
    if not data.startswith(magic):
        raise NotPrintedError(f"{found} printed something that is no {suffix.upper()}")
    return data
