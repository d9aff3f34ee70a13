"""Makes one shard: every arm from the same noise, one arm after the other.

The images of a key are paired over the arms, and the embeddings of the baseline are reused. No path and no cluster.

Legend: B images of a batch (fixed by the plan), n ≤ B images of the shard, d width of an embedding.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

from audit.analyses.analysis import PartObserver
from audit.config.mitigations.arms import ArmConfig, parts_of
from audit.generation.activations import Recorder, edited_places, is_recorded, place_key
from audit.generation.baselines import Baseline, Vectors
from audit.generation.if_needed import Phrases, Shown, keeping
from audit.generation.parts import ShardParts
from audit.generation.rows import Assigned, Mask, measure, table_of, with_activations
from audit.generation.settings import ShardSettings
from audit.mitigate.assignment import assigned_parts
from audit.mitigate.method import Batch
from audit.models.closed.interface import PictureBatch, PictureSource
from audit.models.denoising import NO_OBSERVERS, Observers
from audit.models.generator import Generator
from audit.models.intervention import Intervention, Observer, together
from audit.models.replay import SharedSteps
from audit.records.work import BASELINE, ImageKey, Shard


@dataclass(frozen=True)
class ShardYield:
    """The content of a shard.

    Attributes:
        table: One row per arm and image, see ``audit.storage.rows.row_schema``.
        parts: Analysis → its part, made while the baseline images were sampled.
        images: Arm → uint8 (n, 3, H, W), or n pictures (3, H, W) if they have different sizes.
    """

    table: pa.Table
    parts: dict[str, dict[str, NDArray[Any]]]
    images: Mapping[str, Tensor | tuple[Tensor, ...]]


@dataclass(frozen=True)
class _SampledBatch:
    """The batch of a shard, which every arm samples.

    Attributes:
        generator: Makes the images.
        shard: The shard.
        seeds: Of its images, repeated up to the size of a batch.
        shared: What the arms have in common.
    """

    generator: Generator
    shard: Shard
    seeds: Sequence[int]
    shared: SharedSteps

    def images(self, intervention: Intervention | None = None, observers: Observers = NO_OBSERVERS) -> Tensor:
        """Return the shard's own images (n, 3, H, W) in one arm, without the padding."""
        made = self.generator.generate(self.shard.prompt, self.seeds, intervention, observers, self.shared)
        return made[: len(self.shard.indices)]

    def edited(self, intervention: Intervention, places: tuple[str, ...]) -> tuple[Tensor, Vectors]:
        """Return the images of an arm, and its activations at the edited places; none if ``places`` is empty."""
        recorder = Recorder(places, self.generator.steps, len(self.shard.indices))
        # Parts of an arm can have windows of their own: a place that no edit changes at a step is observed.
        beside = recorder.observers() if len(places) > 1 else NO_OBSERVERS
        images = self.images(recorder.recorded(intervention), beside)
        return images, {place_key(places): recorder.vectors()} if places else {}


def do_shard(parts: ShardParts, settings: ShardSettings, shard: Shard) -> ShardYield:
    """Make and measure the images of ``shard`` in every arm; the same shard always gives the same result.

    Raises:
        ValueError: The source of the pictures has no network; :func:`do_pictures` measures them.
    """
    if isinstance(parts.generator, PictureSource):
        raise ValueError("pictures from a closed source are not sampled; measure them with do_pictures")
    steps, seeds = parts.generator.steps, [key.seed(settings.seed) for key in _padded(shard.keys, settings.batch)]
    steered = {arm.name: _steered(parts, settings, shard, arm, steps) for arm in settings.mitigations}
    interventions = {name: together(tuple(own.values())) for name, own in steered.items()}
    sampled = _SampledBatch(parts.generator, shard, seeds, SharedSteps.of(tuple(interventions.values()), steps))
    recorded = any(is_recorded(key, settings.prompts) for key in shard.keys)
    places = {name: edited_places(one) if recorded else () for name, one in interventions.items()}
    baseline, vectors = _baseline(parts, settings, sampled, tuple(dict.fromkeys(filter(None, places.values()))))
    first = measure(parts, shard, BASELINE, baseline.images)
    shown = Shown.of({one.name: first.codes(one.name) for one in settings.attributes}, settings, settings.batch)
    images, activations = {BASELINE: baseline.images}, {BASELINE: vectors}
    assigned = {BASELINE: dict[str, Assigned]()}
    for arm in settings.mitigations:
        assigned[arm.name] = {attribute: one.assigned for attribute, one in steered[arm.name].items()}
        intervention = _knowing(shown, parts, settings, shard, arm, steps) or interventions[arm.name]
        made, after = sampled.edited(intervention, places[arm.name])
        stay = shown.stay(arm, assigned[arm.name])[: len(made)]
        images[arm.name] = _where_kept(stay, baseline.images, made)
        activations[arm.name] = _activations_where_kept(stay, vectors, after)
    measured = {name: first if name == BASELINE else measure(parts, shard, name, own) for name, own in images.items()}
    table = table_of(parts, settings, shard, measured, assigned)
    return ShardYield(with_activations(table, activations, settings.prompts), baseline.parts, images)


