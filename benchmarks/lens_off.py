"""A disabled lens, for tests that a monitored audit detects the change."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from audit.calibration.bundle import bundle_of
from audit.config.sections import ModelConfig
from audit.dissect.settings import LENS_FILE
from audit.dissect.strengths import GroupStrength

OFF = GroupStrength(0.0, "searched").as_data()


def copy_bundled_lens(folder: Path) -> None:
    """Copy the lens of the bundled calibration model into a folder that does not exist yet."""
    [lens] = bundle_of(ModelConfig()).lenses.iterdir()
    shutil.copytree(lens, folder)


def switch_off(lens: Path) -> None:
    """Set every strength of a lens to 0, so that edits leave images unchanged."""
    path = lens / LENS_FILE
    data = json.loads(path.read_text())
    data["strengths"] = {
        attribute: {prompt: {group: dict(OFF) for group in groups} for prompt, groups in prompts.items()}
        for attribute, prompts in data["strengths"].items()
    }
    path.write_text(json.dumps(data))
