"""Charts of a report, each with a table of the same numbers, and the tables that need no chart."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from audit.records.attributes import Attribute
from audit.records.estimates import NBSP, percent
from audit.records.groups import FairnessDiscrepancy, GroupResult, PromptMean
from audit.records.quality import Measurement
from audit.records.result import FeatureFinding
from audit.records.work import Status
from reports.charts.axis import Axis, Mark, tick_step
from reports.charts.bars import Bar, BarRow, stacked_bars
from reports.charts.dumbbell import Row, dumbbell
from reports.charts.heatmap import HeatRow, heatmap
from reports.charts.lines import Series, lines
from reports.charts.svg import Frame
from reports.index.distances import distance_names, part_of
from reports.index.lookups import (
    mean_discrepancy,
    mean_over_prompts,
    quality_figures,
    status_counts,
    unclassified,
)
from reports.index.settings import hidden_words
from reports.index.story import Story, label
from reports.words.formats import THESE, figure_text, number, quality_text, share_text
from reports.words.key_figures import sample_size
from reports.words.outside_groups import OUTSIDE_GROUPS
from reports.words.targets import common_target, is_even, shares_words

FEATURES_PER_GROUP = 6
"""Bias features shown per group; audit.json lists all of them."""


@dataclass(frozen=True)
class Table:
    """A table of text: the first cell of a row is its header, the first ``names`` columns are text, others figures."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    names: int = 1


@dataclass(frozen=True)
class Figure:
    """A chart with a table of the same numbers."""

    key: str
    caption: str
    svg: Markup
    table: Table


@dataclass(frozen=True)
class FeatureGroup:
    """The leading bias features of one group."""

    group: str
    features: tuple[FeatureFinding, ...]
    total: int


@dataclass(frozen=True)
class FeatureSection:
    """The leading bias features of one attribute, with heat map and strengths."""

    attribute: str
    heatmap: Figure | None
    groups: tuple[FeatureGroup, ...]
    strengths: Table | None


MOST_SHOWN = 100
"""Occupations in a chart and its table: the most skewed ones at baseline; more are hard to read."""


def share_figure(story: Story, attribute: Attribute, *, key: str, width: float = 880.0) -> Figure:
    """Shares per occupation: a dumbbell chart for two groups, stacked bars for three or more."""
    if len(attribute.groups) == 2:
        return _two_group_figure(story, attribute, key, width)
    prompts = in_order(story, attribute)
    rows = [BarRow(story.occupation(prompt), bars) for prompt in prompts if (bars := _bars(story, attribute, prompt))]
    title = f"Perceived {label(attribute.name)}: shares of each group per occupation{_selection(story)}"
    description = (
        f"For each of {len(rows)} occupations one stacked bar per arm, most skewed at baseline first; groups from left "
        f"to right: {', '.join(map(label, attribute.groups))}. Target: {_target_in_words(story, attribute)}."
    )
    frame = Frame(key, title, description, width)
    svg = stacked_bars(frame, story.arms, [label(group) for group in attribute.groups], rows)
    caption = f"{title} (percent, {sample_size(story, attribute.name)})"
    return Figure(key, caption, svg, _group_table(story, attribute, prompts))


def _two_group_figure(story: Story, attribute: Attribute, key: str, width: float) -> Figure:
    shown, other = attribute.groups
    common = common_target(story, attribute)
    prompts = in_order(story, attribute)
    rows = [
        Row(
            story.occupation(prompt),
            tuple(_share_mark(story, prompt, arm, attribute.name, shown) for arm in story.arms),
            target=None if common else story.target(prompt, attribute)[shown],
        )
        for prompt in prompts
    ]
    title = f"Share of images perceived as {label(shown)}, per occupation{_selection(story)}"
    description = (
        f"One line per occupation, from most {label(other)} to most {label(shown)} at baseline; one mark per arm with "
        f"its 95 % interval; the dashed line is the target, {_target_in_words(story, attribute)}. "
        f"Arms: {', '.join(story.arms)}."
    )
    line = common[shown] if common else None
    axis = Axis("", 1.0, True, line, "target", low_end=f"more {label(other)}", high_end=f"more {label(shown)}")
    svg = dumbbell(Frame(key, title, description, width), axis, story.arms, rows)
    caption = f"{title} (95{NBSP}% intervals about {THESE}, {sample_size(story, attribute.name)})"
    return Figure(key, caption, svg, _group_table(story, attribute, prompts))