def _where_kept(stay: Mask, before: Tensor, after: Tensor) -> Tensor:
    """Return the images (n, 3, H, W) after an intervention, of which some stay (n,) as they were before."""
    return torch.where(torch.from_numpy(stay).view(-1, 1, 1, 1), before, after)


def _activations_where_kept(stay: Mask, before: Vectors, after: Vectors) -> Vectors:
    """Return the same of activations (n, S, m); steps that the intervention does not reach have no values."""
    rows = stay[:, None, None]
    return {place: np.where(rows & np.isfinite(own), before[place], own) for place, own in after.items()}


def _steered(
    parts: ShardParts, settings: ShardSettings, shard: Shard, arm: ArmConfig, steps: int, kept: Phrases = ()
) -> dict[str, Intervention]:
    """Return what an arm does to the batch, by the attribute that it steers; its captions name the ``kept`` phrases."""
    keys, sections = _padded(shard.keys, settings.batch), parts_of(arm)
    groups = [settings.groups(section.attribute) for section in sections]
    assigned = assigned_parts(arm, groups, keys, settings.seed)
    found = {}
    for section, own, to in zip(sections, groups, assigned, strict=True):
        strengths = parts.strengths_for(section.name, shard.prompt, to)
        batch = Batch(shard.prompt, to, steps, settings.template, own, strengths, kept)
        found[section.attribute] = parts.interventions[section.name](batch)
    return found


def _knowing(
    shown: Shown, parts: ShardParts, settings: ShardSettings, shard: Shard, arm: ArmConfig, steps: int
) -> Intervention | None:
    """Return what an arm does, given what the baseline images show; None if nothing has to be kept."""
    phrases = shown.phrases(arm, settings)
    if not phrases:
        return None
    own = _steered(parts, settings, shard, arm, steps, phrases)
    return together((*own.values(), *keeping(arm, phrases, shard.prompt, settings.template, steps)))


def _baseline(
    parts: ShardParts, settings: ShardSettings, sampled: _SampledBatch, edited: Sequence[tuple[str, ...]]
) -> tuple[Baseline, Vectors]:
    """Return the baseline arm, and its activations at each of the ``edited`` places.

    Both are taken from an earlier audit of the same model that kept them, or else made and kept. Images that are made
    again for other places alone equal those that were kept.
    """
    shard, cache, steps = sampled.shard, parts.baselines, sampled.generator.steps
    names = tuple(name for name in settings.analyses if name in parts.analyses)
    recorded = {place_key(places): places for places in edited}
    kept = None if cache is None else cache.find(shard, settings.seed, settings.batch, names)
    known = {} if cache is None else cache.find_vectors(shard, settings.seed, settings.batch, tuple(recorded))
    if kept is not None and known.keys() == recorded.keys():
        return kept, known
    watching = {name: parts.analyses[name](len(shard.indices)) for name in names} if kept is None else {}
    recorders = {
        key: Recorder(places, steps, len(shard.indices)) for key, places in recorded.items() if key not in known
    }
    images = sampled.images(observers=_by_hookpoint(watching.values(), recorders.values()))
    made = kept or Baseline(images, {name: observer.part() for name, observer in watching.items()})
    found = {key: recorder.vectors() for key, recorder in recorders.items()}
    if cache is not None:
        if kept is None:
            cache.keep(made, shard, settings.seed, settings.batch)
        cache.keep_vectors(found, shard, settings.seed, settings.batch)
    return made, known | found


