"""The family of unconditional U-Nets on pixels: one network, no text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audit.config.sections import SamplingConfig
from audit.models.families.configs import UNET_BLOCKS, Classes, sample_size, unet_places, unfit_class, unfit_index
from audit.models.families.interface import Index
from audit.models.files.pipeline_files import NETWORK_CONFIG, SCHEDULER_CONFIG, PipelineConfigs
from audit.models.files.text_reader import TextReader
from audit.models.files.untrusted_model import UnfitModelError, reason_in_short
from audit.records.located.places import Place

if TYPE_CHECKING:
    from torch import Tensor, nn

_BATCH = 2
_CLASSES: Classes = {"unet": ("UNet2DModel",)}


class Unet2d:
    """Unconditional diffusion on pixels, sampled by the steps of a DDPM (Ho et al. 2020)."""

    name = "an unconditional U-Net on pixels"
    pipelines: tuple[str, ...] = ("DDPMPipeline",)
    denoiser = "unet"
    blocks: tuple[str, ...] = UNET_BLOCKS
    reads_text = False
    longest_text = 0
    schedulers: tuple[str, ...] = ("DDPMScheduler", "DDIMScheduler")
    cross_attention = False
    flow = False
    shared_inputs: tuple[str, ...] = ()
    read_by_denoiser: Mapping[str, str] = {}
    guided_in_one_batch = False
    redraws_noise = False

    def configs(self, index: Index) -> Mapping[str, str]:
        """Return the configs of the U-Net and the scheduler."""
        return {"unet": NETWORK_CONFIG, "scheduler": SCHEDULER_CONFIG}

    def networks(self, index: Index) -> tuple[str, ...]:
        """Return the U-Net."""
        return ("unet",)

    def size(self, configs: PipelineConfigs, sampling: SamplingConfig) -> tuple[int, int]:
        """Return height and width of the pictures."""
        return sample_size("unet", configs.parts["unet"])

    def rows(self, configs: PipelineConfigs, sampling: SamplingConfig) -> int:
        """Return 1: there is no guidance without a prompt."""
        return 1

    def places(self, configs: PipelineConfigs) -> tuple[Place, ...]:
        """Return the places of the U-Net, which reads no text."""
        return tuple(place for place in unet_places(configs.parts["unet"]) if place.kind != "text")

    def unfit_index(self, index: Index) -> Iterator[str]:
        """Find parts other than the U-Net and the scheduler, or one of these missing."""
        return unfit_index(index, self.name, _CLASSES)

    def unfit_parts(self, directory: Path, configs: PipelineConfigs) -> Iterator[str]:
        """Find a U-Net that needs a class label, or whose input or output is not a colour picture."""
        unet = configs.parts["unet"]
        yield from unfit_class("unet", unet, _CLASSES)
        for key in ("class_embed_type", "num_class_embeds"):
            if unet.get(key) is not None:
                yield f"unet/config.json: expected no {key}, found {unet[key]!r}: this U-Net needs a class label"
        for key in ("in_channels", "out_channels"):
            if unet.get(key, 3) != 3:
                yield f"unet/config.json: expected {key} 3, red, green and blue, found {unet[key]!r}"
        try:
            sample_size("unet", unet)
        except ValueError as error:
            yield str(error)

    def unfit_sampling(self, configs: PipelineConfigs, sampling: SamplingConfig) -> Iterator[tuple[str, str]]:
        """Find settings that such a pipeline does not have."""
        for key in ("height", "width", "negative_prompt", "true_guidance"):
            value = getattr(sampling, key)
            if value is not None:
                yield key, f"expected none for {self.name}, found {value!r}; remove it"

    def network_class(self, part: str, index: Index) -> Any:  # noqa: ANN401 - a class of diffusers
        """Return the class of the U-Net."""
        from diffusers import UNet2DModel

        return {"unet": UNet2DModel}[part]

    def check_parts(self, directory: Path, configs: PipelineConfigs, networks: Mapping[str, Any]) -> None:
        """Predict noise on the meta device."""
        try:
            found = tuple(self.predict_on_meta(configs, networks).shape)
        except Exception as error:
            raise UnfitModelError(
                f"unet: expected a U-Net that takes pictures, found one that fails ({reason_in_short(error)})"
            ) from error
        expected = (_BATCH, 3, *sample_size("unet", configs.parts["unet"]))
        if found != expected:
            raise UnfitModelError(f"unet: expected a prediction of shape {expected}, found {found}")

    def predict_on_meta(self, configs: PipelineConfigs, networks: Mapping[str, Any]) -> Tensor:
        """Call the U-Net on pictures of its size."""
        import torch

        size = sample_size("unet", configs.parts["unet"])
        with torch.inference_mode():
            noise: Tensor = networks["unet"](torch.empty(_BATCH, 3, *size, device="meta"), 1).sample
        return noise

    def build(self, directory: Path, networks: Mapping[str, Any], index: Index) -> Any:  # noqa: ANN401 - a pipeline
        """Return the pipeline of the published class; ``DDIMPipeline`` turns any scheduler into DDIM by itself."""
        import diffusers

        from audit.models.schedulers.trial import load_scheduler

        kind = getattr(diffusers, index["_class_name"])
        pipeline = kind(unet=networks["unet"], scheduler=load_scheduler(directory, index["scheduler"][1]))
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def reader(self, pipeline: Any) -> TextReader | None:  # noqa: ANN401 - a pipeline
        """Return None."""
        return None

    def encode(self, pipeline: Any, text: str, sampling: SamplingConfig) -> dict[str, Tensor]:  # noqa: ANN401
        """Return nothing: there is no text to read.

        Raises:
            ValueError: The text is not empty, or guidance is asked for.
        """
        if text or sampling.guidance > 1:
            given = f"the text {text!r}" if text else f"guidance {sampling.guidance:g}"
            raise ValueError(
                f"expected no text and guidance 1 for a model that reads no text, found {given}; set prompts: none and "
                "sampling.guidance: 1"
            )
        return {}

    def arguments(self, pipeline: Any, sampling: SamplingConfig) -> dict[str, Any]:  # noqa: ANN401
        """Return nothing: such a pipeline has neither guidance nor a choice of size."""
        return {}

    def kept(self, pipeline: Any, latents: Tensor) -> Tensor:  # noqa: ANN401
        """Return them as they are."""
        return latents

    def as_map(self, pipeline: Any, latents: Tensor, sampling: SamplingConfig) -> Tensor:  # noqa: ANN401
        """Return them as they are."""
        return latents

    def timestep_scales(self, denoiser: Any) -> tuple[float, float]:  # noqa: ANN401
        """Return 1 and 1."""
        return 1.0, 1.0

    def read_by_blocks(self, denoiser: nn.Module, embeddings: Tensor) -> Tensor:
        """Return them as they are; no block reads a text."""
        return embeddings

    def stream(self, path: str) -> int:
        """Return 0: the map comes first in what a block returns."""
        return 0


class Ddim(Unet2d):
    """Unconditional diffusion on pixels, sampled by DDIM (Song et al. 2021)."""

    pipelines = ("DDIMPipeline",)
    schedulers = ("DDIMScheduler",)
