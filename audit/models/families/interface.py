"""The interfaces of a model family: what it reads from a published directory, and how its pipeline is called."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from audit.config.sections import SamplingConfig
from audit.models.files.pipeline_files import PipelineConfigs
from audit.models.files.text_reader import TextReader
from audit.records.located.places import Place

if TYPE_CHECKING:
    from torch import Tensor, nn

TEXT_MASK = "encoder_attention_mask"
"""Argument of a denoiser that says which tokens of the text are read."""

Index = Mapping[str, Any]
"""``model_index.json``: part → library and class, and settings of the pipeline."""


class Family(Protocol):
    """A kind of published pipeline. Members import torch and diffusers only inside their functions."""

    @property
    def name(self) -> str:
        """Name in messages."""
        ...

    @property
    def pipelines(self) -> tuple[str, ...]:
        """Pipeline classes that ``model_index.json`` of a member may name."""
        ...

    @property
    def denoiser(self) -> str:
        """Part whose modules are the hookpoints; empty if the inside of a member cannot be reached."""
        ...

    @property
    def blocks(self) -> tuple[str, ...]:
        """Top-level modules of the denoiser, where hookpoints begin."""
        ...

    @property
    def reads_text(self) -> bool:
        """Whether images follow a prompt."""
        ...

    @property
    def longest_text(self) -> int:
        """Tokens of a text that are read at most; 0 if none is read."""
        ...

    @property
    def read_by_denoiser(self) -> Mapping[str, str]:
        """Argument of the pipeline's call that stands for a text → argument of the denoiser; ``part.name`` is a key."""
        ...

    @property
    def guided_in_one_batch(self) -> bool:
        """Whether classifier-free guidance calls the denoiser once in a step, for a batch with both halves."""
        ...

    @property
    def cross_attention(self) -> bool:
        """Whether blocks read the text by cross-attention, as embeddings that are the same in every block and step."""
        ...

    @property
    def schedulers(self) -> tuple[str, ...]:
        """Classes of schedulers that solve the process that members are trained for."""
        ...

    @property
    def redraws_noise(self) -> bool:
        """Whether every step draws new noise, so that no single run leads from noise to an image."""
        ...

    @property
    def flow(self) -> bool:
        """Whether members are trained for flow matching, and not for a diffusion of noise levels (betas)."""
        ...

    @property
    def shared_inputs(self) -> tuple[str, ...]:
        """Arguments of the denoiser that all images share, so that they have no row for each, such as positions."""
        ...

    def configs(self, index: Index) -> Mapping[str, str]:
        """Return part of a pipeline → file with its config."""
        ...

    def networks(self, index: Index) -> tuple[str, ...]:
        """Return the parts with weights; the denoiser comes first."""
        ...

    def size(self, configs: PipelineConfigs, sampling: SamplingConfig) -> tuple[int, int]:
        """Return height and width of what is denoised, in cells of the latents (or pixels).

        Raises:
            ValueError: The configs do not say them.
        """
        ...

    def rows(self, configs: PipelineConfigs, sampling: SamplingConfig) -> int:
        """Return how often an image passes the denoiser in a step: once, or twice with guidance."""
        ...

    def places(self, configs: PipelineConfigs) -> tuple[Place, ...]:
        """Return the places of the denoiser that a location map covers, in their order; empty if not reached."""
        ...

    def unfit_index(self, index: Index) -> Iterator[str]:
        """Find parts in ``model_index.json`` that the family does not have, or that are missing.

        Yields:
            Messages.
        """
        ...

    def unfit_parts(self, directory: Path, configs: PipelineConfigs) -> Iterator[str]:
        """Find what the parts ask for that an audit does not give, and parts that do not fit each other.

        Yields:
            Messages.
        """
        ...

    def unfit_sampling(self, configs: PipelineConfigs, sampling: SamplingConfig) -> Iterator[tuple[str, str]]:
        """Find settings of the sampling that a member ignores or cannot follow.

        Yields:
            Key of ``sampling`` and message.
        """
        ...

    def network_class(self, part: str, index: Index) -> Any:  # noqa: ANN401 - a class of diffusers or transformers
        """Return the class of a part with weights."""
        ...

    def check_parts(self, directory: Path, configs: PipelineConfigs, networks: Mapping[str, Any]) -> None:
        """Call every part once on torch's meta device, as sampling does.

        Raises:
            UnfitModelError: A call fails, or gives something that is not a prediction or not a picture.
        """
        ...

    def predict_on_meta(self, configs: PipelineConfigs, networks: Mapping[str, Any]) -> Tensor:
        """Call the denoiser once on torch's meta device and return its prediction."""
        ...

    def build(self, directory: Path, networks: Mapping[str, Any], index: Index) -> Any:  # noqa: ANN401 - a pipeline
        """Return the pipeline of the published class, with its published scheduler.

        Args:
            directory: Of the pipeline.
            networks: The parts with weights, loaded.
            index: ``model_index.json``.

        Raises:
            UnfitModelError: A tokenizer or the scheduler cannot be used.
        """
        ...

    def reader(self, pipeline: Any) -> TextReader | None:  # noqa: ANN401 - a pipeline
        """Return the tokenizer and its limit; None if the model reads no text."""
        ...

    def encode(self, pipeline: Any, text: str, sampling: SamplingConfig) -> dict[str, Tensor]:  # noqa: ANN401
        """Return the arguments of the pipeline's call that stand for one text, each with one row."""
        ...

    def arguments(self, pipeline: Any, sampling: SamplingConfig) -> dict[str, Any]:  # noqa: ANN401 - a pipeline
        """Return the other arguments of the pipeline's call: guidance and size."""
        ...

    def kept(self, pipeline: Any, latents: Tensor) -> Tensor:  # noqa: ANN401
        """Return latents (B, c, h, w) as the pipeline keeps them while it samples, which may be tokens (B, T, C)."""
        ...

    def as_map(self, pipeline: Any, latents: Tensor, sampling: SamplingConfig) -> Tensor:  # noqa: ANN401
        """Return latents that the pipeline keeps as its decoder reads them, (B, c, h, w): :meth:`kept` undone."""
        ...

    def timestep_scales(self, denoiser: Any) -> tuple[float, float]:  # noqa: ANN401 - of diffusers
        """Return what multiplies a timestep before the denoiser reads it, and before it is embedded."""
        ...

    def read_by_blocks(self, denoiser: nn.Module, embeddings: Tensor) -> Tensor:
        """Return embeddings of texts (B, L, D) as the cross-attention of the denoiser's blocks reads them."""
        ...

    def stream(self, path: str) -> int:
        """Return the place of the image in a tuple that the module at ``path`` returns."""
        ...


@dataclass(frozen=True)
class LoadedModel:
    """A published pipeline on its device.

    Attributes:
        family: Its family.
        pipeline: Of its own class, with the scheduler that samples.
        reader: The tokenizer and its limit; None if the model reads no text.
        published: What the model was published with, for the record of an audit.
        compiled: What of its denoiser runs with other kernels, for the record; empty if it runs as published.
    """

    family: Family
    pipeline: Any
    reader: TextReader | None
    published: Mapping[str, Any] = field(default_factory=dict)
    compiled: str = ""

    @property
    def denoiser(self) -> nn.Module:
        """The network whose modules are the hookpoints.

        Raises:
            ValueError: The inside of this model cannot be reached.
        """
        if not self.family.denoiser:
            raise ValueError(f"expected a model whose inside can be reached, found {self.family.name}")
        network: nn.Module = getattr(self.pipeline, self.family.denoiser)
        return network