def _target_in_words(story: Story, attribute: Attribute) -> str:
    common = common_target(story, attribute)
    return shares_words(common) if common else "set for each occupation"


def _share_mark(story: Story, prompt: str, arm: str, attribute: str, group: str) -> Mark | None:
    row = story.rows.get((prompt, arm, attribute))
    estimate = row.shares.get(group) if row else None
    return Mark(estimate.value, estimate.low, estimate.high) if estimate else None


def _bars(story: Story, attribute: Attribute, prompt: str) -> tuple[Bar, ...]:
    bars = []
    for position, arm in enumerate(story.arms):
        row = story.rows.get((prompt, arm, attribute.name))
        if row and row.shares:
            bars.append(Bar(position, tuple(row.shares[group].value for group in attribute.groups)))
    return tuple(bars)


def in_order(story: Story, attribute: Attribute) -> tuple[str, ...]:
    """Order the prompts of a chart of shares: by the share of one group if there are two, else by skew."""
    if len(attribute.groups) != 2:
        return by_skew(story, attribute)

    def share(prompt: str) -> float:
        value = story.share(prompt, story.arms[0], attribute.name, attribute.groups[0])
        return math.inf if value is None else value

    return tuple(sorted(by_skew(story, attribute), key=share))


def by_skew(story: Story, attribute: Attribute) -> tuple[str, ...]:
    """Order prompts by their baseline fairness discrepancy, largest first, unmeasured last; ``MOST_SHOWN`` at most."""

    def skew(prompt: str) -> float:
        row = story.discrepancy(prompt, story.arms[0], attribute.name)
        return row.value if row else -1.0

    return tuple(sorted(story.prompts, key=skew, reverse=True)[:MOST_SHOWN])


def listed(story: Story) -> tuple[str, ...]:
    """Return the prompts that at least one figure names, in the audit's order: all unless there are very many."""
    named = {prompt for attribute in story.attributes for prompt in by_skew(story, attribute)}
    return tuple(prompt for prompt in story.prompts if prompt in named)


def _selection(story: Story) -> str:
    """Describe the selection rule if only some prompts are shown; empty if all are."""
    if len(story.prompts) <= MOST_SHOWN:
        return ""
    return f", the {MOST_SHOWN} most skewed at baseline of {len(story.prompts)} occupations; all are in results.csv"


def _group_table(story: Story, attribute: Attribute, prompts: Iterable[str]) -> Table:
    rows = []
    for prompt in prompts:
        if not is_even(story, attribute):
            shares = (percent(share) for share in story.target(prompt, attribute).values())
            rows.append((story.occupation(prompt), "target", "–", *shares))
        for arm in story.arms:
            row = story.rows.get((prompt, arm, attribute.name))
            if row is not None:
                rows.append((story.occupation(prompt), arm, str(row.n), *_share_cells(row, attribute.groups)))
    caption = f"Shares of perceived {label(attribute.name)} with 95{NBSP}% intervals"
    return Table(caption, ("Occupation", "Arm", "n", *map(label, attribute.groups)), tuple(rows), names=2)


def _share_cells(row: GroupResult, groups: Iterable[str]) -> tuple[str, ...]:
    estimates = (row.shares.get(group) for group in groups)
    return tuple(share_text(item) if item else "not measured" for item in estimates)


def discrepancy_figure(story: Story, attribute: Attribute, *, key: str, width: float = 880.0) -> Figure:
    """Fairness discrepancy per occupation and arm, counted and debiased, with its intervals."""
    prompts = by_skew(story, attribute)
    marks = {
        prompt: tuple(_discrepancy_mark(story, prompt, arm, attribute.name) for arm in story.arms) for prompt in prompts
    }
    rows = [Row(story.occupation(prompt), marks[prompt]) for prompt in prompts]
    largest = max((mark.high or mark.value for row in rows for mark in row.marks if mark), default=0.0)
    axis = Axis("fairness discrepancy, counted", _round_up(largest), False, 0.0, "on target")
    title = f"Fairness discrepancy of perceived {label(attribute.name)}, per occupation{_selection(story)}"
    description = (
        "One line per occupation, most skewed at baseline first; one mark per arm with its 95 % interval. An interval "
        "that reaches 0 is compatible with the target."
    )
    svg = dumbbell(Frame(key, title, description, width), axis, story.arms, rows)
    means = ", ".join(f"{arm} {number(mean_discrepancy(story, attribute.name, arm))}" for arm in story.arms)
    caption = f"{title} (95{NBSP}% intervals about {THESE}; root mean square over occupations: {means})"
    return Figure(key, caption, svg, _discrepancy_table(story, attribute, prompts))


