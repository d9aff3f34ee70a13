"""Rankings of methods: the best of a column, and whether two ways to look give the same order.

Kendall's τ-b counts the pairs of methods that both ways put in the same order, minus those in opposite order (Kendall
1945, Biometrika 33). With few methods it says little, so its n and its p-value stand beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import kendalltau

from audit.records.result import AuditResult
from audit.records.work import BASELINE
from audit.results.arm_rows import ArmRows
from audit.results.benchmark.rows import MethodRow, part_discrepancy
from audit.results.benchmark.steered import Figure
from audit.results.second_opinions import CommonAnswers

LEAST_METHODS = 3
"""Fewest methods with an order to compare: two methods have one pair."""

Better = Literal["low", "high"]


@dataclass(frozen=True)
class Agreement:
    """Whether a ranking of methods by discrepancy is the same in another way to look.

    Attributes:
        model: Name of the model.
        attribute: The attribute.
        compared: What is compared with the ranking of all images by the main judge.
        tau: Kendall's τ-b, from −1 to 1; None if one of both rankings puts all methods on one place.
        p_value: p-value of no association, None with ``tau``.
        n: Methods in both rankings.
    """

    model: str
    attribute: str
    compared: str
    tau: float | None
    p_value: float | None
    n: int


def best_of(figures: Sequence[Figure | None], better: Better) -> int | None:
    """Return the place of the best figure, if its interval is separate from those of all others; else None.

    Args:
        figures: A column; None where a method has no figure.
        better: Whether a low or a high figure is better.
    """
    sign = 1.0 if better == "low" else -1.0
    known = [(place, figure) for place, figure in enumerate(figures) if figure is not None]
    if len(known) < 2:
        return None
    ends = [(place, _ends(figure, sign)) for place, figure in known]
    place = min(known, key=lambda item: sign * item[1].value)[0]
    upper = next(end[1] for number, end in ends if number == place)
    separate = all(upper < lower for number, (lower, _) in ends if number != place)
    return place if separate else None


def _ends(figure: Figure, sign: float) -> tuple[float, float]:
    """Return the ends of an interval where low is better, without limit if it is not known."""
    if figure.low is None or figure.high is None:
        return -math.inf, math.inf
    low, high = sorted((sign * figure.low, sign * figure.high))
    return low, high


def agreement_of(model: str, attribute: str, compared: str, pairs: Sequence[tuple[float, float]]) -> Agreement | None:
    """Compare two rankings, None for fewer than ``LEAST_METHODS`` methods.

    Args:
        model: Name of the model.
        attribute: The attribute.
        compared: What the second ranking is from.
        pairs: Discrepancy of each method in both.
    """
    if len(pairs) < LEAST_METHODS:
        return None
    found = kendalltau(*np.array(pairs).T)
    tau, p_value = float(found.statistic), float(found.pvalue)
    known = not np.isnan(tau)
    return Agreement(model, attribute, compared, tau if known else None, p_value if known else None, len(pairs))


def held_out_agreements(rows: Sequence[MethodRow]) -> Iterator[Agreement]:
    """Yield how the rankings of held-out prompts agree with those of the other prompts."""
    seen = {_key(row): row.after.value for row in rows if row.is_main and row.after is not None}
    by_place: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in rows:
        if row.held_out and row.after is not None and _key(row) in seen:
            by_place.setdefault((row.model, row.attribute), []).append((seen[_key(row)], row.after.value))
    for (model, attribute), pairs in by_place.items():
        found = agreement_of(model, attribute, "held-out prompts", pairs)
        if found is not None:
            yield found


def image_agreements(
    rows: Sequence[MethodRow], result: AuditResult, arms: Mapping[str, ArmRows], answers: Sequence[CommonAnswers]
) -> Iterator[Agreement]:
    """Yield how rankings of one run agree: of the halves of its images, and of each second judge with the main judge.

    Args:
        rows: Rows of the run.
        result: Result of the run.
        arms: Images of every arm.
        answers: Answers of the second judges.
    """
    for attribute in dict.fromkeys(row.attribute for row in rows):
        own = [row for row in rows if row.attribute == attribute]
        goals = {
            r.prompt_id: list(r.target.values())
            for r in result.results
            if (r.arm, r.attribute) == (BASELINE, attribute)
        }
        halves = [_halves(arms[row.arm], attribute, goals) for row in own]
        yield from _agreements(own[0], "halves of the seeds", halves)
        for judge in dict.fromkeys(found.judge for found in answers):
            by_arm = {a.arm: a for a in answers if a.judge == judge and a.attribute.name == attribute}
            views = [_both(by_arm[row.arm], goals) for row in own if row.arm in by_arm]
            yield from _agreements(own[0], f"second judge {judge}, images that both classified", views)


Pair = tuple[float | None, float | None]
Goals = Mapping[str | None, Sequence[float]]


def _agreements(row: MethodRow, compared: str, pairs: Sequence[Pair]) -> Iterator[Agreement]:
    known = [(first, second) for first, second in pairs if first is not None and second is not None]
    found = agreement_of(row.model, row.attribute, compared, known)
    if found is not None:
        yield found


def _halves(rows: ArmRows, attribute: str, goals: Goals) -> Pair:
    """Return the discrepancies of the images with even and with odd numbers in each prompt."""
    known, codes, prompts = rows.known(attribute), rows.codes(attribute), rows.prompt_numbers()
    numbers = np.concatenate([np.arange(place.stop - place.start) for place in rows.prompts.values()])
    targets = np.array([goals[prompt] for prompt in rows.prompts])
    first, second = (
        part_discrepancy(codes[chosen], prompts[chosen], targets)
        for chosen in (known & (numbers % 2 == 0), known & (numbers % 2 == 1))
    )
    return first, second


def _both(answers: CommonAnswers, goals: Goals) -> Pair:
    """Return the discrepancies by the main and by the second judge."""
    targets = np.array([goals[prompt] for prompt in answers.prompts])
    if not len(targets):
        return None, None
    return part_discrepancy(answers.first, answers.codes, targets), part_discrepancy(
        answers.second, answers.codes, targets
    )


def _key(row: MethodRow) -> tuple[str, tuple[str, ...], str, str]:
    return row.model, row.balanced, row.attribute, row.arm
