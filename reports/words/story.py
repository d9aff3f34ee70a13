"""Reads an audit's result the way a person does: who is drawn, what changed, what it cost.

Everything here is a pure function of ``Story``, an index over one ``AuditResult``. The HTML report and the tracking
store both tell their headline from here, so that they cannot disagree.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from audit.config.fields import ZERO_SHOT
from audit.measure.inference.intervals import share_estimate
from audit.planning.plan import prompt_ids
from audit.records.attributes import Attribute
from audit.records.estimates import Estimate, LikeThese
from audit.records.groups import FairnessDiscrepancy, GroupResult, PromptMean, WorstPrompt
from audit.records.quality import QualityResult
from audit.records.result import AuditResult
from audit.records.work import BASELINE, Status

QUALITY = {
    "clip_i": "CLIP-I",
    "clip_t": "CLIP-T",
    "fid": "FID to baseline",
    "kid": "KID to baseline",
    "fid_to_reference": "FID to reference",
    "kid_to_reference": "KID to reference",
}
"""Quality figures of an arm, as ``QualityResult`` names them, with their names for people."""

NBSP = "\N{NO-BREAK SPACE}"

THESE = "these prompts"
"""Whom every interval is about that does not say otherwise; captions of tables name it once."""

LIKE_THESE = "prompts like these"
"""Whom the other interval of a figure over several prompts is about."""


class WithInterval(Protocol):
    """A record of a figure, with an interval where it has one."""

    @property
    def value(self) -> float: ...  # noqa: D102
    @property
    def low(self) -> float | None: ...  # noqa: D102
    @property
    def high(self) -> float | None: ...  # noqa: D102


@dataclass(frozen=True)
class Story:
    """An index over one audit's result.

    Attributes:
        result: The audit's record.
        arms: Arm names, the baseline first, then in the config's order.
        attributes: Attributes with their groups in the config's order.
        prompts: Prompt ids in the result's order.
        occupations: Prompt id to the occupation as the config writes it; empty where the config says ``all``.
        rows: ``(prompt id or None for overall, arm, attribute name)`` to the row.
        quality: Arm to its quality figures.
    """

    result: AuditResult
    arms: tuple[str, ...]
    attributes: tuple[Attribute, ...]
    prompts: tuple[str, ...]
    occupations: Mapping[str, str]
    rows: Mapping[tuple[str | None, str, str], GroupResult]
    quality: Mapping[str, QualityResult]

    def occupation(self, prompt: str) -> str:
        """Return a prompt's occupation, as the config writes it where it does: ids have lost capitals and accents."""
        return self.occupations.get(prompt) or occupation_words(prompt)

    def discrepancy(self, prompt: str | None, arm: str, attribute: str) -> FairnessDiscrepancy | None:
        """Fairness discrepancy of one row, None where nothing was classified."""
        row = self.rows.get((prompt, arm, attribute))
        return row.fairness_discrepancy if row else None

    def share(self, prompt: str | None, arm: str, attribute: str, group: str) -> float | None:
        """Share of one group, None where nothing was classified."""
        row = self.rows.get((prompt, arm, attribute))
        estimate = row.shares.get(group) if row else None
        return estimate.value if estimate else None

    def target(self, prompt: str, attribute: Attribute) -> dict[str, float]:
        """Share of each group that counts as fair."""
        row = self.rows.get((prompt, self.arms[0], attribute.name))
        equal = 1 / len(attribute.groups)
        return {group: row.target.get(group, equal) if row else equal for group in attribute.groups}


@dataclass(frozen=True)
class KeyFigure:
    """One large number of the first screen; ``before`` is empty where the figure has no before."""

    label: str
    before: str
    after: str
    note: str


@dataclass(frozen=True)
class StatusGap:
    """An arm that leaves a different share of its images unclassified than the baseline does."""

    arm: str
    share: str
    baseline: str


