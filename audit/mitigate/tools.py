"""What a method is fitted with on a worker: the model, and what else it asks for, loaded when it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import NoReturn

from audit.config.slices import Attributes, MeasurementRequest
from audit.dissect.lens import Lens
from audit.models.device import device_here
from audit.models.generator import DiffusionGenerator
from audit.models.trainable.model import TrainableModel
from audit.perception.embedders.clip import ClipEmbedder, load_clip
from audit.perception.embedders.dino import DinoFeatures
from audit.perception.judges.interface import Judge
from audit.perception.judges.registry import load_judge
from audit.perception.segmenters.outside import Outside, load_outside
from audit.storage.folder_copy import folder_on_disk
from audit.storage.place import Place


def _no_clip() -> NoReturn:
    raise ValueError("expected a CLIP model for the loss of this method, found none; set quality.clip")


def _no_dino() -> None:
    return None


def _no_outside() -> NoReturn:
    raise ValueError("expected a segmenter for the training of this method, found none; set quality.outside")


@dataclass(frozen=True)
class FitTools:
    """What a fit may use on a worker.

    Attributes:
        generator: The model.
        judge: Loads the audit's judge of the attribute at the first call.
        lens: Loads the lens at the first call.
        clip: Loads the CLIP model of the quality figures at the first call.
        dino: Loads the DINOv2 of the quality figures at the first call; None if the config names none.
        outside: Loads the segmenter of the quality figures at the first call.
    """

    generator: DiffusionGenerator
    judge: Callable[[], Judge]
    lens: Callable[[], Lens]
    clip: Callable[[], ClipEmbedder] = _no_clip
    dino: Callable[[], DinoFeatures | None] = _no_dino
    outside: Callable[[], Outside] = _no_outside

    @cached_property
    def model(self) -> TrainableModel:
        """The model, called with gradients.

        Raises:
            ValueError: It is of a kind that cannot be trained here.
        """
        return TrainableModel(self.generator)


def fit_tools(
    generator: DiffusionGenerator, measured: MeasurementRequest, attributes: Attributes, lens: Place | None
) -> FitTools:
    """Return the tools of an audit.

    Args:
        generator: The model.
        measured: How the audit measures.
        attributes: Attributes that the judge is asked for.
        lens: Directory of the lens; None if the audit has none.
    """

    @cache
    def judge() -> Judge:
        return load_judge(measured.judge, measured.model, attributes)

    @cache
    def loaded_lens() -> Lens:
        if lens is None:
            raise ValueError("expected a lens for this fit, found none; dissect the model first")
        with folder_on_disk(lens) as directory:
            return Lens.load(directory).to(device_here())

    @cache
    def clip() -> ClipEmbedder:
        return load_clip(measured.quality, measured.model) or _no_clip()

    @cache
    def dino() -> DinoFeatures | None:
        weights = measured.quality.dino
        return None if weights is None else DinoFeatures(Path(weights), device_here())

    @cache
    def outside() -> Outside:
        return load_outside(measured.quality.outside, measured.model) or _no_outside()

    return FitTools(generator, judge, loaded_lens, clip, dino, outside)
