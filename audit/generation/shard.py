"""One shard: every arm from the same noise, in one visit.

So the pictures of a key are paired, and the baseline's embeddings are at hand. No path, process or cluster in here.

Legend: B images of a batch (fixed by the plan), n ≤ B images of the shard, d width of an embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

from audit.dissect.observer import AttributionObserver
from audit.generation.parts import ShardParts
from audit.generation.rows import Assigned, table_of
from audit.generation.settings import ShardSettings
from audit.mitigate.assignment import assigned_groups
from audit.mitigate.method import Batch
from audit.models.generator import NO_OBSERVERS, Observers
from audit.models.intervention import Intervention
from audit.records.work import BASELINE, ImageKey, Shard


@dataclass(frozen=True)
class ShardYield:
    """What a shard gave.

    Attributes:
        table: One row per arm and image, see ``audit.storage.rows.row_schema``.
        attribution: Sums over the baseline images as ``AttributionObserver`` gives them, None without a lens.
        images: Arm → uint8 (n, 3, H, W).
    """

    table: pa.Table
    attribution: dict[str, NDArray[Any]] | None
    images: dict[str, Tensor]


def do_shard(parts: ShardParts, settings: ShardSettings, shard: Shard) -> ShardYield:
    """Make and measure the images of ``shard`` in every arm; the same shard always gives the same yield."""
    keys = _padded(shard.keys, settings.batch)
    observer = _observer(parts, len(shard.indices)) if settings.attribution else None
    observers: Observers = {} if observer is None or parts.lens is None else {parts.lens.hookpoint: observer}
    baseline = _generate(parts, settings, shard, keys, observers=observers)
    images, assigned = {BASELINE: baseline}, dict[str, Assigned | None]({BASELINE: None})
    for mitigation in settings.mitigations:
        groups = assigned_groups(mitigation, settings.groups(mitigation.attribute), keys, settings.seed)
        batch = Batch(shard.prompt, groups, settings.steps, settings.template)
        intervention = parts.interventions[mitigation.name](batch)
        assigned[mitigation.name] = intervention.assigned
        images[mitigation.name] = _generate(parts, settings, shard, keys, intervention)
    return ShardYield(
        table=table_of(parts, settings, shard, images, assigned),
        attribution=None if observer is None else observer.result(),
        images=images,
    )


def do_shard_in_parts(parts: ShardParts, settings: ShardSettings, shard: Shard, batch: int) -> ShardYield:
    """Make and measure a shard in batches of ``batch`` images, for memory that cannot hold the whole one.

    Every image keeps its own noise and its own edit. Only the shape of the batches differs, and kernels may round
    differently in another shape: rows are equal to about 1e-5 in their probabilities and cosines, not to the bit.

    Raises:
        ValueError: If ``batch`` is below 1.
    """
    if batch < 1:
        raise ValueError(f"a batch holds at least 1 image, got {batch}")
    smaller = replace(settings, batch=min(batch, settings.batch))
    starts = range(0, len(shard.indices), smaller.batch)
    pieces = [replace(shard, indices=shard.indices[start : start + smaller.batch]) for start in starts]
    return _joined([do_shard(parts, smaller, piece) for piece in pieces])


def _joined(yields: Sequence[ShardYield]) -> ShardYield:
    """Put the yields of a shard's pieces together as if they had been made at once: arm by arm, attributions summed."""
    if len(yields) == 1:
        return yields[0]
    arms = {name: torch.cat([one.images[name] for one in yields]) for name in yields[0].images}
    tables = [one.table.filter(pc.field("arm") == name) for name in arms for one in yields]
    sums = [one.attribution for one in yields if one.attribution is not None]
    summed = {name: np.asarray(sum(one[name] for one in sums)) for name in (sums or [{}])[0]}
    return ShardYield(pa.concat_tables(tables), summed or None, arms)


def _padded(keys: Sequence[ImageKey], batch: int) -> tuple[ImageKey, ...]:
    """Repeat the last key up to the fixed shape: kernels, and so the last bits of an image, may depend on the shape."""
    if len(keys) > batch:
        raise ValueError(f"a shard holds at most one batch of {batch} images, got {len(keys)}")
    return (*keys, *[keys[-1]] * (batch - len(keys)))


def _generate(
    parts: ShardParts,
    settings: ShardSettings,
    shard: Shard,
    keys: Sequence[ImageKey],
    intervention: Intervention | None = None,
    observers: Observers = NO_OBSERVERS,
) -> Tensor:
    """Return the shard's own images (n, 3, H, W), without the padding."""
    seeds = [key.seed(settings.seed) for key in keys]
    return parts.generator.generate(shard.prompt, seeds, intervention, observers)[: len(shard.indices)]


def _observer(parts: ShardParts, images: int) -> AttributionObserver | None:
    if parts.lens is None or parts.effects is None:
        return None
    return AttributionObserver(parts.lens, images, parts.effects)