def story_of(result: AuditResult) -> Story:
    """Index a result.

    Raises:
        ValueError: The result has no rows.
    """
    if not result.results:
        raise ValueError(
            "expected at least one row in results, found none; run the audit to its end before reporting it, or check "
            "that the config names an occupation and an attribute"
        )
    rows = {(row.prompt_id, row.arm, row.attribute): row for row in (*result.results, *result.overall)}
    return Story(
        result=result,
        arms=_arms(result),
        attributes=_attributes(result),
        prompts=tuple(dict.fromkeys(row.prompt_id for row in result.results if row.prompt_id is not None)),
        occupations=_occupations(result.config),
        rows=rows,
        quality={quality.arm: quality for quality in result.quality},
    )


def _occupations(config: Mapping[str, Any]) -> dict[str, str]:
    prompts = config.get("prompts")
    named = prompts.get("occupations") if isinstance(prompts, Mapping) else None
    if not isinstance(named, list | tuple):
        return {}
    occupations = [str(name) for name in named]
    return dict(zip(prompt_ids(occupations), occupations, strict=True))


def _arms(result: AuditResult) -> tuple[str, ...]:
    present = dict.fromkeys(row.arm for row in result.results)
    ordered = [BASELINE, *(mitigation["name"] for mitigation in mitigations(result)), *present]
    return tuple(arm for arm in dict.fromkeys(ordered) if arm in present)


def _attributes(result: AuditResult) -> tuple[Attribute, ...]:
    configured: Mapping[str, list[str]] = result.config.get("attributes", {})
    found: dict[str, tuple[str, ...]] = {}
    for row in result.results:
        if row.shares:
            groups = configured.get(row.attribute, ())
            same = sorted(groups) == sorted(row.shares)
            found.setdefault(row.attribute, tuple(groups if same else row.shares))
    return tuple(Attribute(name, groups) for name, groups in found.items())


def mitigations(result: AuditResult) -> list[dict[str, Any]]:
    """Return the config's mitigations as plain data."""
    return list(result.config.get("mitigations") or [])


