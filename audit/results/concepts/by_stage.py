"""Figures of edits by stage: strengths that were chosen, success with intervals, and what else changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit.analyses.stages.request import Arm, Kind
from audit.analyses.stages.trials import NOT_COUNTED
from audit.measure.inference.intervals import mean_interval, share_estimate
from audit.records.estimates import Estimate
from audit.records.inside.concepts import StageFigures

ALL = "all"
"""All concepts of a kind together."""

Measured = Mapping[str, NDArray[Any]]


def chosen_strengths(tried: Mapping[Arm, Measured], least_similarity: float) -> dict[tuple[Kind, str], float]:
    """Return by kind and window the strength that succeeds most often, all concepts together.

    A strength counts only if edited pictures stay similar enough to the unedited ones; if none does, the one with the
    most similar pictures is taken. Of equal ones, the smallest is taken.

    Args:
        tried: Arm → what was measured.
        least_similarity: Least mean similarity (CLIP-I); it is not applied without CLIP.
    """
    pooled: dict[tuple[Kind, str], dict[float, list[Measured]]] = {}
    for arm, measured in tried.items():
        pooled.setdefault((arm.kind, arm.stage), {}).setdefault(arm.strength, []).append(measured)
    return {key: _chosen(by_strength, least_similarity) for key, by_strength in pooled.items()}


def _chosen(by_strength: Mapping[float, Sequence[Measured]], least_similarity: float) -> float:
    found = {strength: _success_and_similarity(measured) for strength, measured in sorted(by_strength.items())}
    similar = [beta for beta, (_, similarity) in found.items() if not similarity < least_similarity]
    if similar:
        return max(similar, key=lambda beta: (found[beta][0], -beta))
    return max(found, key=lambda beta: found[beta][1])


def _success_and_similarity(measured: Sequence[Measured]) -> tuple[float, float]:
    success = np.concatenate([one["success"] for one in measured])
    counted = success[success != NOT_COUNTED]
    similarity = float(np.concatenate([one["similarity"] for one in measured]).mean())
    return (float(counted.mean()) if len(counted) else 0.0), similarity


def stage_figures(found: Mapping[Arm, Measured]) -> tuple[StageFigures, ...]:
    """Return figures of each arm, then of all concepts of a kind and window together.

    An arm whose concept every image showed before the edit has no figures.
    """
    figures = [_figures(arm.kind, arm.concept, arm.stage, arm.strength, [one]) for arm, one in found.items()]
    pooled: dict[tuple[Kind, str, float], list[Measured]] = {}
    for arm, measured in found.items():
        pooled.setdefault((arm.kind, arm.stage, arm.strength), []).append(measured)
    figures += [_figures(kind, ALL, stage, beta, each) for (kind, stage, beta), each in pooled.items()]
    return tuple(figure for figure in figures if figure is not None)


def _figures(kind: Kind, concept: str, stage: str, strength: float, each: Sequence[Measured]) -> StageFigures | None:
    joined = {name: np.concatenate([one[name] for one in each]) for name in each[0]}
    counted = joined["success"] != NOT_COUNTED
    if not counted.any():
        return None
    means = {name: _mean(joined[name][counted]) for name in ("clip", "similarity", "distance")}
    success = share_estimate(int(joined["success"][counted].sum()), int(counted.sum()))
    if len(each) > 1:
        success = _over_images([one["success"] for one in each])
    return StageFigures(kind, concept, stage, strength, success, **means)


def _over_images(each: Sequence[NDArray[Any]]) -> Estimate:
    """Return the mean over images of the share of concepts that succeed, since one image is edited for each concept.

    An image that showed all concepts before is left out. If every concept succeeds in all images, or in none, their
    spread is 0 and says nothing; the interval is then that of a share of images.
    """
    stacked = np.stack(each).astype(np.float64)  # (concepts, images)
    counted = stacked != NOT_COUNTED
    if (counted.sum(0) <= 1).all():
        return share_estimate(int((stacked * counted).sum()), int(counted.sum()))
    shares = (stacked * counted).sum(0)[counted.any(0)] / counted.sum(0)[counted.any(0)]
    if shares.min() == shares.max() and shares[0] in (0.0, 1.0):
        return share_estimate(int(shares.sum()), len(shares))
    found = mean_interval(shares) if len(shares) > 1 else Estimate(float(shares[0]), 0.0, 1.0, 1)
    return Estimate(found.value, max(found.low, 0.0), min(found.high, 1.0), found.n)


def _mean(values: NDArray[Any]) -> Estimate | None:
    """Return the mean with its interval over images; None without an instrument."""
    return None if np.isnan(values).any() or len(values) < 2 else mean_interval(values)
