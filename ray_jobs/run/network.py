"""Loads the network of the audited model on a worker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from audit.config.fields import CLOSED
from audit.config.sections import ModelConfig, SamplingConfig

if TYPE_CHECKING:
    from audit.models.generator import DiffusionGenerator, Generator


@dataclass(frozen=True)
class NetworkSettings:
    """Which network is loaded.

    Attributes:
        model: The model.
        sampling: How it is sampled.
        hookpoint: Module whose output the lens reads.
    """

    model: ModelConfig
    sampling: SamplingConfig
    hookpoint: str

    def load_any(self) -> Generator:
        """Load the model, also one without a network or with an inside that is not reached.

        Raises:
            ValueError: If the model is pictures or an endpoint.
        """
        from audit.models.generator import load_generator

        if self.model.source in CLOSED:
            raise self._without_network()
        return load_generator(self.model, self.sampling, self.hookpoint)

    def load(self) -> DiffusionGenerator:
        """Load the network.

        Raises:
            ValueError: If the model has no network.
        """
        from audit.models.generator import DiffusionGenerator

        generator = self.load_any()
        if not isinstance(generator, DiffusionGenerator):
            raise self._without_network()
        return generator

    def _without_network(self) -> ValueError:
        return ValueError(f"model {self.model.source!r} has no network to edit or dissect; remove the mitigations")
