"""Figures of models side by side: discrepancies with places, shares of groups, quality and cost.

A place is a range. With the established differences, a model is behind every model that is established to be less
skewed, and ahead of every model that is established to be more skewed. Between these limits its place is open
(confidence sets for ranks from simultaneous statements about all pairs: Mogstad, Romano, Shaikh and Wilhelm 2024,
Review of Economic Studies 91). All places of a comparison are right together with the error rate of the differences.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from audit.measure.discrepancy.estimate import debiased_squares, discrepancy_intervals, display
from audit.measure.discrepancy.samples import Samples
from audit.measure.discrepancy.worst import worst
from audit.measure.inference.intervals import share_estimate
from audit.planning.targets import target_of
from audit.records.attributes import Attribute
from audit.records.estimates import Estimate
from audit.records.work import Status
from audit.results.groups import PromptSquares
from audit.results.models.places import ModelRun, common_prompts, having, targets_of
from audit.results.models.records import Difference, ModelCost, ModelDiscrepancy, ModelFigure, ModelShare
from audit.storage.run_directory import TIMES, RunDirectory

FIGURES = (
    "clip_t", "prompt_shown", "face_found", "several_faces", "clip_i", "dino_i", "lpips", "psnr", "kid", "fid",
    "kid_to_reference", "fid_to_reference",
)  # fmt: skip
"""Quality figures of ``audit.json``; those from ``clip_i`` on compare an arm with its own baseline or a reference."""


def discrepancies_of(
    models: Sequence[ModelRun], arms: Sequence[str], attributes: Sequence[Attribute], found: Sequence[Difference]
) -> Iterator[ModelDiscrepancy]:
    """Yield the discrepancy and the place of every model, over the prompts that all models with the arm have.

    Args:
        models: The models.
        arms: Arms that at least two models have.
        attributes: Attributes that all models have.
        found: The tested differences.
    """
    for arm in arms:
        own = having(models, arm)
        for attribute in attributes:
            prompts = common_prompts(own, arm, attribute)
            if not prompts:
                continue
            targets = targets_of(own, prompts, attribute)
            of_arm = [d for d in found if (d.arm, d.attribute) == (arm, attribute.name) and d.group is None]
            for model in own:
                samples = model.samples(arm, prompts, attribute)
                largest = worst(samples, targets)
                first, last = place_of(model.name, len(own), of_arm)
                yield ModelDiscrepancy(
                    model=model.name,
                    arm=arm,
                    attribute=attribute.name,
                    mean=mean_discrepancy(samples, targets),
                    worst=Estimate(largest.value, largest.low, largest.high, largest.n),
                    worst_prompt=prompts[largest.place],
                    best_place=first,
                    last_place=last,
                )


def mean_discrepancy(samples: Samples, targets: np.ndarray) -> Estimate:
    """Return the root mean square over at least one prompt, with its 95 % interval for these prompts."""
    squares = PromptSquares(samples, targets)
    if len(targets) == 1:
        value = display(float(debiased_squares(samples, targets)[0]))
        low, high = discrepancy_intervals(samples, targets)[0].tolist()
        return Estimate(value, min(low, value), max(high, value), 1)
    these = squares.of_these_prompts()
    return Estimate(display(these.value), display(these.low), display(these.high), these.n)


def place_of(model: str, models: int, found: Sequence[Difference]) -> tuple[int, int]:
    """Return the smallest and the largest place of a model that the established differences allow.

    Args:
        model: Name of the model.
        models: Number of models.
        found: Differences of the mean discrepancies of one arm and attribute.
    """
    own = [d for d in found if d.established and model in (d.first, d.second)]
    worse = sum((d.difference.value > 0) == (d.first == model) for d in own)
    return 1 + worse, models - (len(own) - worse)


def shares_of(models: Sequence[ModelRun], arms: Sequence[str], attributes: Sequence[Attribute]) -> Iterator[ModelShare]:
    """Yield the share of every group in every prompt of every model, each with its own 95 % interval."""
    for model in models:
        for arm, prompt in model.run.images:
            for attribute in attributes if arm in arms else ():
                counts = model.labels(arm, prompt, attribute).sum(axis=0).astype(int).tolist()
                target = target_of(model.run.targets, prompt, attribute)
                for group, count, goal in zip(attribute.groups, counts, target, strict=True):
                    if n := sum(counts):
                        share = share_estimate(count, n)
                        yield ModelShare(model.name, arm, prompt, attribute.name, group, share, goal)


def figures_of(model: str, quality: object) -> Iterator[ModelFigure]:
    """Yield the quality figures of a model; what is no figure is left out.

    Args:
        model: Name of the model.
        quality: Rows under ``quality`` in ``audit.json``, which can contain any value.
    """
    for row in quality if isinstance(quality, list) else ():
        for name in FIGURES if isinstance(row, Mapping) else ():
            found = row.get(name)
            if isinstance(found, Mapping) and isinstance(found.get("value"), int | float):
                yield ModelFigure(
                    model=model,
                    arm=str(row.get("arm")),
                    figure=name,
                    value=float(found["value"]),
                    low=found.get("low"),
                    high=found.get("high"),
                    n=int(found.get("n") or 0),
                    signature=str(found.get("signature", "")),
                )


def cost_of(model: ModelRun, directory: RunDirectory) -> ModelCost:
    """Return what the audit of a model took, over all its arms."""
    statuses = directory.read_results(["status"])["status"].to_pylist()
    failed = statuses.count(Status.FAILED.value)
    made = [images for images in model.run.images.values() if len(images.indices)]
    unclassified = sum(int((~images.complete(model.run.attributes)).sum()) for images in made) - failed
    return ModelCost(
        model=model.name,
        images=len(statuses),
        failed=failed,
        unclassified=share_estimate(unclassified, len(statuses) - failed) if len(statuses) > failed else None,
        seconds_per_image=_seconds_per_image(directory),
    )


def _seconds_per_image(directory: RunDirectory) -> float | None:
    """Return the time of a worker for an image, in seconds; None without a file of times that can be read."""
    try:
        times = directory.read_json(TIMES) if directory.has(TIMES) else {}
        return float(times["seconds"]) / int(times["images"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
