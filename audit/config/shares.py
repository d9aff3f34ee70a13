"""Checks that shares are a distribution over an attribute's groups, and the messages of these checks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

from audit.config.problems import Location, Problem, listing, suggestion

SUM_TOLERANCE = 0.005
"""Largest accepted difference between 1 and the sum of the shares, because published figures are often rounded to
three places. Accepted shares are divided by their sum. A larger difference is an error."""


def share_problems(
    at: Location, given: Mapping[str, float], groups: Sequence[str], what: str = "group"
) -> Iterator[Problem]:
    """Find why shares by group are not a distribution over the groups.

    Args:
        at: Location of the shares in the config.
        given: Group → share.
        groups: The attribute's groups.
        what: What has a share, in words.

    Yields:
        Problems, each with its location.
    """
    wrong = [
        *_group_problems(at, given, groups, what),
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
    """Find errors in a mapping from a source's categories to an attribute's groups.

    Args:
        at: Location of the mapping in the config.
        mapping: Category → its group, None for a category that is excluded on purpose.
        groups: The attribute's groups.

    Yields:
        Problems, each with its location: unknown groups, categories mapped twice, groups without a category.
    """
    first: dict[str, str] = {}
    for category, group in mapping.items():
        twin = first.setdefault(folded(category), category)
        if twin != category:
            message = f"expected each category once, found both {category!r} and {twin!r}; keep one"
            yield Problem((*at, category), message)
        if group is not None and group not in groups:
            yield Problem((*at, category), unknown("a group", group, groups))
    without = [group for group in groups if group not in mapping.values()]
    if without:
        message = f"expected a category for each group ({listing(groups)}), found none for"
        yield Problem(at, f"{message} {listing(without)}; map one, or leave the group out of the audit")


def adds_up(shares: Iterable[float]) -> bool:
    """Return whether shares add up to 1, allowing for rounding."""
    return abs(math.fsum(shares) - 1) <= SUM_TOLERANCE + 1e-12


def wrong_sum(total: float) -> str:
    """Return a message for shares that do not add up to 1, with the likely reason."""
    reason = "do categories overlap, or count a person twice?" if total > 1 else "is a category missing?"
    return f"expected shares that add up to 1 (within {SUM_TOLERANCE:g}), found {total:.4g}; {reason}"


def normalised(shares: Mapping[str, float], groups: Sequence[str]) -> tuple[float, ...]:
    """Return the shares in the order of the groups, divided by their sum."""
    total = math.fsum(shares[group] for group in groups)
    return tuple(shares[group] / total for group in groups)


def unknown(what: str, found: str, known: Sequence[str]) -> str:
    """Return a message for a name that is not among the known ones."""
    return f"expected {what} ({listing(known)}), found {found!r}{suggestion(found, known)}"


def folded(text: str) -> str:
    """Return a name for comparison: lower case, with single spaces."""
    return " ".join(text.casefold().split())


def _group_problems(at: Location, given: Mapping[str, float], groups: Sequence[str], what: str) -> Iterator[Problem]:
    for group in given:
        if group not in groups:
            yield Problem((*at, group), unknown(f"a {what}", group, groups))
    missing = [group for group in groups if group not in given]
    if missing:
        message = f"expected a share for each {what} ({listing(groups)}), found none for {listing(missing)}"
        yield Problem(at, f"{message}; write 0 for a {what} without a share")
