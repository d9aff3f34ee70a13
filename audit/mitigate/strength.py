"""Closed-loop search of edit strengths: the weakest edit that makes the images show the group they are steered to.

Each prompt and group has a strength of its own: one for all leaves the most skewed occupations behind and disturbs the
others for nothing. The seeds are held out: no audit draws them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from audit.config.sections import MitigationConfig
from audit.dissect.lens import Lens
from audit.measure.judges import Judge
from audit.mitigate import steered_arm
from audit.mitigate.difflens import Steering
from audit.models.arm import Arm
from audit.models.generator import DiffusionGenerator
from audit.records import Prompt, derive_seed

LADDER = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
"""Strengths that are tried, by bisection: 1 makes features fire as they do for their own group."""
SUFFICIENT = 0.92
"""Mean probability of the assigned group at which an edit is strong enough."""


def search_strengths(
    generator: DiffusionGenerator, judge: Judge, lens: Lens, prompt: Prompt, attribute: str, images: int
) -> dict[str, float]:
    """Find the strength of each group by bisection over ``LADDER``, all groups in the same batches.

    The probability that an image shows its assigned group rises with the strength until the edit begins to do harm; a
    group that no strength makes sufficient gets the one under which it was most probable.

    Args:
        generator: The model.
        judge: Sees the groups.
        lens: With features for the attribute.
        prompt: Whose strengths.
        attribute: Whose groups.
        images: Held-out images of each group and round.
    """
    groups = lens.groups[attribute]
    low, high = dict.fromkeys(groups, -1), dict.fromkeys(groups, len(LADDER) - 1)
    seen: dict[str, dict[int, float]] = {group: {} for group in groups}
    while any(high[g] - low[g] > 1 for g in groups):
        rung = {g: (low[g] + high[g]) // 2 for g in groups}
        arm, seeds = _steered(lens, prompt, attribute, {g: LADDER[r] for g, r in rung.items()}, images)
        seen_groups = judge.perceive(generator.generate(prompt, seeds, arm), prompt.occupation)
        shown = _shown(seen_groups.probabilities[attribute], arm.assigned, groups)
        for group in groups:
            seen[group][rung[group]] = shown[group]
            if shown[group] >= SUFFICIENT:
                high[group] = rung[group]
            else:
                low[group] = rung[group]
    return {group: LADDER[_best(seen[group], high[group])] for group in groups}


def _best(shown: dict[int, float], sufficient: int) -> int:
    if sufficient in shown or not shown:
        return sufficient
    # The top of the ladder was never drawn: take it unless a lower rung already did as well as edits can.
    best = max(shown, key=lambda rung: shown[rung])
    return best if shown[best] > shown[max(shown)] + 0.05 else sufficient


def _steered(
    lens: Lens, prompt: Prompt, attribute: str, strengths: Mapping[str, float], images: int
) -> tuple[Arm, list[int]]:
    """An arm with ``images`` images of each group, and their held-out seeds."""
    mitigation = MitigationConfig(name="strength-search", method="difflens", attribute=attribute)
    assigned = tuple(group for group in strengths for _ in range(images))
    arm = steered_arm(mitigation, lens, Steering(assigned, tuple(strengths[group] for group in assigned)))
    return arm, [derive_seed("strength", prompt.id, i) for i in range(len(assigned))]


def _shown(
    probabilities: NDArray[np.float32], assigned: Sequence[str | None], groups: Sequence[str]
) -> dict[str, float]:
    """Mean probability that an image shows the group it was assigned."""
    own = {group: [a == group for a in assigned] for group in groups}
    return {group: float(probabilities[own[group], column].mean()) for column, group in enumerate(groups)}
