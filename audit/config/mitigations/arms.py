"""The arms of a config: one intervention each, or several that act together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated

from pydantic import Discriminator, Tag

from audit.config.mitigations.joint import JointConfig
from audit.config.mitigations.registry import METHOD_TAG, Methods, MitigationConfig, tag_of
from audit.config.mitigations.texts import PromptConfig
from audit.config.problems import Location

ArmConfig = Annotated[Methods | Annotated[JointConfig, Tag(f"{METHOD_TAG}joint")], Discriminator(tag_of)]
"""One arm besides the baseline."""


def parts_of(arm: ArmConfig) -> tuple[MitigationConfig, ...]:
    """Return the interventions of an arm, each of which steers one attribute."""
    return arm.parts if isinstance(arm, JointConfig) else (arm,)


def sections_of(arms: Sequence[ArmConfig]) -> tuple[MitigationConfig, ...]:
    """Return the interventions of all arms."""
    return tuple(part for arm in arms for part in parts_of(arm))


def located(arms: Sequence[ArmConfig]) -> Iterator[tuple[Location, MitigationConfig]]:
    """Yield the interventions of all arms, each with its place in the config."""
    for index, arm in enumerate(arms):
        if isinstance(arm, JointConfig):
            for number, part in enumerate(arm.parts):
                yield ("mitigations", index, "parts", number), part
        else:
            yield ("mitigations", index), arm


def steered_attributes(arm: ArmConfig) -> tuple[str, ...]:
    """Return the attributes that an arm steers, in the order of its parts."""
    return tuple(part.attribute for part in parts_of(arm))


def kept_attributes(arm: ArmConfig, attributes: Sequence[str]) -> tuple[str, ...]:
    """Return the attributes whose groups captions name so that they stay; empty if every image is changed alike.

    Args:
        arm: The arm.
        attributes: All audited attributes.
    """
    return () if arm.if_needed is None else arm.if_needed.kept(attributes, steered_attributes(arm))


def keeping_blocks(arm: ArmConfig) -> tuple[str, ...] | None:
    """Return the blocks that read a caption which names kept groups alone, beside the captions of ``method: prompt``.

    Returns:
        The blocks; empty if the whole network reads it; None if there is no such caption.
    """
    if arm.if_needed is None:
        return None
    captions = [part for part in parts_of(arm) if isinstance(part, PromptConfig)]
    own = {block for part in captions for block in part.blocks}
    others = tuple(block for block in arm.if_needed.blocks if block not in own)
    return others if others or not captions else None


def steered_shares(arm: ArmConfig, attributes: Mapping[str, Sequence[str]]) -> dict[str, dict[str, float]]:
    """Return the share of images that an arm steers to each group of each attribute of its parts.

    Args:
        arm: The arm.
        attributes: Attribute → groups.
    """
    if not isinstance(arm, JointConfig):
        return {arm.attribute: arm.steered_shares(attributes[arm.attribute])}
    groups = [attributes[name] for name in arm.attributes]
    found = {name: dict.fromkeys(own, 0.0) for name, own in zip(arm.attributes, groups, strict=True)}
    for cell, share in arm.shares(groups).items():
        for name, group in zip(arm.attributes, cell, strict=True):
            found[name][group] += share
    return found
