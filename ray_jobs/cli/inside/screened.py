"""Writes the config of an audit of the prompts that a screen ranked as most extreme."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from audit.records.inside.exploration import Axis, Exploration
from audit.storage.files import storage_of
from audit.storage.place import Place
from ray_jobs.run.inside.explore import ExploreRequest

SCREENED = "screened.yaml"


def extremes(found: Exploration, axes: Sequence[Axis], keep: int) -> tuple[str, ...]:
    """Return the prompts at both ends of some axes, from the most extreme, each once.

    Args:
        found: The screen.
        axes: The axes.
        keep: Prompts of each end.
    """
    chosen: dict[str, None] = {}
    for axis in axes:
        scores = found.of_axis(axis.name)
        for place in range(min(keep, len(scores))):
            chosen |= {scores[place].prompt: None, scores[-1 - place].prompt: None}
    return tuple(chosen)


def write_screened(
    settings: dict[str, Any], request: ExploreRequest, found: Exploration, place: Place, keep: int
) -> Place:
    """Write the config beside the screen, and return its place.

    Paths in it are those of the config that it is made from, so it is used from the same directory.

    Args:
        settings: Settings of the audit that was screened, as plain data; they are changed.
        request: The screen that was asked for.
        found: The screen.
        place: Directory of the screen.
        keep: Prompts of each end of each axis.
    """
    names = {prompt.id: prompt.occupation for prompt in request.prompts}
    occupations = [names[prompt] for prompt in extremes(found, request.axes, keep)]
    settings["name"] = f"{settings['name']}-screened"
    settings["prompts"] = settings.get("prompts", {}) | {"occupations": occupations}
    head = (
        f"# Made by difflens-audit explore --screen: {len(occupations)} prompts at the ends of the axes, ranked by\n"
        "# one call of the denoiser. `difflens-audit plan` prints the power of this audit.\n"
    )
    text = head + yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
    storage_of(place).write(SCREENED, text.encode())
    return place / SCREENED
