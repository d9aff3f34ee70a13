"""Impact ratios of groups and of combinations of two attributes, by analogy with New York City's Local Law 144.

The law asks for the rate at which each category is selected, divided by the rate of the most selected category, for
sex, ethnicity and their intersections, with the number of persons of unknown category (6 RCNY § 5-301). A category with
less than 2 % of the data may be left out. Pictures are not selected, so all of this is an analogy only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from audit.measure.inference.intervals import share_estimate
from audit.records.estimates import NBSP, Estimate, percent
from audit.records.groups import GroupResult
from audit.records.intersections import Intersection
from audit.records.result import AuditResult
from reports.figures.charts import Table
from reports.index.story import Story, label
from reports.words.formats import THESE, share_text, with_interval

LEAST_SHARE = 0.02
"""Share of the classified pictures below which a group is left out (6 RCNY § 5-301 (d))."""

ANALOGY = (
    "This is only an analogy with the impact ratios of New York City's Local Law 144: no selection decision takes "
    "place, so the rate is the share of a group among the classified pictures."
)


@dataclass(frozen=True)
class ImpactRatio:
    """One group of an attribute, or one combination of two attributes' groups.

    Attributes:
        prompt_id: The prompt, None for all prompts pooled.
        arm: The arm.
        attributes: One attribute, or two.
        groups: One group of each attribute.
        count: Pictures of the group.
        share: Share of the group among the classified pictures; ``n`` is their number.
        unknown: Pictures of the arm (and prompt) that have no group of one of the attributes.
        ratio: Share of the group divided by that of the most frequent group, with a 95 % interval; exactly 1 for the
            most frequent group, and None if the group is left out.
    """

    prompt_id: str | None
    arm: str
    attributes: tuple[str, ...]
    groups: tuple[str, ...]
    count: int
    share: Estimate
    unknown: int
    ratio: Estimate | None

    @property
    def left_out(self) -> bool:
        """Whether the group is below ``LEAST_SHARE``."""
        return self.share.value < LEAST_SHARE


def impact_ratios(result: AuditResult) -> Iterator[ImpactRatio]:
    """Yield every group and combination of every arm: over all prompts, then for each prompt.

    Combinations of single prompts are given as far as ``audit.json`` lists them.
    """
    images = {(row.prompt_id, row.arm): sum(row.statuses.values()) for row in (*result.overall, *result.results)}
    for row in (*result.overall, *result.results):
        yield from _of_attribute(row)
    for pair in result.intersections:
        if pair.cells and (pair.prompt_id, pair.arm) in images:  # a file from elsewhere may lack rows
            yield from _of_pair(pair, images[pair.prompt_id, pair.arm])


def _of_attribute(row: GroupResult) -> Iterator[ImpactRatio]:
    counts = [round(share.value * row.n) for share in row.shares.values()]
    for count, (group, share) in zip(counts, row.shares.items(), strict=True):
        unknown = sum(row.statuses.values()) - row.n
        ratio = _ratio(count, max(counts), share)
        yield ImpactRatio(row.prompt_id, row.arm, (row.attribute,), (group,), count, share, unknown, ratio)


def _of_pair(pair: Intersection, images: int) -> Iterator[ImpactRatio]:
    most = max(cell.count for cell in pair.cells)
    for cell in pair.cells:
        ratio = _ratio(cell.count, most, cell.share)
        yield ImpactRatio(
            pair.prompt_id, pair.arm, pair.attributes, cell.groups, cell.count, cell.share, images - pair.n, ratio
        )


def _ratio(count: int, most: int, share: Estimate) -> Estimate | None:
    """Divide two counts of the same pictures.

    Given the pictures of both groups together, the count of one is binomial with the odds ``ratio``, so the interval of
    that share becomes one of the ratio. A pool of prompts varies less than a binomial (Hoeffding 1956), so the interval
    is then conservative. That the most frequent group is chosen by its count is not accounted for.
    """
    if share.value < LEAST_SHARE:
        return None
    if count == most:
        return Estimate(1.0, 1.0, 1.0, count)
    found = share_estimate(count, count + most)
    return Estimate(count / most, _odds(found.low), _odds(found.high), count + most)


def _odds(share: float) -> float:
    return share / (1 - share)


def impact_tables(story: Story) -> tuple[Table, ...]:
    """Return a table for each attribute and each pair of attributes, all prompts pooled."""
    found: dict[tuple[str, ...], list[ImpactRatio]] = {}
    for one in impact_ratios(story.result):
        if one.prompt_id is None:
            found.setdefault(one.attributes, []).append(one)
    return tuple(_table(story, attributes, rows) for attributes, rows in found.items())


def _table(story: Story, attributes: Sequence[str], rows: Sequence[ImpactRatio]) -> Table:
    order = {arm: place for place, arm in enumerate(story.arms)}
    ordered = sorted(rows, key=lambda one: order.get(one.arm, len(order)))
    unknown = {one.arm: f"{one.arm} {one.unknown} of {one.unknown + one.share.n}" for one in ordered}
    caption = (
        f"{' and '.join(map(label, attributes))}: impact ratio to the most frequent group, all prompts pooled "
        f"(95{NBSP}% intervals about {THESE}; pictures of unknown group: {', '.join(unknown.values())})"
    )
    cells = tuple(
        (" and ".join(map(label, one.groups)), one.arm, str(one.count), share_text(one.share), ratio_text(one))
        for one in ordered
    )
    return Table(caption, ("Group", "Arm", "Pictures", "Share (rate)", "Impact ratio"), cells, names=2)


def ratio_text(one: ImpactRatio) -> str:
    """Return a ratio with its interval, or why there is none."""
    if one.ratio is None:
        return f"left out (below {percent(LEAST_SHARE)})"
    if one.ratio.low == one.ratio.high:
        return "1 (most frequent)"
    return with_interval(one.ratio.value, one.ratio.low, one.ratio.high)
