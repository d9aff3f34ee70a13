"""Two attributes at once: combinations of groups, and whether the attributes go together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from audit.records.estimates import Estimate


@dataclass(frozen=True)
class Cell:
    """One combination of two attributes' groups.

    Attributes:
        groups: A group of each attribute, in their order.
        share: Share of the images classified in both attributes; ``n`` is their number.
        count: Images of this combination.
        expected: Images that independent attributes with the same shares would have here, prompt by prompt.
        small: Whether both ``count`` and ``expected`` are too few to read a share from.
    """

    groups: tuple[str, str]
    share: Estimate
    count: int
    expected: float
    small: bool


@dataclass(frozen=True)
class Dependence:
    """Whether two attributes go together within prompts.

    Attributes:
        statistic: G of one prompt's table; over prompts the generalised Cochran-Mantel-Haenszel statistic.
        p_value: Of independence.
        p_adjusted: The same after Benjamini and Hochberg, over the prompts and pairs of the arm; over all prompts
            ``p_value`` itself.
        method: ``exact`` (every 2 × 2 table), ``monte_carlo`` (random tables, fixed seed) or
            ``cochran_mantel_haenszel`` (over prompts, by its limiting χ² distribution).
        cramers_v: Cramér's V in [0, 1], bias-corrected; over prompts their root mean square, and ``n`` is how many.
    """

    statistic: float
    p_value: float
    p_adjusted: float
    method: Literal["exact", "monte_carlo", "cochran_mantel_haenszel"]
    cramers_v: Estimate


@dataclass(frozen=True)
class Intersection:
    """Two attributes at once, in one arm: of one prompt, or of all (``prompt_id`` None).

    Attributes:
        prompt_id: The prompt.
        arm: The arm.
        attributes: Names of the two attributes.
        n: Images classified in both.
        cells: Every combination of groups, also those that no image shows; over all prompts their images pooled.
        dependence: Whether the two go together; None where an attribute shows a single group in every prompt.
    """

    prompt_id: str | None
    arm: str
    attributes: tuple[str, str]
    n: int
    cells: tuple[Cell, ...]
    dependence: Dependence | None
