"""Activation patching: one place takes its values from the run of another prompt with the same noise.

The runs of all images of a task are sampled once. They record every place that fits in ``RECORDED_BYTES``; further
places are recorded in further runs. A text is exchanged together with the mask of its tokens, where a model has one:
under the mask of a shorter text, its last tokens would not be read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from audit.models.generator import DiffusionGenerator
from audit.models.intervention import Edit, Intervention, Observer
from audit.planning.plan import window_of
from audit.records.located.places import Place

# B images, C H W the map at a place

RECORDED_BYTES = 2 * 2**30
"""Memory of recorded maps on a worker. A place that needs more for one image alone is recorded nevertheless."""


class MapRecorder:
    """Records the maps of one place at every step, on the CPU; a map that stays as it was is kept once."""

    def __init__(self) -> None:
        self.maps: dict[int, Tensor] = {}

    def __call__(self, step: int, h: Tensor) -> None:
        """Record the maps ``(B, C, H, W)`` of the conditional half."""
        before, own = self.maps.get(step - 1), h.to("cpu", copy=True)
        self.maps[step] = own if before is None or not torch.equal(before, own) else before

    @property
    def bytes_per_image(self) -> int:
        """Bytes that are kept of one image, over all steps."""
        kept = {id(h): h for h in self.maps.values()}.values()
        return sum(h[0].nbytes for h in kept)

    def patch(self, rows: Sequence[int]) -> Edit:
        """Return the edit that replaces the maps of other images by those of recorded ``rows``, at the same steps."""

        def edit(step: int, h: Tensor) -> Tensor:
            other = self.maps[step][list(rows)].to(h.device, h.dtype)
            return h if torch.equal(other, h) else other

        return edit


@dataclass(frozen=True)
class Images:
    """Images to sample: a text and a seed for each of the B images."""

    texts: tuple[str, ...]
    seeds: tuple[int, ...]

    def only(self, rows: Sequence[int]) -> Images:
        """Return the images of some rows."""
        return Images(tuple(self.texts[row] for row in rows), tuple(self.seeds[row] for row in rows))


@dataclass(frozen=True)
class Recorded:
    """Sampled images with the maps of some places.

    Attributes:
        images: What was sampled.
        pictures: uint8 (B, 3, H, W).
        maps: Place at all steps → its maps.
    """

    images: Images
    pictures: Tensor
    maps: Mapping[Place, MapRecorder]

    @classmethod
    def sample(cls, generator: DiffusionGenerator, images: Images, places: Sequence[Place]) -> Recorded:
        """Sample images and record the maps of places."""
        maps = {one: MapRecorder() for place in places for one in _exchanged_with(place.at_all_steps)}
        observers: dict[str, Observer] = {str(place): recorder for place, recorder in maps.items()}
        return cls(images, generator.sample(images.texts, images.seeds, observers=observers), maps)

    def into(
        self, generator: DiffusionGenerator, images: Images, place: Place, rows: Sequence[int] | None = None
    ) -> Tensor:
        """Sample images while a place takes its values from recorded ones, in the conditional half.

        Args:
            generator: The model.
            images: The B images.
            place: The place, with its window of steps.
            rows: Recorded row for each image; None takes them in order.

        Returns:
            uint8 (B, 3, H, W).
        """
        taken = range(len(images.seeds)) if rows is None else rows
        edits = {str(one): self.maps[one].patch(taken) for one in _exchanged_with(place.at_all_steps)}
        intervention = Intervention((None,) * len(images.seeds), window_of(place.window, generator.steps), edits=edits)
        return generator.sample(images.texts, images.seeds, intervention)


def _exchanged_with(place: Place) -> tuple[Place, ...]:
    """Return a place with those that belong to it: to a text, what hides its tokens."""
    return (place, replace(place, kind="text-mask")) if place.kind == "text" else (place,)


def groups_of_places(
    generator: DiffusionGenerator, text: str, places: Sequence[Place], images: int
) -> Iterator[tuple[Place, ...]]:
    """Split places so that the maps of each group fit in ``RECORDED_BYTES``; one at least is in each.

    Args:
        generator: The model.
        text: Any prompt.
        places: Places with or without windows; those that differ in the window alone share their maps.
        images: Images whose maps are recorded at once.
    """
    sizes = _bytes_per_step(generator, text, places)
    group: list[Place] = []
    held: set[Place] = set()
    for place in places:
        whole = place.at_all_steps
        recorded = sum(sizes[one] for one in held | {whole}) * generator.steps * images
        if group and whole not in held and recorded > RECORDED_BYTES:
            yield tuple(group)
            group, held = [], set()
        group.append(place)
        held.add(whole)
    if group:
        yield tuple(group)


def _bytes_per_step(generator: DiffusionGenerator, text: str, places: Sequence[Place]) -> dict[Place, int]:
    """Return the bytes of one image's map at each place, by one call of the denoiser."""
    found: dict[Place, int] = {}

    def look(place: Place) -> Edit:
        def edit(_step: int, h: Tensor) -> Tensor:
            found[place] = h[0].nbytes
            return h

        return edit

    wholes = {place.at_all_steps for place in places}
    generator.first_prediction(text, [0], {str(place): look(place) for place in wholes})
    return found
