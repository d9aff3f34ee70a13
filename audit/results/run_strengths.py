"""Strengths of the edits of one run, found before its first image and stored in the run."""

from __future__ import annotations

import json

from audit.dissect.settings import STEERING_FILE
from audit.dissect.strengths import Strengths, strengths_as_data, strengths_of_data
from audit.storage.files import Storage, storage_of
from audit.storage.outside.json_object import json_object
from audit.storage.run_directory import LENS, RunDirectory

SEARCHED = "strengths.json"
"""File in the run: mitigation → prompt id → group → strength with its trials."""


def keep_searched(run: RunDirectory, strengths: Strengths) -> None:
    """Store the strengths, so that all workers and later attempts use the same ones."""
    run.write_json(SEARCHED, strengths_as_data(strengths))


def searched_of(run: RunDirectory) -> Strengths:
    """Return the strengths by mitigation, prompt id and group; empty if none were searched."""
    return strengths_of_data(run.read_json(SEARCHED)) if run.has(SEARCHED) else {}


def keep_steering(run: RunDirectory, strengths: Strengths) -> None:
    """Store the strengths of edits through the lens, so that all workers and later attempts use the same ones."""
    storage_of(run.file(LENS)).write(
        STEERING_FILE, (json.dumps(strengths_as_data(strengths), indent=1) + "\n").encode()
    )


def steering_of(run: RunDirectory) -> Strengths:
    """Return the strengths of a run's own prompts, by attribute; empty if none were searched or predicted."""
    return steering_in(storage_of(run.file(LENS)))


def steering_in(lens: Storage) -> Strengths:
    """Return the strengths beside a lens's card in a run, by attribute; empty if there are none."""
    if not lens.has(STEERING_FILE):
        return {}
    return strengths_of_data(json_object(lens.read(STEERING_FILE), f"{STEERING_FILE}: expected strengths"))


def rungs_drawn(strengths: Strengths, name: str) -> int:
    """Count the strengths that were tried, over all prompts and groups; each was tried with equally many images.

    Args:
        strengths: The strengths.
        name: Mitigation, or attribute of a lens.
    """
    return sum(len(group.tried) for groups in strengths.get(name, {}).values() for group in groups.values())
