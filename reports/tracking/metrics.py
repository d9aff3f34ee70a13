"""The audit's figures as MLflow metrics, under the same names in every arm.

A figure ``x`` has its 95 % interval as ``x_low`` and ``x_high`` if it has one, and its sample size as ``x_n``.
"""

from __future__ import annotations

from typing import Protocol

from audit.records.estimates import WithInterval
from audit.records.quality import Measurement
from reports.index.lookups import findings_count, mean_over_prompts, unclassified, worst_prompt
from reports.index.story import Story
from reports.tracking.params import key_of

Metrics = dict[str, float | None]


class _Sized(WithInterval, Protocol):
    """A figure with a sample size, and an interval if it has one."""

    @property
    def n(self) -> int: ...


def headline_metrics(story: Story) -> dict[str, float]:
    """Return the parent run's metrics: those of every arm under ``<arm>/<metric>``."""
    metrics = {"prompts": float(len(story.prompts)), "arms": float(len(story.arms))}
    for arm in story.arms:
        metrics |= {f"{key_of(arm)}/{key}": value for key, value in arm_metrics(story, arm).items()}
    return metrics


def arm_metrics(story: Story, arm: str) -> dict[str, float]:
    """Return one arm's metrics; equal names in all arms allow a comparison of child runs column by column."""
    metrics = _fairness(story, arm) | _quality(story, arm) | _clip_d(story, arm) | _shifts(story, arm)
    return {key: value for key, value in metrics.items() if value is not None}


def _fairness(story: Story, arm: str) -> Metrics:
    metrics: Metrics = {}
    for attribute in story.attributes:
        name = key_of(attribute.name)
        mean = mean_over_prompts(story, attribute.name, arm)
        metrics |= _sized(f"{name}/fairness_discrepancy_rms", mean)
        metrics |= _sized(f"{name}/fairness_discrepancy_worst", worst_prompt(story, attribute.name, arm))
        metrics[f"{name}/findings"] = findings_count(story, attribute.name, arm)
        metrics[f"{name}/soft_discrepancy_mean"] = mean.soft if mean else None
        metrics |= _sized(f"{name}/unclassified_share", unclassified(story, attribute.name, arm))
    return metrics


def _quality(story: Story, arm: str) -> Metrics:
    quality = story.quality.get(arm)
    if quality is None:
        return {}
    metrics = _sized("clip_t", quality.clip_t) | _sized("clip_i", quality.clip_i)
    metrics |= _sized("dino_i", quality.dino_i) | _sized("lpips", quality.lpips) | _sized("psnr", quality.psnr)
    for name, figure in (("fid", quality.fid), ("kid", quality.kid)):
        metrics |= _sized(f"{name}_to_baseline", figure)
        metrics[f"{name}_noise_floor"] = _noise_floor(figure)
    metrics |= _sized("fid_to_reference", quality.fid_to_reference)
    metrics |= _sized("kid_to_reference", quality.kid_to_reference)
    return metrics | _sized("prompt_shown", quality.prompt_shown) | _sized("face_found", quality.face_found)


def _clip_d(story: Story, arm: str) -> Metrics:
    """Return how near an arm's images are to the text of each group, and how far it moved them."""
    metrics: Metrics = {}
    names = {one.attribute: _clip_d_names(story, one.attribute) for one in story.result.clip_d}
    for row in (one for one in story.result.clip_d if one.arm == arm):
        own, change = (f"{key_of(row.attribute)}/{name}" for name in names[row.attribute][row.group])
        metrics |= _sized(own, row.cosine) | _sized(change, row.change)
    return metrics


def _clip_d_names(story: Story, attribute: str) -> dict[str, tuple[str, str]]:
    """Return the names of CLIP-D and of its change by group, the same in every arm.

    A group whose names another group has, since MLflow does not allow all characters, or since a name ends as bounds
    do, is numbered by its place in the attribute.
    """
    groups = dict.fromkeys(one.group for one in story.result.clip_d if one.attribute == attribute)
    taken, found = set[str](), dict[str, tuple[str, str]]()
    for place, group in enumerate(groups):
        key = key_of(group)
        while taken & (own := _reserved(key)):
            key += f"_{place}"
        taken |= own
        found[group] = f"clip_d_{key}", f"clip_d_change_{key}"
    return found


def _reserved(key: str) -> set[str]:
    return {f"clip_d_{change}{key}{end}" for change in ("", "change_") for end in ("", "_low", "_high", "_n")}


def _noise_floor(figure: Measurement | None) -> float | None:
    return figure.extra.get("noise_floor") if figure else None


def _shifts(story: Story, arm: str) -> Metrics:
    """Return how far an arm moved each attribute, with the shift that chance alone explains."""
    quality = story.quality.get(arm)
    old = quality.attribute_shift if quality else {}  # older versions store only this
    metrics: Metrics = {f"{key_of(name)}/share_shift": value for name, value in old.items()}
    for shift in story.result.shifts:
        if shift.arm == arm:
            name = f"{key_of(shift.attribute)}/share_shift"
            metrics |= {name: shift.value, f"{name}_low": shift.low, f"{name}_high": shift.high}
            metrics |= {f"{name}_n": shift.pairs, f"{name}_by_chance": shift.floor, f"{name}_p": shift.p_value}
    return metrics


def _sized(name: str, figure: _Sized | None) -> Metrics:
    """Return a figure with its interval bounds and sample size, under names that sort next to each other."""
    if figure is None:
        return {}
    return {name: figure.value, f"{name}_low": figure.low, f"{name}_high": figure.high, f"{name}_n": figure.n}
