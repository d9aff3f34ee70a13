"""The interfaces of a model family: what it reads from a published directory, and what a loaded model can do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from audit.models.files.pipeline_files import PipelineConfigs
from audit.models.files.text_reader import TextReader

if TYPE_CHECKING:
    from torch import Tensor, nn

# B images, c h w what is denoised (latents or pixels), L text tokens, D text width


class LoadedModel(Protocol):
    """A model on its device, ready to be sampled.

    The denoiser is called once for each step. If guidance needs an unconditional half, that call holds 2B rows, and
    the conditional half comes last.
    """

    @property
    def denoiser(self) -> nn.Module:
        """The network whose modules are the hookpoints."""
        ...

    @property
    def scheduler(self) -> Any:  # noqa: ANN401 - a DDIMScheduler, which is imported only if a model is loaded
        """DDIM with the published noise schedule."""
        ...

    @property
    def reader(self) -> TextReader | None:
        """The tokenizer and its limit; None if the model reads no text."""
        ...

    @property
    def noise_shape(self) -> tuple[int, int, int]:
        """``(c, h, w)`` of the noise of one image."""
        ...

    @property
    def published(self) -> Mapping[str, Any]:
        """What the model was published with, for the record of an audit."""
        ...

    def condition(self, texts: Sequence[str], guidance: float) -> Tensor | None:
        """Return what the denoiser reads: ``(2B, L, D)`` with guidance, ``(B, L, D)`` without, None for no text.

        Raises:
            ValueError: The model reads no text and is given one, or a text is too long for it.
        """
        ...

    def predict(self, x: Tensor, timestep: int, condition: Tensor | None, guidance: float) -> Tensor:
        """Return the guided prediction ``(B, c, h, w)`` for noisy ``x`` of the same shape: one call of the denoiser."""
        ...

    def encode(self, images: Tensor) -> Tensor:
        """Return what uint8 images ``(B, 3, H, W)`` look like without noise, ``(B, c, h, w)``."""
        ...

    def decode(self, x: Tensor) -> Tensor:
        """Return uint8 images ``(B, 3, H, W)`` on the CPU."""
        ...


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
    def configs(self) -> Mapping[str, str]:
        """Part of a pipeline → file with its config."""
        ...

    @property
    def networks(self) -> tuple[str, ...]:
        """Parts with weights; the denoiser comes first."""
        ...

    @property
    def reads_text(self) -> bool:
        """Whether images follow a prompt."""
        ...

    @property
    def blocks(self) -> tuple[str, ...]:
        """Top-level modules of the denoiser, where hookpoints begin."""
        ...

    def size(self, denoiser: Mapping[str, Any]) -> tuple[int, int]:
        """Return height and width of what is denoised.

        Args:
            denoiser: Config of the denoiser.

        Raises:
            ValueError: The config does not say them.
        """
        ...

    def unfit_index(self, index: Mapping[str, Any]) -> Iterator[str]:
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

    def network_class(self, part: str) -> Any:  # noqa: ANN401 - a class of diffusers or transformers
        """Return the class of a part with weights."""
        ...

    def ddim_config(self, published: Mapping[str, Any]) -> dict[str, Any]:
        """Return the config of the DDIM scheduler that replaces a published one.

        Args:
            published: Config of the published scheduler, defaults of its class included.
        """
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

    def load(self, directory: Path, networks: Mapping[str, Any], index: Mapping[str, Any]) -> LoadedModel:
        """Return the model that the loaded parts make, on their device.

        Args:
            directory: Of the pipeline.
            networks: The parts with weights, loaded.
            index: ``model_index.json``.

        Raises:
            UnfitModelError: The tokenizer or the scheduler cannot be used.
        """
        ...
