"""Pairs of prompts that differ in the word of one group alone, drawn from the same noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from audit.records.changes import GroupChange, MissingDifference
from audit.records.estimates import Estimate


@dataclass(frozen=True)
class NamedArm:
    """An arm whose prompts all name the same group.

    Attributes:
        arm: The arm.
        attribute: The attribute of the group.
        group: The group that every prompt names.
    """

    arm: str
    attribute: str
    group: str


@dataclass(frozen=True)
class CounterfactualPair:
    """What differs between images whose prompts differ in one group's word: all prompts of the audit together.

    Attributes:
        attribute: The attribute whose group is named.
        arms: The two arms, in the order of the config.
        groups: The group that each arm names.
        shown: Group → share of its arm's classified images that show it.
        changes: Paired changes of every other attribute from the first arm to the second: each prompt, then the mean
            over prompts. ``arm`` is the second arm.
        missing: Unclassified shares of the two arms, and their paired difference.
    """

    attribute: str
    arms: tuple[str, str]
    groups: tuple[str, str]
    shown: Mapping[str, Estimate]
    changes: tuple[GroupChange, ...]
    missing: MissingDifference
