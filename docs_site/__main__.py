"""Assembles the pages of the site in a folder, for ``make docs``: ``python -m docs_site build/docs``."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

from docs_site.cli_page import cli_page
from docs_site.config_page import config_page
from docs_site.markdown import code, table
from docs_site.result_page import result_page
from reports.frames import COLUMNS

ROOT = Path(__file__).resolve().parents[1]
GENERATED = {
    "reference/cli.md": cli_page,
    "reference/config.md": config_page,
    "reference/result.md": result_page,
}
"""Pages that the program itself describes; they are never committed."""

MADE_PAGES = (*GENERATED, "decisions/index.md", "contributing.md")
"""Pages of the site that are not in ``docs/``."""

COLUMNS_HERE = "<!-- columns of the frames -->"
"""Where the page on the Python API shows what the columns of the frames hold."""


def assemble(folder: Path) -> None:
    """Write every page of the site to ``folder``, which is emptied first."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "docs", folder)
    for name, page in GENERATED.items():
        (folder / name).write_text(page(), encoding="utf-8")
    (folder / "decisions" / "index.md").write_text(decisions_page(), encoding="utf-8")
    python = folder / "reference" / "python.md"
    python.write_text(python.read_text(encoding="utf-8").replace(COLUMNS_HERE, frame_columns()), encoding="utf-8")
    (folder / "contributing.md").write_text(contributing_page(), encoding="utf-8")


def frame_columns() -> str:
    """Return a table of columns for each frame of a result."""
    lines = ["## Columns of the frames", "", "A frame is a table of `result_frames`.", ""]
    for frame, columns in COLUMNS.items():
        rows = ((code(name), meaning) for name, meaning in columns.items())
        lines += [f"### {frame}", "", *table(("column", "meaning"), rows)]
    return "\n".join(lines)


def decisions_page() -> str:
    """Return a page that lists every decision by its title."""
    lines = [
        "# Decisions",
        "",
        "Why things are as they are. One page per decision, in the order in which they were taken.",
        "",
    ]
    for page in sorted((ROOT / "docs" / "decisions").glob("*.md")):
        title = page.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
        lines.append(f"- [{title.replace('. ', ' · ', 1)}]({page.name})")
    return "\n".join([*lines, ""])


def contributing_page() -> str:
    """Return CONTRIBUTING.md with its links into ``docs/`` made relative to the site."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return re.sub(r"\]\(docs/", "](", text)


if __name__ == "__main__":
    assemble(Path(sys.argv[1]))