def do_shard_in_parts(parts: ShardParts, settings: ShardSettings, shard: Shard, batch: int) -> ShardYield:
    """Make and measure a shard in batches of ``batch`` images, if memory cannot hold all of them.

    Every image keeps its noise and its edit. Only the size of the batches differs, and kernels may round differently at
    another size: probabilities and cosines agree to about 1e-5, not bit for bit.

    Raises:
        ValueError: If ``batch`` is below 1.
    """
    if batch < 1:
        raise ValueError(f"a batch holds at least 1 image, got {batch}")
    if isinstance(parts.generator, PictureSource):
        return do_pictures(parts, parts.generator, settings, shard, batch)
    smaller = replace(settings, batch=min(batch, settings.batch))
    starts = range(0, len(shard.indices), smaller.batch)
    pieces = [replace(shard, indices=shard.indices[start : start + smaller.batch]) for start in starts]
    return _joined([do_shard(parts, smaller, piece) for piece in pieces])


def do_pictures(
    parts: ShardParts, source: PictureSource, settings: ShardSettings, shard: Shard, batch: int
) -> ShardYield:
    """Measure pictures that a source gives, at their own size: those of one size together, ``batch`` at once.

    There is one arm and no padding: nothing is sampled, so the size of a batch can only change the rounding.
    """
    batches = [piece for found in source.batches(shard.prompt, shard.indices) for piece in _cut(found, batch)]
    tables = []
    for found in batches:
        piece = replace(shard, indices=found.indices)
        measured = {BASELINE: measure(parts, piece, BASELINE, found.images)}
        tables.append(table_of(parts, settings, piece, measured, {BASELINE: {}}, found.seeds))
    pictures = {i: image for found in batches for i, image in zip(found.indices, found.images, strict=True)}
    images = tuple(pictures[index] for index in shard.indices)
    return ShardYield(pa.concat_tables(tables).sort_by("index"), {}, {BASELINE: images})


def _cut(found: PictureBatch, batch: int) -> list[PictureBatch]:
    starts = range(0, len(found.indices), batch)
    return [
        PictureBatch(found.indices[at : at + batch], found.images[at : at + batch], found.seeds[at : at + batch])
        for at in starts
    ]


def _joined(yields: Sequence[ShardYield]) -> ShardYield:
    """Join the pieces of a shard as if they had been made at once: rows arm by arm, parts added."""
    if len(yields) == 1:
        return yields[0]
    arms = {name: torch.stack([image for one in yields for image in one.images[name]]) for name in yields[0].images}
    tables = [one.table.filter(pc.field("arm") == name) for name in arms for one in yields]
    summed = {
        analysis: {name: np.asarray(sum(one.parts[analysis][name] for one in yields)) for name in part}
        for analysis, part in yields[0].parts.items()
    }
    return ShardYield(pa.concat_tables(tables), summed, arms)


def _padded(keys: Sequence[ImageKey], batch: int) -> tuple[ImageKey, ...]:
    """Repeat the last key up to the fixed size: kernels, and the last bits of an image, may depend on the size."""
    if len(keys) > batch:
        raise ValueError(f"a shard holds at most one batch of {batch} images, got {len(keys)}")
    return (*keys, *[keys[-1]] * (batch - len(keys)))


def _by_hookpoint(watching: Iterable[PartObserver], recorders: Iterable[Recorder]) -> Observers:
    """Return one observer for each hookpoint; it calls all that watch there."""
    found: dict[str, list[Observer]] = {}
    for observer in watching:
        found.setdefault(observer.hookpoint, []).append(observer)
    for recorder in recorders:
        for place, own in recorder.observers().items():
            found.setdefault(place, []).append(own)
    return {hookpoint: partial(_call_all, own) for hookpoint, own in found.items()}


def _call_all(watching: Sequence[Observer], step: int, h: Tensor) -> None:
    for observer in watching:
        observer(step, h)
