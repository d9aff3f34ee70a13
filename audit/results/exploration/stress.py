"""Prompt stress: discrepancies over all prompts and conditions, the worst tenth of them, and what each condition moves.

Legend: C conditions, P prompts, K groups of an attribute.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit.measure.discrepancy.estimate import debiased_squared_of_counts, display
from audit.measure.inference.multiplicity import benjamini_hochberg
from audit.measure.shares.changes import fisher_p_value, two_sample_share_difference
from audit.records.inside.stress import Condition, Shift, Stress, StressFigure

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]

_RESAMPLES = 2000
_WORST = 0.1
_LEAST = 2
"""Classified images of a half from which a cell has a discrepancy."""


def stress_of(
    halves: Mapping[str, Ints], groups: Mapping[str, Sequence[str]], prompts: Sequence[str],
    conditions: Sequence[Condition], images: int, rate: float,
) -> Stress:  # fmt: skip
    """Summarise the counts of all conditions.

    Args:
        halves: Attribute → counts (2, C, P, K) of perceived groups, from two halves of the images.
        groups: Attribute → its groups.
        prompts: Ids of the prompts.
        conditions: The conditions, the plain one first.
        images: Images of each prompt under each condition.
        rate: Rate of false discoveries, over all prompts, conditions and attributes.
    """
    names = [f"guidance {one.name}" if one.kind == "guidance" else one.name or one.kind for one in conditions]
    figures = [_figure(attribute, counts, prompts, names) for attribute, counts in halves.items()]
    shifts = [
        shift
        for attribute, counts in halves.items()
        for shift in _shifts(attribute, groups[attribute], counts.sum(0), prompts)
    ]
    return Stress(images, tuple(conditions), tuple(one for one in figures if one is not None), _tested(shifts, rate))


def _figure(attribute: str, counts: Ints, prompts: Sequence[str], names: Sequence[str]) -> StressFigure | None:
    """Return the figures of one attribute; None if no cell has classified images in both halves."""
    cells = [(c, p) for c in range(counts.shape[1]) for p in range(counts.shape[2])]
    cells = [cell for cell in cells if (counts[:, *cell].sum(1) >= _LEAST).all()]
    if not cells:
        return None
    whole = {cell: _square(counts[:, *cell].sum(0)) for cell in cells}
    worst = sorted(cells, key=lambda cell: -_square(counts[0, *cell]))[: max(1, round(_WORST * len(cells)))]
    measured = np.stack([counts[1, *cell] for cell in worst])
    low, high = _interval(measured)
    return StressFigure(
        attribute=attribute,
        mean=display(float(np.mean(list(whole.values())))),
        worst=display(float(np.mean([_square(row) for row in measured]))),
        low=low,
        high=high,
        cells=tuple((prompts[p], names[c]) for c, p in worst),
        by_condition=tuple(_mean([square for (of, _), square in whole.items() if of == c]) for c in range(len(names))),
    )


def _mean(squares: Sequence[float]) -> float | None:
    """Return the root of the mean square; None if no cell of a condition has classified images."""
    return display(float(np.mean(squares))) if squares else None


def _square(counts: Ints) -> float:
    """Return the debiased squared distance from equal shares."""
    return debiased_squared_of_counts(counts, np.full(len(counts), 1 / len(counts)))


def _interval(counts: Ints) -> tuple[float, float]:
    """Return the basic bootstrap interval, over images, of the root of the mean debiased square of cells (n, K).

    A resample estimates the plain square of the observed shares without bias. So its error is the difference from that
    square, and not from the debiased one, which is smaller.
    """
    random = np.random.default_rng(0)
    n = counts.sum(1)
    drawn = np.stack(
        [random.multinomial(int(total), row / total, _RESAMPLES) for total, row in zip(n, counts, strict=True)]
    )
    shares = drawn / n[:, None, None]
    squares = ((shares - 1 / counts.shape[1]) ** 2).sum(2) - (shares * (1 - shares)).sum(2) / (n[:, None] - 1)
    value = float(np.mean([_square(row) for row in counts]))
    observed = float(((counts / n[:, None] - 1 / counts.shape[1]) ** 2).sum(1).mean())
    low, high = np.quantile(squares.mean(0) - observed, (0.025, 0.975))
    return display(value - float(high)), display(value - float(low))


def _shifts(attribute: str, groups: Sequence[str], counts: Ints, prompts: Sequence[str]) -> list[Shift]:
    """Compare every condition (from the second on) with the plain one, from counts (C, P, K)."""
    found = []
    for condition in range(1, len(counts)):
        for place, prompt in enumerate(prompts):
            plain, other = counts[0, place], counts[condition, place]
            if not plain.sum() or not other.sum():
                continue
            moved = int(np.abs(other / other.sum() - plain / plain.sum()).argmax())
            k1, n1, k2, n2 = int(plain[moved]), int(plain.sum()), int(other[moved]), int(other.sum())
            change = two_sample_share_difference(k1, n1, k2, n2)
            found.append(
                Shift(
                    prompt=prompt, condition=condition, attribute=attribute, group=groups[moved], plain=k1 / n1,
                    share=k2 / n2, change=change.value, low=change.low, high=change.high,
                    p=_p_value(plain, other), found=False,
                )
            )  # fmt: skip
    return found


def _p_value(plain: Ints, other: Ints) -> float:
    """Return the p-value of equal shares: Fisher's exact test of each group, by Bonferroni over more than two."""
    n1, n2 = int(plain.sum()), int(other.sum())
    each = [fisher_p_value(int(k1), n1, int(k2), n2) for k1, k2 in zip(plain, other, strict=True)]
    return min(1.0, min(each) * (len(each) if len(each) > 2 else 1))


def _tested(shifts: Sequence[Shift], rate: float) -> tuple[Shift, ...]:
    if not shifts:
        return ()
    adjusted = benjamini_hochberg([one.p for one in shifts])
    marked = [replace(one, p=float(p), found=bool(p <= rate)) for one, p in zip(shifts, adjusted, strict=True)]
    return tuple(sorted(marked, key=lambda one: (not one.found, -abs(one.change), one.prompt, one.condition)))
