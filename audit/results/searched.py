"""Strengths that were searched for the edits of one run, stored in the run."""

from __future__ import annotations

from audit.dissect.strengths import Strengths, strengths_as_data, strengths_of_data
from audit.storage.run_directory import RunDirectory

SEARCHED = "strengths.json"
"""File in the run: mitigation → prompt id → group → strength with its trials."""


def keep_searched(run: RunDirectory, strengths: Strengths) -> None:
    """Store the strengths, so that all workers and later attempts use the same ones."""
    run.write_json(SEARCHED, strengths_as_data(strengths))


def searched_of(run: RunDirectory) -> Strengths:
    """Return the strengths by mitigation, prompt id and group; empty if none were searched."""
    return strengths_of_data(run.read_json(SEARCHED)) if run.has(SEARCHED) else {}


def rungs_drawn(strengths: Strengths, name: str) -> int:
    """Count the strengths that were tried, over all prompts and groups; each was tried with equally many images.

    Args:
        strengths: The strengths.
        name: Mitigation, or attribute of a lens.
    """
    return sum(len(group.tried) for groups in strengths.get(name, {}).values() for group in groups.values())
