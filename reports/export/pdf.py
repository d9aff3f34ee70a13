"""Prints a page as PDF with a headless Chromium, if there is one on this machine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")
"""Names under which a Chromium is looked for on the PATH."""

_FLAGS = (
    "--headless=new", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run", "--no-default-browser-check", "--no-pdf-header-footer",
)  # fmt: skip
_UNTAGGED = "--disable-pdf-tagging"
_SECONDS = 180

LARGEST_TAGGED = 5_000_000
"""Largest PDF, in bytes, that keeps its structure for screen readers; a larger one is printed again without it, which
more than halves a report with many tables."""

_DATE = re.compile(rb"(/(?:CreationDate|ModDate) \(D:)(\d{14})")


class NoPdfError(RuntimeError):
    """There is no PDF, and why."""


def to_pdf(html: str, created: str, program: str | None = None) -> bytes:
    """Return a page as PDF, made from exactly this HTML, without network.

    Args:
        html: The page.
        created: Time that the PDF states, ``20260131120000``; equal pages then give equal bytes for one Chromium.
        program: The browser; None looks for one on the PATH.

    Raises:
        NoPdfError: If no Chromium is found, or it makes no PDF.
    """
    found = program or next(filter(None, map(shutil.which, PROGRAMS)), None)
    if found is None:
        raise NoPdfError("no Chromium was found on the PATH; install one and make the bundle again")
    data = _printed(found, html)
    if len(data) > LARGEST_TAGGED:
        data = _printed(found, html, _UNTAGGED)
    return _DATE.sub(rb"\g<1>" + created.encode(), data)


def _printed(program: str, html: str, *flags: str) -> bytes:
    with tempfile.TemporaryDirectory() as scratch:
        page, printed = Path(scratch) / "report.html", Path(scratch) / "report.pdf"
        page.write_text(html, encoding="utf-8")
        # Chromium's sandbox refuses to run as root, for example in a container.
        root = ("--no-sandbox",) if hasattr(os, "geteuid") and os.geteuid() == 0 else ()
        own = (f"--user-data-dir={scratch}/profile", f"--print-to-pdf={printed}", page.as_uri())
        command = [program, *_FLAGS, *flags, *root, *own]
        try:
            done = subprocess.run(command, capture_output=True, timeout=_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NoPdfError(f"{program} could not print the report ({error})") from error
        if not printed.is_file():
            raise NoPdfError(f"{program} printed no report (exit code {done.returncode})")
        data = printed.read_bytes()
    if not data.startswith(b"%PDF-"):
        raise NoPdfError(f"{program} printed something that is no PDF")
    return data
