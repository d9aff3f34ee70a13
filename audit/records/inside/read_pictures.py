"""Pictures that were noised and read back inside a model: their scores on axes, and the prompts nearest to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class PictureAxis:
    """How well an axis separates the model's own images of its two ends.

    Attributes:
        name: Its name.
        area: Probability that an image of the high end has a higher score than one of the low end, with the axis made
            from other images; 0.5 is chance.
        low: Lower end of its 95 % interval over images.
        high: Upper end.
    """

    name: str
    area: float
    low: float
    high: float


@dataclass(frozen=True)
class PictureScore:
    """The score of one picture on one axis: −1 like the model's own images of the low end, +1 like those of the high.

    Attributes:
        picture: Name of the picture.
        axis: Name of the axis.
        value: Mean over seeds.
        low: Lower end of the 95 % interval, over seeds and over the model's own images that place the middle; None for
            one seed.
        high: Upper end.
    """

    picture: str
    axis: str
    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Near:
    """A text whose direction is similar to that of a picture.

    Attributes:
        name: Id of a prompt, or a descriptor.
        cosine: Cosine of both directions, after the mean direction of all prompts, or of all descriptors, is taken off.
    """

    name: str
    cosine: float


@dataclass(frozen=True)
class ReadPictures:
    """The result.

    Attributes:
        step: Step whose noise level was read.
        images: The model's own images of the neutral prompt and of each end.
        axes: The axes.
        scores: Scores of all pictures, picture by picture.
        prompts: Picture → all prompts, the nearest first.
        descriptors: Picture → all descriptors, the nearest first.
        agreement: Picture → cosine of its direction from the even seeds with that from the odd ones; None for one seed.
    """

    step: int
    images: int
    axes: tuple[PictureAxis, ...]
    scores: tuple[PictureScore, ...]
    prompts: Mapping[str, tuple[Near, ...]]
    descriptors: Mapping[str, tuple[Near, ...]]
    agreement: Mapping[str, float | None]

    def of_axis(self, axis: str) -> tuple[PictureScore, ...]:
        """Return the scores on one axis, from the low end to the high end."""
        return tuple(sorted((score for score in self.scores if score.axis == axis), key=lambda score: score.value))

    def as_data(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)

    @classmethod
    def of_data(cls, data: Mapping[str, Any]) -> ReadPictures:
        """Read plain data back.

        Raises:
            KeyError: A field is missing.
            TypeError: A field has another form.
        """
        plain = dict(data)
        return cls(
            axes=tuple(PictureAxis(**one) for one in plain.pop("axes")),
            scores=tuple(PictureScore(**one) for one in plain.pop("scores")),
            prompts={name: tuple(Near(**one) for one in near) for name, near in plain.pop("prompts").items()},
            descriptors={name: tuple(Near(**one) for one in near) for name, near in plain.pop("descriptors").items()},
            **plain,
        )
