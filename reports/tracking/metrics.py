"""An audit's figures as MLflow metrics, under the same names in every arm."""

from __future__ import annotations

from typing import TYPE_CHECKING

from audit.records.quality import Measurement
from reports.index.lookups import findings_count, mean_discrepancy, mean_over_prompts, unclassified, worst_prompt
from reports.index.story import Story
from reports.tracking.params import key_of

if TYPE_CHECKING:
    pass


def headline_metrics(story: Story) -> dict[str, float]:
    """Return the parent run's metrics, about forty: every arm's under ``<arm>/<metric>``."""
    metrics = {"prompts": float(len(story.prompts)), "arms": float(len(story.arms))}
    for arm in story.arms:
        metrics |= {f"{key_of(arm)}/{key}": value for key, value in arm_metrics(story, arm).items()}
    return metrics


def arm_metrics(story: Story, arm: str) -> dict[str, float]:
    """Return one arm's metrics, under the same names in every arm, so that child runs compare column by column."""
    return {key: value for key, value in (_fairness(story, arm) | _quality(story, arm)).items() if value is not None}


def _fairness(story: Story, arm: str) -> dict[str, float | None]:
    metrics: dict[str, float | None] = {}
    for attribute in story.attributes:
        name = key_of(attribute.name)
        worst = worst_prompt(story, attribute.name, arm)
        metrics[f"{name}/fairness_discrepancy_mean"] = mean_discrepancy(story, attribute.name, arm)
        metrics[f"{name}/fairness_discrepancy_worst"] = worst.value if worst else None
        metrics[f"{name}/findings"] = findings_count(story, attribute.name, arm)
        mean = mean_over_prompts(story, attribute.name, arm)
        metrics[f"{name}/soft_discrepancy_mean"] = mean.soft if mean else None
        metrics[f"{name}/unclassified_share"] = unclassified(story, attribute.name, arm).value
    return metrics


def _quality(story: Story, arm: str) -> dict[str, float | None]:
    quality = story.quality.get(arm)
    if quality is None:
        return {}
    metrics: dict[str, float | None] = {"clip_t": _value(quality.clip_t), "clip_i": _value(quality.clip_i)}
    for name, figure in (("fid", quality.fid), ("kid", quality.kid)):
        metrics[f"{name}_to_baseline"] = _value(figure)
        metrics[f"{name}_noise_floor"] = figure.extra.get("noise_floor") if figure else None
    metrics["fid_to_reference"] = _value(quality.fid_to_reference)
    metrics["kid_to_reference"] = _value(quality.kid_to_reference)
    metrics["prompt_shown"] = quality.prompt_shown.value if quality.prompt_shown else None
    metrics |= {f"{key_of(name)}/share_shift": shift for name, shift in quality.attribute_shift.items()}
    return metrics


def _value(figure: Measurement | None) -> float | None:
    return figure.value if figure else None
