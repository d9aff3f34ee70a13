"""Records what edits return, and what the baseline has at the same places, as short vectors.

An observer sees a map before it is edited, so the edits themselves are wrapped. A map is shortened by a count sketch
(:mod:`audit.analyses.sketch`), which is linear: means, variances and inner products of the sketches stay comparable for
a model of any size. The maps of several places of one step are added after a shift of each, which keeps them apart.

Legend: B rows of a batch, n images of the shard, S recorded steps, m = ``VECTOR_LENGTH`` numbers of a vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from audit.analyses.sketch import sketched
from audit.models.intervention import Edit, Intervention, Observer
from audit.records.arms.off_path import VECTOR_LENGTH, recorded_steps
from audit.records.work import ImageKey, derive_seed

IMAGES = 512
"""About how many images of an arm have vectors; two of each prompt at least, of some prompts if there are many."""

Floats = NDArray[np.float32]


def is_recorded(key: ImageKey, prompts: int) -> bool:
    """Return whether vectors of an image are kept: as many images of each of ``prompts`` prompts, the same in all arms.

    Both halves of a prompt's images, those with even and with odd index, have equally many.
    """
    each = max(2, IMAGES // prompts // 2 * 2)
    return key.index < each and derive_seed("activations", key.prompt_id) % prompts < IMAGES // each


def edited_places(intervention: Intervention) -> tuple[str, ...]:
    """Return the places whose maps an intervention edits, sorted; empty if it edits none."""
    return tuple(sorted({path for one in intervention.parts for path in one.edits}))


def place_key(places: Sequence[str]) -> str:
    """Name several places together."""
    return " + ".join(places)


class Recorder:
    """The vectors of one batch in one arm.

    Args:
        places: The places, sorted.
        steps: Steps of an image.
        images: n; any further rows of the batch are padding.
    """

    def __init__(self, places: tuple[str, ...], steps: int, images: int) -> None:
        self._places, self._steps, self._images = places, recorded_steps(steps), images
        self._kept = np.full((len(places), images, len(self._steps), VECTOR_LENGTH), np.nan, np.float32)
        self._edited: set[int] | None = None

    def observers(self) -> dict[str, Observer]:
        """Return an observer of each place: for the baseline, and for places that not every part of an arm edits."""
        return {path: partial(self._keep, place) for place, path in enumerate(self._places)}

    def recorded(self, intervention: Intervention) -> Intervention:
        """Return an intervention that does the same; of several edits of one place, the last one's result counts."""
        if not self._places:
            return intervention
        self._edited = set()
        own, *beside = (
            replace(one, edits={path: self._watched(path, edit) for path, edit in one.edits.items()}, beside=())
            for one in intervention.parts
        )
        return replace(own, beside=tuple(beside))

    def vectors(self) -> Floats:
        """Return ``(n, S, m)``, NaN at steps at which an arm edits no place."""
        kept: Floats = self._kept.sum(0, dtype=np.float32)
        if self._edited is not None:
            kept[:, [step not in self._edited for step in self._steps]] = np.nan
        return kept

    def _watched(self, path: str, edit: Edit) -> Edit:
        place = self._places.index(path)

        def edited(step: int, h: Tensor) -> Tensor:
            after = edit(step, h)
            self._keep(place, step, after)
            if self._edited is not None:
                self._edited.add(step)
            return after

        return edited

    def _keep(self, place: int, step: int, h: Tensor) -> None:
        if step in self._steps:
            self._kept[place, :, self._steps.index(step)] = vectors_of(h[: self._images], place)


@torch.no_grad()
def vectors_of(h: Tensor, place: int = 0) -> Floats:
    """Return the vectors ``(B, m)`` of maps ``(B, C, H, W)``; those of other places are shifted by another number."""
    short = sketched(h.detach().float().flatten(1), VECTOR_LENGTH)
    found: Floats = functional.pad(short, (0, VECTOR_LENGTH - short.shape[1])).roll(place, dims=1).cpu().numpy()
    return found