def _discrepancy_mark(story: Story, prompt: str, arm: str, attribute: str) -> Mark | None:
    row = story.discrepancy(prompt, arm, attribute)
    return Mark(row.value, row.low, row.high) if row else None


def _discrepancy_table(story: Story, attribute: Attribute, prompts: Iterable[str]) -> Table:
    means = [(arm, mean_over_prompts(story, attribute.name, arm)) for arm in story.arms]
    rows = [("mean over occupations", arm, *_discrepancy_cells(mean, "occupations")) for arm, mean in means]
    rows += [
        (story.occupation(prompt), arm, *_discrepancy_cells(story.discrepancy(prompt, arm, attribute.name)))
        for prompt in prompts
        for arm in story.arms
    ]
    counted = ("Discrepancy, counted", "Plug-in, counted", "Plug-in at parity")
    columns = ("Occupation", "Arm", "n", *counted, "Soft discrepancy")
    caption = f"Fairness discrepancy of perceived {label(attribute.name)} (95{NBSP}% intervals about {THESE})"
    return Table(caption, columns, tuple(rows), names=2)


def _discrepancy_cells(row: FairnessDiscrepancy | PromptMean | None, of: str = "") -> tuple[str, ...]:
    if row is None:
        return ("0", "not measured", *["–"] * 3)
    size = f"{row.n}{NBSP}{of}" if of else str(row.n)
    return (size, figure_text(row), *map(number, (row.plug_in, row.expected_at_parity, row.soft)))


def quality_table(story: Story) -> Table:
    """Quality figures of each arm: one row per figure, one column per arm."""
    hidden = hidden_words(story.result.config)
    rows = [
        ("CLIP-I, cosine to the baseline image", *_measured(story, "clip_i")),
        ("CLIP-I as (cos + 1) / 2, the DiffLens paper's scale", *_extras(story, "clip_i", "rescaled")),
        ("CLIP-T, cosine to the prompt", *_measured(story, "clip_t")),
        ("CLIP-T as (cos + 1) / 2", *_extras(story, "clip_t", "rescaled")),
        ("DINO-I, cosine to the baseline image", *_measured(story, "dino_i")),
        ("LPIPS, distance to the baseline image", *_measured(story, "lpips")),
        ("PSNR of changed images to the baseline image, dB", *_measured(story, "psnr")),
        (f"DINO-I outside {hidden}", *_measured(story, "dino_outside")),
        (f"LPIPS outside {hidden}", *_measured(story, "lpips_outside")),
        (f"PSNR outside {hidden}, dB", *_measured(story, "psnr_outside")),
        (f"Pixels outside {hidden}, compared", *_measured(story, "compared_outside")),
        *_distance_rows(story, distance_names(story).frechet, "fid"),
        *_distance_rows(story, distance_names(story).kernel, "kid"),
        ("Prompted occupation shown", *_shares(story, "prompt_shown")),
        ("Face found", *_shares(story, "face_found")),
        ("Several faces in an image", *_shares(story, "several_faces")),
    ]
    kept = tuple(row for row in rows if any(cell != "–" for cell in row[1:]))
    without = "FID" if distance_names(story).are_published else "the Fréchet distance"
    caption = f"Quality and side effects per arm (95{NBSP}% intervals about {THESE}; {without} has none)"
    return Table(caption, ("Figure", *_quality_arms(story)), kept)


def _distance_rows(story: Story, title: str, name: str) -> tuple[tuple[str, ...], ...]:
    return (
        (f"{title} to the baseline arm", *_measured(story, name)),
        (f"{title} between two halves of the baseline (noise floor)", *_extras(story, name, "noise_floor")),
        (f"{title} to the reference images", *_measured(story, f"{name}_to_reference")),
    )


def _quality_arms(story: Story) -> tuple[str, ...]:
    return tuple(arm for arm in story.arms if arm in story.quality)


def _figure_of(story: Story, arm: str, name: str) -> Measurement | None:
    measurement: Measurement | None = getattr(story.quality[arm], name)
    return measurement


