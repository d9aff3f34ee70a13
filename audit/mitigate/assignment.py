"""Assigns images to groups: stratified within the prompt, and determined by the image key alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from audit.config.mitigations.arms import ArmConfig
from audit.config.mitigations.joint import JointConfig
from audit.config.mitigations.registry import MitigationConfig
from audit.records.arms.joint import Cell
from audit.records.work import ImageKey, derive_seed

# A block of images of one prompt fills the target as evenly as whole images allow.
BLOCK = 840
"""Divisible by 2 to 8, so that a uniform target over that many groups is met exactly in every block."""

_ROUNDING = 1e-9


def assigned_groups(
    mitigation: MitigationConfig, groups: Sequence[str], keys: Sequence[ImageKey], audit_seed: int
) -> tuple[str, ...]:
    """Return the group that each image of a batch is steered to.

    Args:
        mitigation: Mitigation with the target.
        groups: Groups of its attribute.
        keys: The images.
        audit_seed: Seed of the audit.
    """
    target = mitigation.steered_shares(groups)
    return tuple(assigned_group(key, target, audit_seed) for key in keys)


def assigned_parts(
    arm: ArmConfig, groups: Sequence[Sequence[str]], keys: Sequence[ImageKey], audit_seed: int
) -> tuple[tuple[str, ...], ...]:
    """Return the group that each image of a batch is steered to, for each part of an arm.

    Args:
        arm: The arm, with its target.
        groups: Groups of the attribute of each part.
        keys: The images.
        audit_seed: Seed of the audit.
    """
    if not isinstance(arm, JointConfig):
        return (assigned_groups(arm, groups[0], keys, audit_seed),)
    target = arm.shares(groups)
    return tuple(zip(*(assigned_cell(key, target, audit_seed) for key in keys), strict=True))


def assigned_group(key: ImageKey, target: Mapping[str, float], audit_seed: int) -> str:
    """Return the group that the image ``key`` is steered to, see ``assigned_cell``."""
    return assigned_cell(key, {(group,): share for group, share in target.items()}, audit_seed)[0]


def assigned_cell(key: ImageKey, target: Mapping[Cell, float], audit_seed: int) -> Cell:
    """Return the combination of groups that the image ``key`` is steered to.

    Images of a prompt take the combinations in turn (largest deficit first), in an order that the seed of the prompt
    rotates, so that any run of consecutive indices is as near to the target as whole images allow. DiffLens draws one
    group per batch of 16, which makes its discrepancy five times as noisy (methods: batch-level draws).
    """
    order = _cell_turn(tuple(target.items()), derive_seed(audit_seed, "assignment", key.prompt_id))
    return order[key.index % len(order)]


def turn(target: Mapping[str, float], seed: int) -> Sequence[str]:
    """Return one round of groups that meets ``target`` with the fewest images, up to ``BLOCK``, see ``cell_turn``."""
    return [group for (group,) in cell_turn({(group,): share for group, share in target.items()}, seed)]


def cell_turn(target: Mapping[Cell, float], seed: int) -> tuple[Cell, ...]:
    """Return one round of combinations that meets ``target`` with the fewest images, up to ``BLOCK``.

    A combination is taken only while it lies behind its share, so that a round ends on the target. Among those, the one
    comes first that lies behind most, together with its groups: the shares of each attribute are met in short runs too.

    Raises:
        ValueError: If the shares do not add up to 1.
    """
    if abs(sum(target.values()) - 1) > 1e-6:
        raise ValueError(f"target shares must add up to 1, found {sum(target.values()):.4f}: {dict(target)}")
    length = next((n for n in range(1, BLOCK) if all(_whole(share * n) for share in target.values())), BLOCK)
    cells = list(target)
    first = seed % len(cells)
    behind = _Behind(target, (*cells[first:], *cells[:first]))
    return tuple(behind.take() for _ in range(length))


@lru_cache(maxsize=1024)
def _cell_turn(target: tuple[tuple[Cell, float], ...], seed: int) -> tuple[Cell, ...]:
    """Return ``cell_turn``; a batch asks for the same round with every image."""
    return cell_turn(dict(target), seed)


class _Behind:
    """How far combinations, and groups of each attribute, lie behind their shares, in images."""

    def __init__(self, target: Mapping[Cell, float], cells: Sequence[Cell]) -> None:
        self._target, self._cells, self._made = target, cells, 0
        self._taken = dict.fromkeys(cells, 0)

    def take(self) -> Cell:
        """Take the next combination."""
        self._made += 1
        own = {cell: self._target[cell] * self._made - taken for cell, taken in self._taken.items()}
        of_group: dict[tuple[int, str], float] = {}
        for cell, images in own.items():
            for place in enumerate(cell):
                of_group[place] = of_group.get(place, 0.0) + images
        late = [cell for cell in self._cells if own[cell] > _ROUNDING]
        taken = max(late, key=lambda cell: own[cell] + sum(of_group[place] for place in enumerate(cell)))
        self._taken[taken] += 1
        return taken


def _whole(value: float) -> bool:
    return abs(value - round(value)) < 1e-6
