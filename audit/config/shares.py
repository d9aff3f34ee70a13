"""Whether shares make a distribution over an attribute's groups, and the words for what is mistaken about them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

from audit.config.problems import Location, Problem, listing, suggestion

SUM_TOLERANCE = 0.005
"""Shares may add up to 1 ± this, as published figures do that were rounded to three places; they are then divided by
their sum. Anything further off is a mistake and never scaled away."""


def share_problems(at: Location, given: Mapping[str, float], groups: Sequence[str]) -> Iterator[Problem]:
    """Find what keeps shares by group from being a distribution over the groups.

    Args:
        at: Where the config has them.
        given: Group → share.
        groups: The attribute's groups.

    Yields:
        Problems, each with its place.
    """
    wrong = [
        *_group_problems(at, given, groups),
        *(
            Problem((*at, group), f"expected a share from 0 to 1, found {share!r}")
            for group, share in given.items()
            if not 0 <= share <= 1
        ),
    ]
    yield from wrong
    if not wrong and not adds_up(given.values()):
        yield Problem(at, wrong_sum(math.fsum(given.values())))


def category_problems(at: Location, mapping: Mapping[str, str | None], groups: Sequence[str]) -> Iterator[Problem]:
    """Find what is mistaken about a mapping from a source's categories to an attribute's groups.

    Args:
        at: Where the config has it.
        mapping: Category → the group that it counts for, None for one that is left out on purpose.
        groups: The attribute's groups.

    Yields:
        Problems, each with its place: unknown groups, categories mapped twice, groups without category.
    """
    first: dict[str, str] = {}
    for category, group in mapping.items():
        twin = first.setdefault(folded(category), category)
        if twin != category:
            message = f"expected each category once, found {category!r} beside {twin!r}; keep one"
            yield Problem((*at, category), message)
        if group is not None and group not in groups:
            yield Problem((*at, category), unknown("a group", group, groups))
    without = [group for group in groups if group not in mapping.values()]
    if without:
        message = f"expected a category for each group ({listing(groups)}), found none for"
        yield Problem(at, f"{message} {listing(without)}; map one, or leave the group out of the audit")


def adds_up(shares: Iterable[float]) -> bool:
    """Whether shares add up to 1, allowing for rounding."""
    return abs(math.fsum(shares) - 1) <= SUM_TOLERANCE + 1e-12


def wrong_sum(total: float) -> str:
    """Say that shares do not add up to 1, and what the reason may be."""
    reason = "do categories overlap, or count someone twice?" if total > 1 else "is a category missing?"
    return f"expected shares that add up to 1 (within {SUM_TOLERANCE:g}), found {total:.4g}; {reason}"


def normalised(shares: Mapping[str, float], groups: Sequence[str]) -> tuple[float, ...]:
    """Return the shares in the order of the groups, divided by their sum."""
    total = math.fsum(shares[group] for group in groups)
    return tuple(shares[group] / total for group in groups)


def unknown(what: str, found: str, known: Sequence[str]) -> str:
    """Say that a name is not among those that are known."""
    return f"expected {what} ({listing(known)}), found {found!r}{suggestion(found, known)}"


def folded(text: str) -> str:
    """Return a name as it is compared: without regard to case and runs of space."""
    return " ".join(text.casefold().split())


def _group_problems(at: Location, given: Mapping[str, float], groups: Sequence[str]) -> Iterator[Problem]:
    for group in given:
        if group not in groups:
            yield Problem((*at, group), unknown("a group", group, groups))
    missing = [group for group in groups if group not in given]
    if missing:
        message = f"expected a share for each group ({listing(groups)}), found none for {listing(missing)}"
        yield Problem(at, f"{message}; write 0 for none")
