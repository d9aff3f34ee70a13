"""Sentences about images that the judge assigned to groups outside the audit."""

from __future__ import annotations

from collections.abc import Iterator

from audit.records.estimates import percent
from audit.records.work import Status
from reports.index.lookups import status_counts
from reports.index.story import Story, label

OUTSIDE_GROUPS = "outside the audited groups"
"""Display name of the status."""

LEFT_OUT = "left_out_groups"
"""Key of the provenance with the judge's groups that the config leaves out, by attribute."""


def outside_lines(story: Story) -> tuple[str, ...]:
    """Return one sentence per attribute about its images outside the audited groups."""
    return tuple(_lines(story))


def _lines(story: Story) -> Iterator[str]:
    known = story.result.provenance.get(LEFT_OUT)
    for attribute in dict.fromkeys(key[2] for key in story.rows):
        counts = {arm: status_counts(story, attribute, arm) for arm in story.arms}
        outside = {arm: found.get(Status.OUTSIDE_GROUPS, 0) for arm, found in counts.items()}
        if not any(outside.values()):
            continue
        shares = ", ".join(
            f"{arm} {count} of {sum(counts[arm].values())} ({percent(count / max(1, sum(counts[arm].values())))})"
            for arm, count in outside.items()
        )
        groups = known.get(attribute, ()) if isinstance(known, dict) else ()
        named = f" ({', '.join(map(label, map(str, groups)))})" if groups else ""
        yield (
            f"{label(attribute).capitalize()}: images {OUTSIDE_GROUPS}{named}: {shares}. "
            "They are excluded from the shares, and count as unknown in the bounds."
        )
