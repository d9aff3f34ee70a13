"""How far the features of a lens can be trusted: verdicts, stability, curves and maps for the section on features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from audit.records.inside.honesty import Curve, FeatureHonesty, GroupHonesty, LensHonesty
from reports.charts.banded import BandedLine, banded_lines
from reports.charts.lines import Series, lines
from reports.charts.small_map import small_map
from reports.charts.svg import Frame
from reports.figures.charts import Figure, Table
from reports.index.story import Story, label
from reports.words.formats import number, with_interval

PASSES, FAILS = "✓ passes", "✗ fails"
_NONE = "–"


@dataclass(frozen=True)
class FeatureMark:
    """What the table of leading features shows of one feature.

    Attributes:
        auc: AUC with its interval.
        map: Mean activation by position; empty if it is not stored.
        verdict: Whether it passes, or why it fails.
    """

    auc: str
    map: Markup
    verdict: str


@dataclass(frozen=True)
class AttributeHonesty:
    """The part of one attribute.

    Attributes:
        lines: Stability, overlap and curves in words.
        marks: (group, latent) → what the table of leading features shows.
        tables: All features of each group.
        curves: Deletion and insertion of each group.
        per_step: AUC at each step, None without one.
    """

    lines: tuple[str, ...]
    marks: Mapping[tuple[str, int], FeatureMark]
    tables: tuple[Table, ...]
    curves: tuple[Figure, ...]
    per_step: Figure | None


@dataclass(frozen=True)
class HonestyPart:
    """The part of the section on features.

    Attributes:
        summary: How many features fail, in words.
        method: How the figures are made, in words.
        attributes: Attribute → its part.
        left_out: Attributes without figures, and why.
    """

    summary: str
    method: tuple[str, ...]
    attributes: Mapping[str, AttributeHonesty]
    left_out: tuple[str, ...]


def honesty_part(story: Story) -> HonestyPart | None:
    """Return the part, None for a lens of an older release.

    Raises:
        ValueError: The figures have another format.
    """
    data = story.result.lens.get("honesty")
    if data is None:
        return None
    found = LensHonesty.of_data(data)
    total = sum(len(group.features) for group in found.groups)
    failing = sum(group.failing for group in found.groups)
    return HonestyPart(
        f"{failing} of {total} features fail a check.",
        tuple(_method(found)),
        {attribute: _attribute(found, attribute) for attribute in found.attributes},
        tuple(f"{label(attribute)}: {reason}" for attribute, reason in found.left_out.items()),
    )


def _method(found: LensHonesty) -> list[str]:
    halves = 2 * found.halvings
    return [
        "A feature fails if the interval of its AUC includes 0.5 (no better than chance), if fewer than half of the "
        "halves choose it (not stable), or if it raises a group of another attribute more than its own (stronger for). "
        "With 95 % intervals, a few in a hundred features without any relation to their group pass the first check.",
        f"Halves: the {found.images} images of the lens are split at random {found.halvings} times; images of the same "
        f"noise stay together. Each of the {halves} halves fits its own classifiers and chooses features again. AUC is "
        "the probability that the feature's mean activation is higher in an image of its group than in an image of "
        "another group, on the halves that did not choose it. The autoencoder, which reads no labels, is the same.",
        "Deletion sets a group's features to their mean, one by one; insertion sets all other latents to their mean. "
        f"The grey bands are the range of {found.draws} sets of random features of similar activity. The lens's own "
        "classifiers measure the probability of the group in its images, most of which they were fitted on. No "
        "picture is drawn.",
    ]


def _attribute(found: LensHonesty, attribute: str) -> AttributeHonesty:
    groups = found.of(attribute)
    return AttributeHonesty(
        (_verdicts(groups), _stability(groups, found.latents), *_overlap(found, attribute), *_beside_random(groups)),
        {(group.group, one.latent): _mark(group.group, one) for group in groups for one in group.features},
        tuple(_table(group) for group in groups if group.features),
        tuple(
            _curves(group, group.deletion, group.insertion) for group in groups if group.deletion and group.insertion
        ),
        _per_step(attribute, groups),
    )


def _verdicts(groups: Sequence[GroupHonesty]) -> str:
    parts = [
        f"{label(group.group)} {group.failing} of {len(group.features)} (mean AUC {number(group.mean_auc)})"
        for group in groups
    ]
    return f"Failing features: {', '.join(parts)}."


def _stability(groups: Sequence[GroupHonesty], latents: int) -> str:
    parts = [f"{label(group.group)} {_span(group.kept)} of {len(group.features)}" for group in groups]
    most = max(len(group.features) for group in groups)
    return f"Chosen by both halves of the images: {', '.join(parts)}; by chance {most**2 / latents:.1f}."


def _overlap(found: LensHonesty, attribute: str) -> list[str]:
    own = len(found.latents_of(attribute))
    parts = []
    for other in found.attributes:
        if other != attribute:
            chance = own * len(found.latents_of(other)) / found.latents
            parts.append(
                f"{found.shared(attribute, other)} are also features of {label(other)} (by chance {chance:.0f})"
            )
    return [f"Of {own} features, {', '.join(parts)}."] if parts else []


def _beside_random(groups: Sequence[GroupHonesty]) -> list[str]:
    drawn = [(label(group.group), group.deletion, group.insertion) for group in groups]
    weak = [f"{name} (deletion)" for name, deletion, _ in drawn if deletion and not deletion.is_below_random]
    weak += [f"{name} (insertion)" for name, _, insertion in drawn if insertion and not insertion.is_above_random]
    if not any(deletion for _, deletion, _ in drawn):
        return []
    if weak:
        return [f"No stronger than random features: {', '.join(weak)}."]
    return ["Deletion and insertion are stronger than those of every random set, for all groups."]


def _mark(group: str, one: FeatureHonesty) -> FeatureMark:
    title = f"Latent {one.latent}, mean activation by position in images of {label(group)}"
    return FeatureMark(_auc(one), small_map(title, one.map) if one.map else Markup(), _verdict(one))


def _auc(one: FeatureHonesty) -> str:
    return with_interval(one.auc.value, one.auc.low, one.auc.high) if one.auc else _NONE


def _verdict(one: FeatureHonesty) -> str:
    return f"{FAILS}: {', '.join(map(_words, one.failures))}" if one.failures else PASSES


def _words(reason: str) -> str:
    return reason.replace("_", " ")


def _table(group: GroupHonesty) -> Table:
    rows = tuple(
        (
            str(one.latent),
            number(one.score),
            _auc(one),
            str(one.auc.n) if one.auc else _NONE,
            f"{one.chosen} of {one.halves}",
            ", ".join(f"{label(other.attribute)}: {label(other.group)} {number(other.score)}" for other in one.shared)
            or _NONE,
            _verdict(one),
        )
        for one in group.features
    )
    columns = ("Latent", "Score", "AUC", "Images", "Halves that choose it", "Shared with (its score)", "Verdict")
    return Table(f"Features towards {label(group.group)}, {group.images} images show it", columns, rows)


def _curves(group: GroupHonesty, deletion: Curve, insertion: Curve) -> Figure:
    named = (("deletion", deletion), ("insertion", insertion))
    title = f"Probability of {label(group.group)} while features are deleted or inserted"
    described = "; ".join(
        f"{name}: mean {number(curve.area)}, random {number(curve.random_areas[0])} to {number(curve.random_areas[1])}"
        for name, curve in named
    )
    drawn = [BandedLine(name, curve.values, curve.random_low, curve.random_high) for name, curve in named]
    key = f"curves-{group.attribute}-{group.group}"
    svg = banded_lines(
        Frame(key, title, f"{title}. {described}.", 430.0),
        "probability; grey: random features",
        drawn,
        along="features",
    )
    rows = tuple(
        (str(place), *(cell for _, curve in named for cell in _cells(curve, place)))
        for place in range(len(deletion.values))
    )
    columns = ("Features", "Deletion", "Random features", "Insertion", "Random features")
    return Figure(key, f"{label(group.group)}: {described}", svg, Table(title, columns, rows))


def _cells(curve: Curve, place: int) -> tuple[str, str]:
    spread = f"{number(curve.random[place])} [{number(curve.random_low[place])}, {number(curve.random_high[place])}]"
    return number(curve.values[place]), spread


def _per_step(attribute: str, groups: Sequence[GroupHonesty]) -> Figure | None:
    series = [Series(label(group.group), group.auc_per_step) for group in groups if group.auc_per_step]
    if not series:
        return None
    title = f"Mean AUC of the features of {label(attribute)}, per step"
    key, steps = f"auc-{attribute}", max(len(item.values) for item in series)
    svg = lines(Frame(key, title, f"{title}; 0.5 is chance.", 430.0), "AUC, 0.5 is chance", series)
    rows = tuple((str(step + 1), *(number(item.values[step]) for item in series)) for step in range(steps))
    return Figure(key, title, svg, Table(title, ("Step", *(item.label for item in series)), rows))


def _span(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low} to {high}"
