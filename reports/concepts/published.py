"""Figures of "Emergence and Evolution of Interpretable Concepts in Diffusion Models" (arXiv 2504.15473).

Stable Diffusion 1.4, 50 steps, its own dictionaries, 10 objects or styles. The tables of the paper are used; its prose
names early and late the other way round.
"""

from __future__ import annotations

from collections.abc import Mapping

SOURCE = "arXiv 2504.15473, Stable Diffusion 1.4"

FIRST_STEP_IOU = 0.26
"""Mean intersection over union of the layout that mid block concepts predict at the first step; it stays about the same
from half-way on, and the up block is the best. Other values are in a figure alone."""

STAGES: Mapping[tuple[str, str], float] = {
    ("spatial", "early"): 0.80,
    ("spatial", "middle"): 0.35,
    ("spatial", "final"): 0.23,
    ("style", "early"): 0.69,
    ("style", "middle"): 0.93,
    ("style", "final"): 0.78,
}
"""Success by kind and window. Chance is .25 for a quadrant. Groups of people were not edited."""

LPIPS: Mapping[str, float] = {"early": 0.653, "middle": 0.385, "final": 0.114}
"""LPIPS of edits of styles by window."""

CLIP: Mapping[str, float] = {"early": 0.007, "middle": 0.021, "final": 0.006}
"""Change of the CLIP score of edits of styles by window."""

EXPLAINED: Mapping[tuple[str, str], float] = {
    ("mid", "early"): 0.564,
    ("mid", "middle"): 0.509,
    ("mid", "final"): 0.505,
    ("up", "early"): 0.577,
    ("up", "middle"): 0.453,
    ("up", "final"): 0.440,
    ("down", "early"): 0.517,
    ("down", "middle"): 0.376,
    ("down", "final"): 0.366,
}
"""Explained variance of the conditional half at k = 10, at t = 1, .5 and 0."""