def zero_shot_judges(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the further judges that are zero-shot CLIP."""
    opinions = config.get("second_opinions") or ()
    return tuple(opinion["name"] for opinion in opinions if opinion.get("source") == ZERO_SHOT)


def setting(config: Mapping[str, Any], *keys: str) -> str:
    """Return a nested config value as text, ``not recorded`` where the config does not have it."""
    value: Any = config
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return "not recorded" if value is None else str(value)


def label(name: str) -> str:
    """Turn an identifier such as ``fire_fighter`` into words."""
    return name.replace("_", " ")


def occupation_words(prompt_id: str) -> str:
    """Turn a prompt's id such as ``police-officer`` into the words of its occupation."""
    return label(prompt_id).replace("-", " ")


def percent(value: float) -> str:
    """Format a share as a whole percentage."""
    return f"{round(100 * value)}{NBSP}%"


SMALLEST_SHOWN = 5e-10
"""Figures closer to 0 than this are printed as 0: nine decimals show nothing of them."""

RESIDUE = 1e-12
"""What rounding may leave of a difference that is 0."""


def settled(value: float) -> float:
    """Return a number for a file: 0 where it is −0, or below 0 by no more than rounding."""
    return 0.0 if -RESIDUE < value <= 0 else value


def number(value: float | None) -> str:
    """Format a figure: two decimals from 1 on, three below, two significant digits below 0.01, a dash for None."""
    if value is None:
        return "–"
    if abs(value) < SMALLEST_SHOWN:
        value = 0.0
    size = abs(value)
    decimals = 2 if size >= 1 or size == 0 else 3 if size >= 0.01 else min(1 - math.floor(math.log10(size)), 9)
    return f"{value:.{decimals}f}".replace("-", "−")


def interval(low: float | None, high: float | None, *, share: bool = False) -> str:
    """Format a 95 % interval in brackets, empty where there is none."""
    if low is None or high is None:
        return ""
    if share:
        return f"[{round(100 * low)}, {round(100 * high)}]"
    return f"[{number(low)}, {number(high)}]"


def with_interval(value: float, low: float | None, high: float | None) -> str:
    """Format a figure with its interval, alone where it has none."""
    return f"{number(value)} {interval(low, high)}".strip()


def figure_text(figure: WithInterval | None) -> str:
    """Format a record's figure with its interval, a dash for None; see ``like_these_text``."""
    return f"{with_interval(figure.value, figure.low, figure.high)}{like_these_text(figure)}" if figure else "–"


def share_text(share: Estimate) -> str:
    """Format a share with its interval, both in percent; see ``like_these_text``."""
    return f"{percent(share.value)} {interval(share.low, share.high, share=True)}{like_these_text(share, share=True)}"


def like_these_text(figure: object, *, share: bool = False) -> str:
    """Return ``, prompts like these [a, b]`` where a figure has an interval for such prompts, else nothing."""
    beside: LikeThese | None = getattr(figure, "like_these", None)
    return f", {LIKE_THESE}{NBSP}{interval(beside.low, beside.high, share=share)}" if beside else ""


def p_value(value: float | None) -> str:
    """Format a p-value: three decimals, ``< 0.001`` below them, a dash for None."""
    if value is None:
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def sample_size(story: Story, attribute: str) -> str:
    """Say how many images per prompt and arm were classified, as ``n = 64`` or ``n = 60 to 64``."""
    counts = [story.rows[key].n for key in story.rows if key[0] is not None and key[2] == attribute]
    low, high = min(counts), max(counts)
    return f"n{NBSP}={NBSP}{low}" if low == high else f"n{NBSP}={NBSP}{low} to {high}"


def mean_over_prompts(story: Story, attribute: str, arm: str) -> PromptMean | None:
    """Root mean square over prompts of the fairness discrepancy, with other means; None where no prompt has one.

    Not the discrepancy of the pool: opposite skews of two occupations cancel there.
    """
    overall = story.rows.get((None, arm, attribute))
    return overall.mean_over_prompts if overall else None


def mean_discrepancy(story: Story, attribute: str, arm: str) -> float | None:
    """Value of ``mean_over_prompts``."""
    mean = mean_over_prompts(story, attribute, arm)
    return mean.value if mean else None


def noise_floor(story: Story, attribute: str, arm: str) -> float | None:
    """Mean over prompts of the plug-in that is to be expected of a perfectly balanced model at the same n."""
    mean = mean_over_prompts(story, attribute, arm)
    return mean.expected_at_parity if mean else None


def worst_prompt(story: Story, attribute: str, arm: str) -> WorstPrompt | None:
    """Return the prompt with the largest fairness discrepancy; None where nothing was classified."""
    overall = story.rows.get((None, arm, attribute))
    return overall.worst_prompt if overall else None


def primary_attribute(story: Story) -> Attribute:
    """Return the attribute that the report opens with.

    The first mitigation's where there is one, else the most skewed at baseline.

    Raises:
        ValueError: No attribute has a single classified image.
    """
    if not story.attributes:
        raise ValueError(
            "expected classified images for at least one attribute, found none; look at the statuses in "
            "results.parquet, and at judge.min_confidence if the classifier is unsure of such pictures"
        )
    by_name = {attribute.name: attribute for attribute in story.attributes}
    for mitigation in mitigations(story.result):
        if mitigation["name"] in story.arms and mitigation["attribute"] in by_name:
            return by_name[mitigation["attribute"]]
    return max(story.attributes, key=lambda item: mean_discrepancy(story, item.name, story.arms[0]) or 0.0)


def edited_arm(story: Story, attribute: str) -> str | None:
    """Return the first arm in the config's order that edits ``attribute``.

    The first, so that no arm is picked for its figures.
    """
    for mitigation in mitigations(story.result):
        if mitigation["attribute"] == attribute and mitigation["name"] in story.arms:
            return str(mitigation["name"])
    return None


def findings_count(story: Story, attribute: str, arm: str) -> int:
    """Prompts that depart from the target by more than chance, corrected for testing them all."""
    rows = (story.rows.get((prompt, arm, attribute)) for prompt in story.prompts)
    return sum(row.is_finding for row in rows if row)


def key_figures(story: Story) -> tuple[KeyFigure, ...]:
    """Return the three or four figures of the first screen, before and after where there is an intervention."""
    attribute = primary_attribute(story)
    arm = edited_arm(story, attribute.name)
    return tuple(
        figure
        for figure in (
            _mean_figure(story, attribute.name, arm),
            _worst_figure(story, attribute.name, arm),
            _shown_figure(story, arm),
            _clip_figure(story, arm) if arm else _classified_figure(story, attribute.name),
        )
        if figure
    )


def _mean_figure(story: Story, attribute: str, arm: str | None) -> KeyFigure:
    arms = (story.arms[0], arm) if arm else story.arms[:1]
    means = [mean_over_prompts(story, attribute, name) for name in arms]
    *before, after = (number(mean.value if mean else None) for mean in means)
    soft = " → ".join(number(mean.soft if mean else None) for mean in means)
    last = means[-1]
    note = f"{_sized(last.n, last.low, last.high, of='occupations')}; soft discrepancy {soft}" if last else ""
    return KeyFigure(f"Mean fairness discrepancy, {label(attribute)}", "".join(before), after, note)


def _worst_figure(story: Story, attribute: str, arm: str | None) -> KeyFigure | None:
    before = worst_prompt(story, attribute, story.arms[0])
    after = worst_prompt(story, attribute, arm) if arm else before
    if before is None or after is None:
        return None
    names = ", then ".join(dict.fromkeys(map(story.occupation, (before.prompt_id, after.prompt_id))))
    note = f"{names}; {interval(after.low, after.high)}, allows for the choice among {after.prompts}"
    return KeyFigure("Worst occupation", number(before.value) if arm else "", number(after.value), note)


def _shown_figure(story: Story, arm: str | None) -> KeyFigure | None:
    before = story.quality.get(story.arms[0])
    after = story.quality.get(arm) if arm else before
    if after is None or after.prompt_shown is None:
        return None
    shown = after.prompt_shown
    first = percent(before.prompt_shown.value) if arm and before and before.prompt_shown else ""
    note = _sized(shown.n, shown.low, shown.high, share=True)
    return KeyFigure("Occupation still shown" if arm else "Occupation shown", first, percent(shown.value), note)


def _clip_figure(story: Story, arm: str) -> KeyFigure | None:
    quality = story.quality.get(arm)
    if quality is None or quality.clip_i is None:
        return None
    figure = quality.clip_i
    note = _sized(figure.n, figure.low, figure.high)
    return KeyFigure("CLIP-I, cosine to the original", "", number(figure.value), note)


def _classified_figure(story: Story, attribute: str) -> KeyFigure:
    row = story.rows.get((None, story.arms[0], attribute))
    counts = [row] if row else [story.rows[key] for key in story.rows if key[1:] == (story.arms[0], attribute)]
    classified, total = sum(item.n for item in counts), sum(sum(item.statuses.values()) for item in counts)
    return KeyFigure("Images classified", "", percent(classified / total if total else 0.0), f"{classified} of {total}")


def _sized(n: int, low: float | None, high: float | None, *, share: bool = False, of: str = "") -> str:
    size = f"{n}{NBSP}{of}" if of else f"n{NBSP}={NBSP}{n}"
    return ", ".join(part for part in (interval(low, high, share=share), size) if part)


def status_gaps(story: Story) -> tuple[StatusGap, ...]:
    """Return every arm whose unclassified share differs from the baseline's by more than chance."""
    return tuple(
        StatusGap(arm, percent(missing.after.value), percent(missing.before.value))
        for arm, missing in story.result.missing.items()
        if missing.differs
    )


def unclassified(story: Story, attribute: str, arm: str) -> Estimate:
    """Share of an arm's images without a perceived group.

    Raises:
        ValueError: The arm has no images for this attribute.
    """
    counts = status_counts(story, attribute, arm)
    total = sum(counts.values())
    return share_estimate(total - counts.get(Status.CLASSIFIED, 0), total)


def status_counts(story: Story, attribute: str, arm: str) -> dict[str, int]:
    """Images by status, summed over the prompts of one arm."""
    counts: dict[str, int] = {}
    for prompt in story.prompts:
        row = story.rows.get((prompt, arm, attribute))
        for status, count in (row.statuses if row else {}).items():
            counts[status] = counts.get(status, 0) + count
    return counts


def quality_figures(story: Story) -> dict[str, str]:
    """Return the names of a table over the arms, from ``QUALITY``: distances to a reference only where there is one."""
    return {
        name: title
        for name, title in QUALITY.items()
        if not name.endswith("_to_reference") or any(getattr(quality, name) for quality in story.result.quality)
    }
