"""Intersections of two attributes: shares of combined groups, and the association of the attributes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from audit.records.estimates import Estimate


@dataclass(frozen=True)
class Cell:
    """One combination of two attributes' groups.

    Attributes:
        groups: One group of each attribute, in the order of the attributes.
        share: Share of the images classified in both attributes; ``n`` is their number.
        count: Images of this combination.
        expected: Expected number of images if the attributes are independent within each prompt.
        small: Whether both ``count`` and ``expected`` are too small for a useful share.
    """

    groups: tuple[str, str]
    share: Estimate
    count: int
    expected: float
    small: bool


@dataclass(frozen=True)
class Dependence:
    """Association of two attributes within prompts.

    Attributes:
        statistic: G statistic of one prompt's table; over prompts the generalised Cochran-Mantel-Haenszel statistic.
        p_value: p-value of the hypothesis that the attributes are independent.
        p_adjusted: The p-value after the Benjamini-Hochberg adjustment over the prompts and pairs of the arm; for all
            prompts together ``p_value`` itself.
        method: ``exact`` (every 2 × 2 table), ``monte_carlo`` (random tables, fixed seed) or
            ``cochran_mantel_haenszel`` (over prompts, by its asymptotic χ² distribution).
        cramers_v: Cramér's V in [0, 1], bias-corrected; over prompts the root mean square, and ``n`` is the number of
            prompts.
    """

    statistic: float
    p_value: float
    p_adjusted: float
    method: Literal["exact", "monte_carlo", "cochran_mantel_haenszel"]
    cramers_v: Estimate


@dataclass(frozen=True)
class Intersection:
    """Two attributes in one arm, for one prompt or for all prompts (``prompt_id`` None).

    Attributes:
        prompt_id: The prompt.
        arm: The arm.
        attributes: Names of the two attributes.
        n: Images classified in both.
        cells: All combinations of groups, including those without an image; for all prompts, their images pooled.
        dependence: Association of the two; None if an attribute has only one group in every prompt.
    """

    prompt_id: str | None
    arm: str
    attributes: tuple[str, str]
    n: int
    cells: tuple[Cell, ...]
    dependence: Dependence | None