def _measured(story: Story, name: str) -> tuple[str, ...]:
    return tuple(quality_text(story.quality[arm], name) for arm in _quality_arms(story))


def _extras(story: Story, name: str, extra: str) -> tuple[str, ...]:
    figures = (_figure_of(story, arm, name) for arm in _quality_arms(story))
    return tuple(number(figure.extra.get(extra)) if figure else "–" for figure in figures)


def _shares(story: Story, name: str) -> tuple[str, ...]:
    estimates = (getattr(story.quality[arm], name) for arm in _quality_arms(story))
    return tuple(share_text(item) if item else "–" for item in estimates)


def signature_table(story: Story) -> Table:
    """Signature of each quality figure: how it was computed."""
    rows = []
    for arm in _quality_arms(story):
        for name, title in quality_figures(story).items():
            figure = _figure_of(story, arm, name)
            if figure:
                rows.append((title, arm, str(figure.n), figure.signature))
    return Table("Signature of every quality figure", ("Figure", "Arm", "n", "Signature"), tuple(rows))


def instrument_table(story: Story) -> Table:
    """Network, weights and resizing of each quality figure, for the section on the method."""
    rows = []
    for name, title in quality_figures(story).items():
        figures = [found for arm in _quality_arms(story) if (found := _figure_of(story, arm, name))]
        if figures:
            net, segmenter, resize = (part_of(figures[0].signature, key) for key in ("net", "by", "resize"))
            parts = (" and ".join(filter(None, (net, segmenter))), resize)
            sizes = sorted({figure.n for figure in figures})
            rows.append((title, *(part or "none" for part in parts), " or ".join(map(str, sizes))))
    return Table("Instruments of the quality figures", ("Figure", "Network and weights", "Resize", "n"), tuple(rows))


_STATUS_WORDS = {Status.OUTSIDE_GROUPS.value: OUTSIDE_GROUPS}

_RARE = (Status.OUTSIDE_GROUPS, Status.UNLABELLED)
"""Statuses without a column if no image has them."""


def status_table(story: Story) -> Table:
    """Images by status, per arm, and per attribute if the attributes differ."""
    counts = {
        (name, arm): status_counts(story, name, arm) for name in _measured_attributes(story) for arm in story.arms
    }
    found = dict.fromkeys(status for row in counts.values() for status in row)
    rare = {status for status in _RARE if not any(row.get(status) for row in counts.values())}
    statuses = tuple(status for status in found if status not in rare)
    rows = []
    for name in _measured_attributes(story):
        for arm in story.arms:
            cells = (str(counts[name, arm].get(status, 0)) for status in statuses)
            rows.append((arm, label(name), *cells, percent(unclassified(story, name, arm).value)))
    alike = all(row == counts[_measured_attributes(story)[0], arm] for (_, arm), row in counts.items())
    shown = [(row[0], "all", *row[2:]) for row in rows[: len(story.arms)]] if alike else rows
    columns = (
        "Arm",
        "Attribute",
        *(_STATUS_WORDS.get(status, label(status)).capitalize() for status in statuses),
        "Unclassified",
    )
    return Table("Images by status", columns, tuple(shown), names=2)


def _measured_attributes(story: Story) -> tuple[str, ...]:
    return tuple(dict.fromkeys(key[2] for key in story.rows))


def feature_sections(story: Story) -> tuple[FeatureSection, ...]:
    """Bias features per attribute, the leading ones of each group by score; empty if no lens was used."""
    lens = story.result.lens
    features = [FeatureFinding(**item) for item in lens.get("features") or []]
    strengths: Mapping[str, Mapping[str, Mapping[str, float]]] = lens.get("strengths") or {}
    names = dict.fromkeys([*(item.attribute for item in features), *strengths])
    sections = []
    for name in names:
        groups = _feature_groups([item for item in features if item.attribute == name])
        table = _strength_table(story, name, strengths[name]) if strengths.get(name) else None
        sections.append(FeatureSection(name, _feature_heatmap(story, name, groups), groups, table))
    return tuple(sections)


def _feature_groups(features: Sequence[FeatureFinding]) -> tuple[FeatureGroup, ...]:
    groups = []
    for group in dict.fromkeys(item.group for item in features):
        ranked = sorted((item for item in features if item.group == group), key=lambda item: -item.score)
        groups.append(FeatureGroup(group, tuple(ranked[:FEATURES_PER_GROUP]), len(ranked)))
    return tuple(groups)


