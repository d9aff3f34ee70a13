"""Measures how far edits leave what the model makes without them: activations, images, and faces.

Everything is held out: manifolds and components of images with even index come from baseline images with odd index, and
the other way round. An edited image shares its noise with its baseline image, so it is held out from that one too. The
intervals cover the variation of the measured images, given the half with which they are measured.

Legend: n images, S recorded steps, m numbers of a vector.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from audit.measure.image_sets.frechet import FeatureStats
from audit.measure.image_sets.manifold import LEAST_IMAGES, outside_manifold
from audit.measure.image_sets.subspace import VECTORS_PER_COMPONENT, Subspace, distances, has_unit, outside
from audit.measure.inference.span import CHANGE_OF_SHARE, SHARE, Span
from audit.measure.prompts.over_prompts import like_these, mean_of_these_prompts
from audit.measure.shares.changes import paired_share_difference
from audit.records.arms.off_path import (
    VECTOR_LENGTH,
    Activations,
    Measured,
    OffPath,
    PairedFigure,
    StepFigures,
    recorded_steps,
)
from audit.records.estimates import OverPrompts
from audit.records.work import BASELINE, Status
from audit.results.arm_rows import ArmRows
from audit.results.quality import FeatureSet
from audit.results.scores import Scores
from audit.storage.rows import ACTIVATIONS

LEAST_HALF = 4 * VECTORS_PER_COMPONENT
"""Fewest baseline images in each half; fewer give less than four components."""

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Key = tuple[str, int]


@dataclass(frozen=True)
class Vectors:
    """Recorded activations of one arm at one choice of places.

    Attributes:
        keys: Prompt and index of the n images.
        values: Shape (n, S, m), NaN at steps at which the arm edits nothing.
    """

    keys: tuple[Key, ...]
    values: NDArray[np.float32]


Recorded = Mapping[str, Mapping[str, Vectors]]
"""Arm → places → activations."""


@dataclass(frozen=True)
class PathEvidence:
    """What the figures are computed from.

    Attributes:
        recorded: Activations of the arms.
        features: Features of the images of each arm.
        looks_for_faces: Whether the judge gives images without a face the status *no face*.
        steps: Steps of an image.
    """

    recorded: Recorded
    features: Mapping[str, FeatureSet]
    looks_for_faces: bool
    steps: int


def recorded_of(tables: Sequence[pa.Table]) -> Recorded:
    """Return the activations in rows with the columns ``arm``, ``prompt_id``, ``index`` and ``activations``."""
    found: dict[str, dict[str, list[tuple[Key, NDArray[np.float32]]]]] = {}
    for table in tables:
        kept = table.filter(table[ACTIVATIONS].is_valid())
        columns = (kept[name].to_pylist() for name in ("arm", "prompt_id", "index"))
        for arm, prompt, index, value in zip(*columns, kept[ACTIVATIONS], strict=True):
            for places, vector in zip(value.values.field(0), value.values.field(1), strict=True):
                numbers = vector.values.to_numpy(zero_copy_only=False).reshape(-1, VECTOR_LENGTH)
                found.setdefault(arm, {}).setdefault(places.as_py(), []).append(((prompt, index), numbers))
    return {
        arm: {
            places: Vectors(tuple(key for key, _ in rows), np.stack([numbers for _, numbers in rows]))
            for places, rows in by_place.items()
        }
        for arm, by_place in found.items()
    }


def off_path(arms: Mapping[str, ArmRows], edits_maps: Sequence[str], evidence: PathEvidence) -> tuple[OffPath, ...]:
    """Return the figures of every edited arm.

    Args:
        arms: Arm → its rows, the baseline first.
        edits_maps: Arms that edit maps of the network.
        evidence: What else is known of the images.
    """
    edited = [rows for arm, rows in arms.items() if arm != BASELINE]
    return tuple(_of_arm(rows, arms[BASELINE], rows.arm in edits_maps, evidence) for rows in edited)


def _of_arm(rows: ArmRows, baseline: ArmRows, edits_map: bool, evidence: PathEvidence) -> OffPath:
    inside, inside_status = _activations(rows.arm, edits_map, evidence)
    images, images_status = _images(rows.arm, evidence.features)
    lost, face_status = _face_lost(rows, baseline, evidence.looks_for_faces)
    return OffPath(
        arm=rows.arm,
        activations_status=inside_status,
        images_status=images_status,
        face_status=face_status,
        activations=inside,
        unlike_prompt=images.get("prompt"),
        unlike_all=images.get("all"),
        face_lost=lost,
    )


def _face_lost(rows: ArmRows, baseline: ArmRows, looks: bool) -> tuple[OverPrompts | None, Measured]:
    if not looks:
        return None, Measured.NO_FACE_CHECK
    unseen = [Status.NO_FACE.value, Status.FAILED.value]
    had = ~np.isin(baseline.statuses, unseen) & (rows.statuses != Status.FAILED.value)
    if not had.any():
        return None, Measured.NO_FACES
    lost = rows.statuses[had] == Status.NO_FACE.value
    return Scores(lost.astype(np.float64), baseline.prompt_numbers()[had]).share_shown(), Measured.MEASURED


def _images(arm: str, features: Mapping[str, FeatureSet]) -> tuple[dict[str, PairedFigure], Measured]:
    if BASELINE not in features or arm not in features:
        return {}, Measured.NO_NETWORK
    edited, baseline = features[arm].paired_sample(features[BASELINE])
    keys = _common_keys(features[arm], features[BASELINE])
    odd = np.array([index % 2 == 1 for _, index in keys], dtype=np.bool_)
    prompts = np.array([prompt for prompt, _ in keys])
    found = {}
    for name, groups in (("prompt", sorted(set(prompts.tolist()))), ("all", [None])):
        marks = [
            _marks(edited.features, baseline.features, odd, prompts == group if group else None) for group in groups
        ]
        kept = np.concatenate([places for places, _, _ in marks]) if marks else np.zeros(0, np.int64)
        if len(kept) >= 2:
            after, before = (np.concatenate([own[which] for own in marks]) for which in (1, 2))
            found[name] = _paired_shares(before, after, prompts[kept])
    return found, Measured.MEASURED if found else Measured.TOO_FEW


def _common_keys(first: FeatureSet, second: FeatureSet) -> list[Key]:
    known = set(second.kept_keys)
    return [key for key in first.kept_keys if key in known]


def _marks(
    edited: NDArray[np.floating], baseline: NDArray[np.floating], odd: Bools, chosen: Bools | None
) -> tuple[NDArray[np.int64], Bools, Bools]:
    """Return places of images, and which edited and baseline images lie outside the manifold of the other half."""
    own = np.ones(len(odd), dtype=np.bool_) if chosen is None else chosen
    places, after, before = [np.zeros(0, np.int64)], [np.zeros(0, np.bool_)], [np.zeros(0, np.bool_)]
    for half in (False, True):
        tried, others = own & (odd == half), own & (odd != half)
        if others.sum() >= LEAST_IMAGES and tried.any():
            places.append(np.flatnonzero(tried))
            after.append(outside_manifold(edited[tried], baseline[others]))
            before.append(outside_manifold(baseline[tried], baseline[others]))
    return np.concatenate(places), np.concatenate(after), np.concatenate(before)


def _activations(arm: str, edits_map: bool, evidence: PathEvidence) -> tuple[Activations | None, Measured]:
    recorded = evidence.recorded
    own = recorded.get(arm, {})
    if not own:
        return None, Measured.NOT_RECORDED if edits_map else Measured.NO_MAP
    [(places, edited)] = own.items()
    baseline = recorded.get(BASELINE, {}).get(places)
    if baseline is None:
        return None, Measured.NOT_RECORDED
    known = {key: place for place, key in enumerate(baseline.keys)}
    pairs = [(place, known[key]) for place, key in enumerate(edited.keys) if key in known]
    first, second = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    keys = [edited.keys[place] for place in first]
    values = (baseline.values[second], edited.values[first])
    edits: Bools = np.isfinite(values[1]).any(axis=(0, 2)).reshape(-1)  # (S,) whether the arm edits at a step
    whole: Bools = np.isfinite(np.stack(values)[:, :, edits]).all(axis=(0, 2, 3)).reshape(-1)
    found = _from_pairs(
        places,
        [keys[place] for place in np.flatnonzero(whole)],
        (values[0][whole], values[1][whole]),
        [step for step, there in zip(_calls(evidence.steps, len(edits)), edits, strict=True) if there],
        edits,
    )
    if found is not None:
        return found, Measured.MEASURED
    return None, Measured.TOO_FEW if whole.all() else Measured.NOT_FINITE


def _calls(steps: int, recorded: int) -> range:
    """Return the calls of the denoiser that were recorded.

    A sampler of a higher order has more calls than steps: one more (PNDM), or nearly two for each step (Heun).
    """
    possible = (recorded_steps(calls) for calls in (steps, steps + 1, max(0, 2 * steps - 1), 2 * steps))
    return next((found for found in possible if len(found) == recorded), range(recorded))


def _from_pairs(
    places: str,
    keys: Sequence[Key],
    values: tuple[NDArray[np.float32], NDArray[np.float32]],
    steps: Sequence[int],
    edits: Bools,
) -> Activations | None:
    """Compare activations (n, S, m) of the baseline and of the arm at ``steps``; None if there are too few."""
    baseline, edited = (own[:, edits] for own in values)
    odd = np.array([index % 2 == 1 for _, index in keys], dtype=np.bool_)
    if min(odd.sum(), (~odd).sum()) < LEAST_HALF:
        return None
    prompts = np.array([prompt for prompt, _ in keys])
    looks = {
        step: look
        for place, step in enumerate(steps)
        if (look := _at_step(edited[:, place], baseline[:, place], odd)) is not None
    }
    if not looks:
        return None
    every = list(looks.values())
    far, left = (np.mean([getattr(look, name) for look in every], axis=0) for name in ("distance", "outside"))
    return Activations(
        places=places,
        distance=_paired_means(far, prompts, (Span(0.0), Span())),
        outside=_paired_means(left, prompts, (SHARE, CHANGE_OF_SHARE)),
        components=float(np.mean([look.components for look in every])),
        explained=float(np.mean([look.explained for look in every])),
        by_step=tuple(_step_figures(step, look) for step, look in looks.items()),
    )


@dataclass(frozen=True)
class _Look:
    """Figures of one step; ``distance`` and ``outside`` have shape (2, n), before and after."""

    distance: Floats
    outside: Floats
    components: float
    explained: float


def _at_step(edited: NDArray[np.float32], baseline: NDArray[np.float32], odd: Bools) -> _Look | None:
    """Measure vectors (n, m) of both arms, each half with the unedited vectors of the other; None if they are equal."""
    far, left, spaces = np.zeros((2, len(odd))), np.zeros((2, len(odd))), list[Subspace]()
    for half in (False, True):
        others = baseline[odd != half]
        tried = odd == half
        if not (np.ptp(others, axis=0).any() and np.ptp(baseline[tried], axis=0).any()):
            return None
        space = Subspace.of(FeatureStats.of(others))
        if not has_unit(space, baseline[tried]):
            return None
        spaces.append(space)
        for row, vectors in enumerate((baseline, edited)):
            far[row, tried] = distances(space, baseline[tried], vectors[tried])
            left[row, tried] = outside(space, baseline[tried], vectors[tried])
    return _Look(
        far,
        left,
        float(np.mean([len(space.basis) for space in spaces])),
        float(np.mean([space.explained for space in spaces])),
    )


def _step_figures(step: int, look: _Look) -> StepFigures:
    before, after = look.distance.mean(1).tolist()
    left_before, left_after = look.outside.mean(1).tolist()
    return StepFigures(step, before, after, left_before, left_after)


def _paired_means(both: Floats, prompts: NDArray[np.str_], spans: tuple[Span, Span]) -> PairedFigure:
    """Return means of figures before and after, shape (2, n); ``spans`` are the ranges of a mean and of a change."""
    numbers = np.unique(prompts, return_inverse=True)[1]
    before, after = (Scores(values, numbers).mean(spans[0]) for values in both)
    return PairedFigure(before, after, Scores(both[1] - both[0], numbers).mean(spans[1]))


def _paired_shares(before: Bools, after: Bools, prompts: NDArray[np.str_]) -> PairedFigure:
    """Return shares before and after, and the paired difference, each prompt with the same weight."""
    numbers = np.unique(prompts, return_inverse=True)[1]
    first, second = (Scores(marks.astype(np.float64), numbers).share_shown() for marks in (before, after))
    each = [
        paired_share_difference(before[numbers == place], after[numbers == place]) for place in range(numbers.max() + 1)
    ]
    if len(each) == 1:
        return PairedFigure(first, second, OverPrompts(each[0].value, each[0].low, each[0].high, len(before)))
    values, ends = [one.value for one in each], [(one.low, one.high) for one in each]
    change = like_these(CHANGE_OF_SHARE.held(mean_of_these_prompts(values, ends)), values, CHANGE_OF_SHARE)
    return PairedFigure(first, second, replace(change, n=len(before)))
