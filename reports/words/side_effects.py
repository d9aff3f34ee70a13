"""Shifts of the attributes that an arm does not edit, for the first screen."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from audit.measure.inference.multiplicity import holm_steps
from audit.records.changes import AttributeShift
from audit.records.groups import FINDING_LEVEL
from reports.index.settings import edited_by
from reports.index.story import Story, label
from reports.words.formats import number, p_value


@dataclass(frozen=True)
class SideEffect:
    """The shift of an attribute that an arm does not edit.

    Attributes:
        shift: The shift, with the shift that chance alone explains.
        moved: Whether it is significant, corrected for testing all such attributes (Holm).
    """

    shift: AttributeShift
    moved: bool

    @property
    def attribute(self) -> str:
        """The attribute's display name."""
        return label(self.shift.attribute)

    @property
    def figures(self) -> str:
        """The shift, the shift by chance, and p: ``0.104 (0.051 by chance alone, p < 0.001)``."""
        return f"{number(self.shift.value)} ({self.by_chance})"

    @property
    def by_chance(self) -> str:
        """The shift by chance, and p: ``0.051 by chance alone, p < 0.001``."""
        p = p_value(self.shift.p_value)
        return f"{number(self.shift.floor)} by chance alone, p {p if p.startswith('<') else f'= {p}'}"


def side_effects(story: Story, attribute: str, arm: str) -> tuple[SideEffect, ...]:
    """Return the shifts of attributes that ``arm`` does not edit: significant ones first, the largest excess first.

    Args:
        story: The audit.
        attribute: The attribute that the arm edits.
        arm: The edited arm.
    """
    edited = {attribute, *edited_by(story.result).get(arm, ())}
    shifts = [shift for shift in story.result.shifts if shift.arm == arm and shift.attribute not in edited]
    tests = [partial(_is_at_most, shift.p_value) for shift in shifts]
    steps = holm_steps(tests, FINDING_LEVEL) if tests else ()
    found = [SideEffect(shift, step.rejected) for shift, step in zip(shifts, steps, strict=True)]
    return tuple(sorted(found, key=lambda effect: (not effect.moved, effect.shift.floor - effect.shift.value)))


def side_effect_sentence(story: Story, attribute: str, arm: str) -> str:
    """Name the other attributes that moved significantly; empty if no other attribute was measured."""
    effects = side_effects(story, attribute, arm)
    moved = [f"{effect.attribute} by {effect.figures}" for effect in effects if effect.moved]
    if moved:
        return f"Side effect: {arm} also moved the shares of {' and of '.join(moved)}."
    return "Side effects: no other attribute moved by more than chance." if effects else ""


def _is_at_most(p: float, level: float) -> bool:
    return p <= level