def _feature_heatmap(story: Story, attribute: str, groups: Sequence[FeatureGroup]) -> Figure | None:
    leading = [feature for group in groups for feature in group.features]
    prompts = [prompt for prompt in _columns(story, attribute) if any(prompt in item.by_prompt for item in leading)]
    if not leading or not prompts:
        return None
    rows = [
        HeatRow(
            f"{label(feature.group)} · {feature.latent}",
            tuple(feature.by_prompt.get(prompt, 0.0) for prompt in prompts),
            opens_block=place == 0,
        )
        for group in groups
        for place, feature in enumerate(group.features)
    ]
    title = f"Attribution of {label(attribute)} features per occupation"
    largest = max(abs(value) for row in rows for value in row.values)
    description = (
        "Rows are bias features by group, columns are occupations in the order of the chart of shares. A cell is the "
        "feature's attribution for that occupation at baseline minus its mean over the occupations; plus and minus "
        "signs mark the strong cells."
    )
    frame = Frame(f"heat-{attribute}", title, description)
    svg = heatmap(frame, [story.occupation(prompt) for prompt in prompts], rows)
    cells = tuple((row.label, *(number(value) for value in row.values)) for row in rows)
    table = Table(title, ("Group · latent", *map(story.occupation, prompts)), cells)
    caption = f"{title} (attribution minus its mean; strongest colour ±{number(largest)}, + raises and − lowers)"
    return Figure(frame.key, caption, svg, table)


def _columns(story: Story, attribute: str) -> tuple[str, ...]:
    known = {item.name: item for item in story.attributes}
    return in_order(story, known[attribute]) if attribute in known else story.prompts


def _strength_table(story: Story, attribute: str, strengths: Mapping[str, Mapping[str, float]]) -> Table:
    groups = tuple(dict.fromkeys(group for row in strengths.values() for group in row))
    rows = tuple(
        (story.occupation(prompt), *(number(row.get(group)) for group in groups)) for prompt, row in strengths.items()
    )
    caption = f"Strength of the {label(attribute)} edit per occupation and group"
    return Table(caption, ("Occupation", *map(label, groups)), rows)


def strongest_occupations(story: Story, feature: FeatureFinding, count: int = 3) -> str:
    """Name the occupations that a feature carries most, with their attribution above the mean."""
    ranked = sorted(feature.by_prompt.items(), key=lambda item: -item[1])[:count]
    positive = [f"{story.occupation(prompt)} +{number(value)}" for prompt, value in ranked if value > 0]
    return ", ".join(positive) or "none above the mean"


def lens_figures(quality: Mapping[str, Any]) -> tuple[Figure, ...]:
    """Quality of the lens per denoising step: unexplained variance and accuracy of the group classifier."""
    figures = []
    if quality.get("unexplained_variance"):
        series = [Series("unexplained", tuple(quality["unexplained_variance"]))]
        high = _round_up(max(series[0].values))
        title = "Variance that the sparse autoencoder leaves unexplained, per step"
        figures.append(_step_figure("lens-variance", title, "fraction of variance unexplained", series, high))
    accuracy: Mapping[str, Sequence[float]] = quality.get("head_accuracy") or {}
    series = [Series(label(name), tuple(values)) for name, values in accuracy.items() if values]
    if series:
        title = "Accuracy of the group classifier on the hookpoint, per step"
        figures.append(_step_figure("lens-accuracy", title, "held-out accuracy", series, 1.0))
    return tuple(figures)


def _step_figure(key: str, title: str, axis: str, series: Sequence[Series], high: float) -> Figure:
    steps = max(len(item.values) for item in series)
    names = ", ".join(item.label for item in series)
    description = f"{title}: {steps} denoising steps from noise to image; lines: {names}."
    svg = lines(Frame(key, title, description, 430.0), axis, series, high=high)
    rows = tuple((str(step + 1), *(_at(item, step) for item in series)) for step in range(steps))
    return Figure(key, title, svg, Table(title, ("Step", *(item.label for item in series)), rows))


def _at(series: Series, step: int) -> str:
    return number(series.values[step]) if step < len(series.values) else "–"


def _round_up(value: float) -> float:
    """Round the largest value of an axis up to the next tick."""
    step = tick_step(value)
    return max(math.ceil(value / step) * step, step)
