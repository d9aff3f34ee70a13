"""Perceived shares of prompts under other conditions: descriptors, phrasings and guidance scales."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Condition:
    """A condition under which all prompts are sampled.

    Attributes:
        kind: ``plain``, ``descriptor``, ``phrasing`` or ``guidance``.
        name: The word, the template or the scale; empty for ``plain``.
    """

    kind: str
    name: str


@dataclass(frozen=True)
class StressFigure:
    """Fairness discrepancy of one attribute over all prompts and conditions.

    Attributes:
        attribute: The attribute.
        mean: Root of the mean debiased square over all prompts and conditions.
        worst: The same over the worst tenth of these cells. The first half of the images chooses them and the second
            half measures them, so that the choice does not bias it.
        low: Lower end of its 95 % interval, over images.
        high: Upper end.
        cells: Cells of the worst tenth, as prompt and condition, the worst first.
        by_condition: Root of the mean debiased square under each condition, in the order of the conditions; None for a
            condition without classified images.
    """

    attribute: str
    mean: float
    worst: float
    low: float
    high: float
    cells: tuple[tuple[str, str], ...]
    by_condition: tuple[float | None, ...]


@dataclass(frozen=True)
class Shift:
    """How far a condition moves the share of a group in a prompt.

    Attributes:
        prompt: Id of the prompt.
        condition: Index of the condition.
        attribute: The attribute.
        group: The group whose share moves most.
        plain: Its share under the plain prompt.
        share: Its share under the condition.
        change: The difference.
        low: Lower end of its 95 % interval.
        high: Upper end.
        p: p-value of equal distributions over all groups, adjusted by Benjamini and Hochberg over all tests.
        found: Whether it is found at the rate of false discoveries.
    """

    prompt: str
    condition: int
    attribute: str
    group: str
    plain: float
    share: float
    change: float
    low: float
    high: float
    p: float
    found: bool


@dataclass(frozen=True)
class Stress:
    """The result.

    Attributes:
        images: Images of each prompt under each condition.
        conditions: The conditions, the plain one first.
        figures: One for each attribute.
        shifts: One for each prompt, condition and attribute with classified images, found ones first.
    """

    images: int
    conditions: tuple[Condition, ...]
    figures: tuple[StressFigure, ...]
    shifts: tuple[Shift, ...]

    def as_data(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)

    @classmethod
    def of_data(cls, data: Mapping[str, Any]) -> Stress:
        """Read plain data back.

        Raises:
            KeyError: A field is missing.
            TypeError: A field has another form.
        """
        return cls(
            images=data["images"],
            conditions=tuple(Condition(**one) for one in data["conditions"]),
            figures=tuple(_figure(one) for one in data["figures"]),
            shifts=tuple(Shift(**one) for one in data["shifts"]),
        )


def _figure(data: Mapping[str, Any]) -> StressFigure:
    cells = tuple((prompt, condition) for prompt, condition in data["cells"])
    return StressFigure(**{**data, "cells": cells, "by_condition": tuple(data["by_condition"])})
