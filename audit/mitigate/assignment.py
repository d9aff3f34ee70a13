"""Assigns images to groups: stratified within the prompt, and determined by the image key alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from audit.config.mitigations.registry import MitigationConfig
from audit.config.shares import normalised
from audit.records.work import ImageKey, derive_seed

# A block of images of one prompt fills the target as evenly as whole images allow.
BLOCK = 840
"""Divisible by 2 to 8, so that a uniform target over that many groups is met exactly in every block."""


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
    target = steered_shares(mitigation, groups)
    return tuple(assigned_group(key, target, audit_seed) for key in keys)


def steered_shares(mitigation: MitigationConfig, groups: Sequence[str]) -> dict[str, float]:
    """Return the share of images that is steered to each group."""
    if isinstance(mitigation.target, str):
        return dict.fromkeys(groups, 1 / len(groups))
    return dict(zip(groups, normalised(mitigation.target, groups), strict=True))


def assigned_group(key: ImageKey, target: Mapping[str, float], audit_seed: int) -> str:
    """Return the group that the image ``key`` is steered to.

    Images of a prompt take the groups in turn (largest deficit first), in an order that the seed of the prompt rotates,
    so that any run of consecutive indices is as near to the target as whole images allow. DiffLens draws one group
    per batch of 16, which makes its discrepancy five times as noisy (methods: batch-level draws).
    """
    order = turn(target, derive_seed(audit_seed, "assignment", key.prompt_id))
    return order[key.index % len(order)]


def turn(target: Mapping[str, float], seed: int) -> Sequence[str]:
    """Return one round of groups that meets ``target`` with the fewest images, up to ``BLOCK``.

    Raises:
        ValueError: If the shares do not add up to 1.
    """
    if abs(sum(target.values()) - 1) > 1e-6:
        raise ValueError(f"target shares must add up to 1, found {sum(target.values()):.4f}: {dict(target)}")
    length = next((n for n in range(1, BLOCK) if all(_whole(share * n) for share in target.values())), BLOCK)
    groups = list(target)
    first = seed % len(groups)
    groups = groups[first:] + groups[:first]
    taken = dict.fromkeys(groups, 0)
    order = []
    for position in range(1, length + 1):
        group = max(groups, key=lambda g: target[g] * position - taken[g])
        taken[group] += 1
        order.append(group)
    return order


def _whole(value: float) -> bool:
    return abs(value - round(value)) < 1e-6
