"""Compares the distribution of the attributes that an arm steers, one or several together, with its own target."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit.measure.discrepancy.group_measures import MEASURES, MOST_GROUPS
from audit.records.arms.joint import Cell, JointCell, JointResult
from audit.records.estimates import Estimate
from audit.results.arm_rows import ArmRows

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class JointTarget:
    """What an arm steers: one attribute, or several together.

    Attributes:
        groups: Attribute → its groups, in the order of the arm's parts.
        shares: Share of images that is steered to each combination of groups.
    """

    groups: Mapping[str, tuple[str, ...]]
    shares: Mapping[Cell, float]


def joint_results(arms: Mapping[str, ArmRows], targets: Mapping[str, JointTarget]) -> tuple[JointResult, ...]:
    """Return how near each joint arm, and the baseline beside it, is to the arm's joint target.

    Images without a group of every steered attribute are left out. The interval is that of independent images, which is
    too wide for assigned ones (:func:`audit.measure.discrepancy.group_measures.group_measures`).

    Args:
        arms: Arm → its rows, the baseline first.
        targets: Joint arm → its target.
    """
    return tuple(found for arm, target in targets.items() for found in _of_target(arms, arm, target))


def _of_target(arms: Mapping[str, ArmRows], arm: str, target: JointTarget) -> Iterator[JointResult]:
    for rows in (next(iter(arms.values())), arms[arm]):
        counts = joint_counts(rows, target)
        yield _result(rows, counts, None, arm, target)
        for prompt, own in zip(rows.prompts, counts, strict=True):
            yield _result(rows, own[None], prompt, arm, target)


def joint_counts(rows: ArmRows, target: JointTarget) -> Ints:
    """Return how many images of each prompt show each combination, shape (prompts, combinations)."""
    codes = np.stack([rows.codes(name) for name in target.groups])
    known = (codes >= 0).all(axis=0)
    cells = np.ravel_multi_index(tuple(codes[:, known]), [len(groups) for groups in target.groups.values()])
    size, prompts = len(target.shares), len(rows.prompts)
    found = np.bincount(rows.prompt_numbers()[known] * size + cells, minlength=prompts * size)
    return np.asarray(found.reshape(prompts, size), dtype=np.int64)


def _result(rows: ArmRows, counts: Ints, prompt: str | None, arm: str, target: JointTarget) -> JointResult:
    cells = tuple(itertools.product(*target.groups.values()))
    goal = np.array([target.shares[cell] for cell in cells])
    images = counts.sum(axis=0)
    n = int(images.sum())
    shares = images / n if n else np.zeros(len(cells))
    measured = None
    if n and len(cells) <= MOST_GROUPS:
        measured = MEASURES["total_variation"].of(counts[0] if prompt is not None else counts, goal)
    return JointResult(
        prompt_id=prompt,
        arm=rows.arm,
        target_of=arm,
        attributes=tuple(target.groups),
        n=n,
        cells=tuple(map(JointCell, cells, goal.tolist(), shares.tolist())) if n else (),
        plug_in=float(np.abs(shares - goal).sum() / 2) if n else None,
        total_variation=None if measured is None else Estimate(measured.value, measured.low, measured.high, measured.n),
        expected_at_target=None if measured is None else measured.expected_at_target,
        shown=_shown(rows, prompt, target),
    )


def _shown(rows: ArmRows, prompt: str | None, target: JointTarget) -> dict[str, float]:
    """Return how often images show the group that they are steered to, by steered attribute."""
    here = slice(None) if prompt is None else rows.prompts[prompt]
    found = {}
    for name, groups in target.groups.items():
        codes, steered = rows.codes(name)[here], rows.steered.get(name)
        known = codes >= 0
        if steered is not None and known.any():
            found[name] = float((np.array(groups)[codes[known]] == steered[here][known]).mean())
    return found
