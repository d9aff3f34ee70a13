"""Warns that an attribute is not decided where the lens edits, as far as a finished location map shows it."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from audit.analyses.stored_maps import Located, directories_of_maps, find_map
from audit.config.fields import WITHOUT_NETWORK
from audit.config.mitigations.arms import ArmConfig, sections_of
from audit.config.slices import DissectionRequest
from reports.figures.location_words import not_controllable


def print_location_notes(request: DissectionRequest, output: str, attributes: Sequence[str]) -> None:
    """Print a line on standard error for each attribute that is not decided at the place of the lens.

    Args:
        request: What the lens is made from.
        output: Path or address of the directory that holds maps.
        attributes: Attributes that the lens is made for, or that are edited through it.

    Raises:
        ValueError: A stored map cannot be read.
    """
    if not attributes or request.model.source in WITHOUT_NETWORK:
        return
    located = Located.of(request)
    found = find_map(located, output) if _may_be_found(located, output) else None
    for attribute in attributes if found is not None else ():
        note = found and not_controllable(found, attribute, request.lens.hookpoint)
        if note:
            typer.echo(f"Location map: {note}", err=True)


def _may_be_found(located: Located, output: str) -> bool:
    """Return whether there are maps, and this machine can tell which it is: it may lack the weights or the judge."""
    if not directories_of_maps(located, output):
        return False
    try:
        return bool(located.name)
    except (OSError, ValueError):
        return False


def edited_through_lens(mitigations: Sequence[ArmConfig]) -> tuple[str, ...]:
    """Return the attributes that the mitigations of an audit edit through its lens."""
    return tuple(dict.fromkeys(one.attribute for one in sections_of(mitigations) if one.uses_lens))
