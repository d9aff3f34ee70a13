"""What a method is trained with on a worker: the model, and the judge and CLIP of the audit, loaded when asked for."""

from __future__ import annotations

from functools import cached_property

from audit.config.slices import MeasurementRequest
from audit.models.generator import DiffusionGenerator
from audit.models.trainable.model import TrainableModel
from audit.perception.embedders.clip import ClipEmbedder, load_clip


class TrainingTools:
    """The networks of an audit that a training uses.

    Args:
        generator: The model.
        request: How the audit measures.
    """

    def __init__(self, generator: DiffusionGenerator, request: MeasurementRequest) -> None:
        self.generator, self._request = generator, request

    @cached_property
    def model(self) -> TrainableModel:
        """The model, called with gradients.

        Raises:
            ValueError: It is of a kind that cannot be trained here.
        """
        return TrainableModel(self.generator)

    @cached_property
    def clip(self) -> ClipEmbedder:
        """The CLIP model of the quality figures.

        Raises:
            ValueError: The config names none.
        """
        found = load_clip(self._request.quality, self._request.model)
        if found is None:
            raise ValueError("expected a CLIP model for the loss of this method, found none; set quality.clip")
        return found
