"""Occupations of a model's calibration world, read from its table of shares."""

from __future__ import annotations

from audit.config.fields import GENERATED_HERE
from audit.config.sections import ModelConfig


def known_occupations(model: ModelConfig) -> tuple[str, ...] | None:
    """Return the occupations of a model's calibration world, None for a model from outside.

    Raises:
        ValueError: If the world's table cannot be read, or is none.
    """
    if model.source not in GENERATED_HERE:
        return None
    from audit.calibration.bundle import world_table
    from audit.calibration.world import World

    try:
        return tuple(World.load(world_table(model)).occupations)
    except OSError as error:
        raise ValueError(f"expected a path that can be looked at, found {error.strerror}") from error
