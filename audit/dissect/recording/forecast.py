"""Forecasts the disk space and memory of a dissection from the shape of its maps.

The memory is that of the largest arrays of each phase, beside the model; ``benchmarks/lens_memory.py`` measures it.

Shapes: S steps, d = C·H·W, P vectors of a map of length w, N latents, G groups.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from audit.dissect.group_heads import KERNEL_COPIES
from audit.dissect.recording.layout import NUMBER_BYTES, THUMBNAIL, Layout
from audit.dissect.recording.plan import Stream
from audit.dissect.sae_training import training_of
from audit.dissect.settings import Dissection, block_bytes

_FLOAT = 4
_COPIES_OF_WEIGHTS = 4
"""Weights, gradient, and two moments of Adam."""
_BLOCKS = 5
"""Blocks that a computation holds at once: what it reads, the same in float32, and steps of what it computes."""


@dataclass(frozen=True)
class Forecast:
    """What a dissection needs, in bytes.

    Attributes:
        disk: Recorded maps, vectors and pictures; deleted when the lens is complete.
        memory: Largest phase.
    """

    disk: int
    memory: int


def forecast(
    lenses: Sequence[Dissection], groups: Sequence[int], steps: int, shapes: Mapping[str, tuple[int, int, int]]
) -> Forecast:
    """Forecast the dissection of lenses that are made from the same images.

    Args:
        lenses: Settings of the lenses.
        groups: Number of groups of each attribute.
        steps: Sampler steps.
        shapes: Hookpoint → (C, H, W) of one map.
    """
    layouts = {Stream.of(lens): Layout.of(lens, steps, shapes[lens.hookpoint]) for lens in lenses}
    sampling = sum(_sampling(lenses[0], layout) for layout in _of_each_hookpoint(layouts))
    phases = [sampling]
    for lens in lenses:
        layout = layouts[Stream.of(lens)]
        phases += [_training(lens, layout), _fitting(lens, layout, groups)]
    return Forecast(recording_bytes(layouts), max(phases))


def recording_bytes(layouts: Mapping[Stream, Layout]) -> int:
    """Return the disk space of a recording: maps of each hookpoint, vectors of each stream, and pictures."""
    maps = sum(layout.map_bytes for layout in _of_each_hookpoint(layouts))
    return maps + _samples(layouts) + max(layout.picture_bytes for layout in layouts.values())


def recordings_that_fit(layouts: Mapping[Stream, Layout], free: float) -> int:
    """Return how many trajectories can be recorded with whole maps in ``free`` bytes."""
    each = sum(layout.bytes_of_trajectory for layout in _of_each_hookpoint(layouts)) + 3 * THUMBNAIL**2
    return max(0, int((free - _samples(layouts)) // each))


def _of_each_hookpoint(layouts: Mapping[Stream, Layout]) -> Collection[Layout]:
    return {stream.hookpoint: layout for stream, layout in layouts.items()}.values()


def _samples(layouts: Mapping[Stream, Layout]) -> int:
    return sum(layout.sample_bytes for layout in layouts.values())


def _sampling(settings: Dissection, layout: Layout) -> int:
    return settings.batch * layout.numbers * (_FLOAT + NUMBER_BYTES)


def _training(settings: Dissection, layout: Layout) -> int:
    training, vector = training_of(settings), layout.width * NUMBER_BYTES
    latents = layout.width * settings.expansion
    vectors = layout.trajectories * layout.steps * layout.positions
    held_out = min(training.kept_apart(vector), vectors // training.held_out_every)
    held = (min(training.buffered(vector), vectors) + 2 * held_out) * vector
    read = settings.batch * layout.steps * layout.positions * vector
    weights = 2 * _COPIES_OF_WEIGHTS * latents * layout.width * _FLOAT
    activations = 3 * training.batch * (latents + layout.width) * _FLOAT
    statistics = _BLOCKS * min(block_bytes(), 2 * _FLOAT * vectors * layout.width)
    return held + 2 * read + weights + max(activations, statistics)


def _fitting(settings: Dissection, layout: Layout, groups: Sequence[int]) -> int:
    per_map, latents = layout.numbers // layout.width, layout.width * settings.expansion
    autoencoder = 2 * latents * layout.width * _FLOAT
    heads = sum(groups) * layout.steps * layout.numbers * _FLOAT
    firing = sum(groups) * layout.steps * per_map * settings.features_per_group * _FLOAT
    effects = 2 * max(groups) * per_map * latents * _FLOAT
    dense = layout.recorded * (layout.numbers + per_map * latents) * _FLOAT
    # A block has at least one map, whatever its size.
    block = max(min(block_bytes(), dense), (layout.numbers + per_map * latents) * _FLOAT)
    kernels = _FLOAT * KERNEL_COPIES * layout.recorded**2
    kernels = max(kernels, min(layout.steps * kernels, block_bytes()))
    return autoencoder + heads + _BLOCKS * block + max(kernels, firing + effects)
