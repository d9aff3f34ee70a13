"""Strengths of edits that were found for one run, stored in the run.

Edits through a lens and edits without one are apart: the lens holds the strengths of its own prompts, and the run those
of the others.
"""

from __future__ import annotations

import json

from audit.dissect.settings import STEERING_FILE
from audit.dissect.strengths import Strengths, strengths_as_data, strengths_of_data
from audit.storage.files import Storage, storage_of
from audit.storage.outside.json_object import json_object
from audit.storage.run_directory import LENS, RunDirectory

SEARCHED = "strengths.json"
"""File in the run: mitigation → prompt id → group → strength with its trials, of edits without a lens."""


def steering_of(run: RunDirectory) -> Strengths:
    """Return the strengths of a run's own prompts for a lens, by attribute; empty if none were found."""
    return steering_in(storage_of(run.file(LENS)))


def steering_in(storage: Storage) -> Strengths:
    """Return the same from the directory of the lens in the run."""
    if not storage.has(STEERING_FILE):
        return {}
    found = json_object(storage.read(STEERING_FILE), f"{STEERING_FILE}: expected strengths")
    return strengths_of_data(found)


def keep_steering(run: RunDirectory, strengths: Strengths) -> None:
    """Store the strengths of a run's own prompts, so that all workers and later attempts use the same ones."""
    storage_of(run.file(LENS)).write(
        STEERING_FILE, (json.dumps(strengths_as_data(strengths), indent=1) + "\n").encode()
    )


def searched_of(run: RunDirectory) -> Strengths:
    """Return the strengths of edits without a lens by mitigation, prompt id and group; empty if none were searched."""
    return strengths_of_data(run.read_json(SEARCHED)) if run.has(SEARCHED) else {}


def keep_searched(run: RunDirectory, strengths: Strengths) -> None:
    """Store the strengths of edits without a lens."""
    run.write_json(SEARCHED, strengths_as_data(strengths))
