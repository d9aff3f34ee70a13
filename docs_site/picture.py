"""Draws the picture of a report that the documentation shows, from a run that was made again to identical rows.

``python -m docs_site.picture REPLAY`` takes the directory of a replay. It writes ``docs/report.png``: the first screen
of the replay's report. The file says in itself which run it shows, and a test compares that with the model that ships.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from audit.results.replay.outcome import REPLAY
from audit.storage.run_directory import AUDIT, MODEL_FINGERPRINT, REPORT, RunDirectory
from reports.export.browser import Output, printed

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "report.png"
MADE_FROM = "made from"
"""Key of the text in the file: run, replay, verdict and fingerprint of the model."""

WIDTH, HEIGHT = 1400, 910
_FLAGS = (f"--window-size={WIDTH},{HEIGHT}", "--hide-scrollbars", "--force-device-scale-factor=1")
_COLOURS = 128


def draw(replay: RunDirectory, to: Path) -> dict[str, Any]:
    """Write the first screen of a replay's report, and return what the file says of itself.

    Args:
        replay: Directory of the replay.
        to: The picture, a PNG.

    Raises:
        ValueError: The directory holds no replay, or one whose rows are not identical.
        NotPrintedError: There is no Chromium, or it draws nothing.
    """
    found = replay.read_json(REPLAY) if replay.has(REPLAY) else {}
    if found.get("verdict") != "identical":
        raise ValueError(
            f"{replay.path}: expected a replay with identical rows, found {found.get('verdict', 'no ' + REPLAY)}; "
            "run difflens-audit replay RUN"
        )
    result = replay.read_json(AUDIT)
    told = {
        "run": found["run"],
        "replay": found["replay"],
        "verdict": found["verdict"],
        "model": result["provenance"][MODEL_FINGERPRINT],
    }
    html = replay.storage.read(REPORT).decode()
    screen = Image.open(io.BytesIO(printed(html, Output.PNG, *_FLAGS))).convert("RGB")
    text = PngInfo()
    text.add_text(MADE_FROM, json.dumps(told))
    screen.quantize(_COLOURS).save(to, pnginfo=text, optimize=True)
    return told


def made_from(picture: Path) -> dict[str, Any]:
    """Return what a picture says of itself; empty if it says nothing."""
    with Image.open(picture) as image:
        found: dict[str, Any] = json.loads(image.info.get(MADE_FROM, "{}"))
    return found


def main() -> None:
    """Draw the picture of the documentation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("replay", type=Path, help="directory of a replay with identical rows")
    told = draw(RunDirectory(parser.parse_args().replay), PICTURE)
    sys.stdout.write(f"{PICTURE.name}: {told['run']}, made again as {told['replay']}: {told['verdict']}\n")


if __name__ == "__main__":
    main()
