"""The family of Stable Diffusion 1.x and 2.x: how its published directories are read, checked and loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audit.models.families.configs import UNET_BLOCKS, unfit_index
from audit.models.families.interface import LoadedModel
from audit.models.families.stable_diffusion.configs import CLASSES, FAMILY, latent_size, unfit_parts
from audit.models.files.pipeline_files import (
    NETWORK_CONFIG,
    SCHEDULER_CONFIG,
    TOKENIZER_CONFIG,
    PipelineConfigs,
    tokenizer_problem,
)
from audit.models.files.untrusted_model import UnfitModelError, reason_in_short

if TYPE_CHECKING:
    from torch import Tensor

# B images, L text tokens, C latent channels, h w latent grid

_BATCH = 2
_SHORT_TEXT = 3
"""Number of tokens in a dry run for hookpoints."""


class StableDiffusion:
    """Stable Diffusion 1.x and 2.x."""

    name = FAMILY
    pipelines: tuple[str, ...] = ("StableDiffusionPipeline",)
    configs: Mapping[str, str] = {
        "unet": NETWORK_CONFIG,
        "vae": NETWORK_CONFIG,
        "text_encoder": NETWORK_CONFIG,
        "scheduler": SCHEDULER_CONFIG,
        "tokenizer": TOKENIZER_CONFIG,
    }
    networks: tuple[str, ...] = ("unet", "vae", "text_encoder")
    reads_text = True
    blocks: tuple[str, ...] = UNET_BLOCKS

    def size(self, denoiser: Mapping[str, Any]) -> tuple[int, int]:
        """Return height and width of the latents."""
        return latent_size(denoiser)

    def unfit_index(self, index: Mapping[str, Any]) -> Iterator[str]:
        """Find parts that Stable Diffusion does not have, or that are missing."""
        return unfit_index(index, self.name, CLASSES)

    def unfit_parts(self, directory: Path, configs: PipelineConfigs) -> Iterator[str]:
        """Find parts that ask for more than a text, do not fit each other, or have no tokenizer."""
        yield from unfit_parts(configs)
        missing = tokenizer_problem(directory)
        if missing:
            yield missing

    def network_class(self, part: str) -> Any:  # noqa: ANN401 - a class of diffusers or transformers
        """Return the class of ``unet``, ``vae`` or ``text_encoder``."""
        from diffusers import AutoencoderKL, UNet2DConditionModel
        from transformers import CLIPTextModel

        return {"unet": UNet2DConditionModel, "vae": AutoencoderKL, "text_encoder": CLIPTextModel}[part]

    def ddim_config(self, published: Mapping[str, Any]) -> dict[str, Any]:
        """Return the published config as diffusers' own pipeline corrects it.

        Predicted latents are not clipped, since they are not pixels, and steps have an offset of 1.
        """
        offset = {"steps_offset": 1} if "steps_offset" in published else {}
        return {**published, **offset, "clip_sample": False}

    def check_parts(self, directory: Path, configs: PipelineConfigs, networks: Mapping[str, Any]) -> None:
        """Encode a text, predict noise, decode latents and encode a picture, on the meta device."""
        from audit.models.files.tokens import load_tokenizer

        text = networks["text_encoder"].config
        tokenizer = load_tokenizer(directory, text.max_position_embeddings, text.vocab_size)
        unet, vae, size = networks["unet"], networks["vae"], latent_size(configs.parts["unet"])
        latents = _try(
            "the U-Net fails on the text encoder's embeddings", _predict, networks, size, tokenizer.model_max_length
        )
        expected = (_BATCH, unet.config.in_channels, *size)
        if tuple(latents.shape) != expected:
            raise UnfitModelError(f"unet: expected a prediction of shape {expected}, found {tuple(latents.shape)}")
        image = _try("the VAE fails on the U-Net's latents", lambda: vae.decode(latents).sample)
        again = _try("the VAE fails on its own pictures", lambda: vae.encode(image).latent_dist.mean)
        if image.ndim != 4 or image.shape[1] != 3 or again.shape != latents.shape:
            raise UnfitModelError(
                f"vae: expected pictures (B, 3, H, W) that encode to {expected}, found {tuple(image.shape)} and "
                f"{tuple(again.shape)}"
            )

    def predict_on_meta(self, configs: PipelineConfigs, networks: Mapping[str, Any]) -> Tensor:
        """Call the U-Net on the embedding of a short text."""
        return _predict(networks, latent_size(configs.parts["unet"]), _SHORT_TEXT)

    def load(self, directory: Path, networks: Mapping[str, Any], index: Mapping[str, Any]) -> LoadedModel:
        """Return the pipeline with DDIM in place of its published scheduler."""
        from audit.models.families.stable_diffusion.network import StableDiffusionModel

        return StableDiffusionModel.of(directory, networks, index, self.ddim_config)


def _predict(networks: Mapping[str, Any], size: tuple[int, int], tokens: int) -> Tensor:
    """Return the prediction ``(B, C, h, w)`` for a text of ``tokens`` tokens, on the meta device."""
    import torch

    with torch.inference_mode():
        ids = torch.zeros((_BATCH, tokens), dtype=torch.long, device="meta")
        text = networks["text_encoder"](ids)[0]
        unet = networks["unet"]
        noise: Tensor = unet(torch.empty(_BATCH, unet.config.in_channels, *size, device="meta"), 1, text).sample
    return noise


def _try(what: str, call: Callable[..., Tensor], *arguments: object) -> Tensor:
    import torch

    try:
        with torch.inference_mode():
            return call(*arguments)
    except Exception as error:
        raise UnfitModelError(
            f"expected parts that fit each other, found that {what} ({reason_in_short(error)}); take all "
            "parts from one model"
        ) from error
