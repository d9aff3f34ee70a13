"""How far the edits of an arm leave what the model makes without them: inside the network, and in its images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from audit.records.estimates import LikeThese, OverPrompts

VECTOR_LENGTH = 128
"""Numbers of the vector that an activation is shortened to, at each recorded step."""

MOST_STEPS = 50
"""Most steps whose activations are recorded; with more steps, every second one, every third one and so on."""


def recorded_steps(steps: int) -> range:
    """Return the sampler steps whose activations are recorded, of all ``steps`` of an image."""
    return range(0, steps, math.ceil(steps / MOST_STEPS)) if steps else range(0)


class Measured(StrEnum):
    """Whether a figure was measured, or why it was not."""

    MEASURED = "measured"
    NO_MAP = "the method edits no map of the network"
    NOT_RECORDED = "the run recorded no activations"
    TOO_FEW = "too few images"
    NOT_FINITE = "the activations of too many images are not finite"
    NO_NETWORK = "no feature network"
    NO_FACE_CHECK = "the judge does not look for faces"
    NO_FACES = "no baseline image has a face"


@dataclass(frozen=True)
class PairedFigure:
    """A mean figure of the same images before and after an edit.

    Attributes:
        before: Of the baseline images, with a 95 % interval over images.
        after: Of the edited images.
        change: Paired difference, after minus before.
    """

    before: OverPrompts
    after: OverPrompts
    change: OverPrompts


@dataclass(frozen=True)
class StepFigures:
    """Means at one sampler step.

    Attributes:
        step: The step, from 0.
        distance_before: Mean distance of the baseline's activations; 1 is expected.
        distance_after: Mean distance of the edited activations.
        outside_before: Mean share of energy outside the components, baseline.
        outside_after: The same of the edited activations.
    """

    step: int
    distance_before: float
    distance_after: float
    outside_before: float
    outside_after: float


@dataclass(frozen=True)
class Activations:
    """Distance of an arm's edited activations from unedited ones.

    Attributes:
        places: Where the arm edits.
        distance: Squared Mahalanobis distance in the leading principal components of held-out unedited activations,
            divided by its expectation, mean over the edited steps.
        outside: Share of the energy outside these components.
        components: Principal components, mean over steps and halves.
        explained: Share of the unedited variance that they explain, in the same way.
        by_step: The means of each recorded step at which the arm edits.
    """

    places: str
    distance: PairedFigure
    outside: PairedFigure
    components: float
    explained: float
    by_step: tuple[StepFigures, ...]


@dataclass(frozen=True)
class OffPath:
    """How far one arm leaves what the model makes without it.

    Attributes:
        arm: The arm.
        activations: Distance of edited activations; None if ``activations_status`` says why.
        unlike_prompt: Share of images that lie outside the manifold of baseline images of the same prompt, held out
            from each other; ``before`` is the same of baseline images, the floor. A larger change of an image, such as
            a group that the prompt's baseline never shows, counts as well as an artefact.
        unlike_all: The same, outside the manifold of the baseline images of all prompts.
        face_lost: Share of the image keys whose baseline image shows a face and whose edited image does not.
    """

    arm: str
    activations_status: Measured
    images_status: Measured
    face_status: Measured
    activations: Activations | None = None
    unlike_prompt: PairedFigure | None = None
    unlike_all: PairedFigure | None = None
    face_lost: OverPrompts | None = None

    @classmethod
    def of_data(cls, row: Mapping[str, Any]) -> OffPath:
        """Return the record from its plain data (``dataclasses.asdict``)."""
        inside = row["activations"]
        return cls(
            arm=row["arm"],
            activations_status=Measured(row["activations_status"]),
            images_status=Measured(row["images_status"]),
            face_status=Measured(row["face_status"]),
            activations=None if inside is None else _activations(inside),
            unlike_prompt=_paired(row["unlike_prompt"]),
            unlike_all=_paired(row["unlike_all"]),
            face_lost=None if row["face_lost"] is None else _mean(row["face_lost"]),
        )


def _activations(row: Mapping[str, Any]) -> Activations:
    figures = {name: PairedFigure(**{key: _mean(one) for key, one in row[name].items()}) for name in _PAIRED}
    return Activations(**{**row, **figures, "by_step": tuple(StepFigures(**step) for step in row["by_step"])})


def _paired(row: Mapping[str, Any] | None) -> PairedFigure | None:
    return None if row is None else PairedFigure(**{name: _mean(one) for name, one in row.items()})


def _mean(row: Mapping[str, Any]) -> OverPrompts:
    beside = row["like_these"]
    return OverPrompts(**{**row, "like_these": None if beside is None else LikeThese(**beside)})


_PAIRED = ("distance", "outside")
"""Fields of :class:`Activations` that are paired figures."""
