"""A loaded Stable Diffusion pipeline: embeds texts, predicts noise, and translates between pictures and latents."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from torch import Tensor, nn

from audit.models.families.stable_diffusion.configs import latent_size
from audit.models.files.text_reader import TextReader
from audit.models.files.tokens import load_tokenizer, pipeline_reader
from audit.models.schedule import DdimConfig, as_ddim, load_scheduler

# B images, L text tokens, D text width, c h w latents

EMBEDDED_TEXTS = 128
"""Text embeddings kept on the device, 0.5 MB each for Stable Diffusion: an audit may have thousands of prompts."""


class StableDiffusionModel:
    """A Stable Diffusion pipeline on its device.

    The safety checker is left out: images that it blanks would be missing from the statistics without any sign of it.
    """

    def __init__(self, pipeline: StableDiffusionPipeline, published: Mapping[str, Any]) -> None:
        self._pipeline = pipeline
        self.published = published
        self.reader: TextReader | None = pipeline_reader(pipeline.tokenizer)
        self._embed: Callable[[str], Tensor] = lru_cache(EMBEDDED_TEXTS)(self._embedding)

    @classmethod
    def of(
        cls, directory: Path, networks: Mapping[str, Any], index: Mapping[str, Any], ddim_config: DdimConfig
    ) -> StableDiffusionModel:
        """Put the loaded parts together.

        Args:
            directory: Of the pipeline.
            networks: ``unet``, ``vae`` and ``text_encoder`` on their device.
            index: ``model_index.json``.
            ddim_config: Makes DDIM's config of the published scheduler's.
        """
        text, scheduler = networks["text_encoder"].config, index["scheduler"][1]
        pipeline = StableDiffusionPipeline(
            **networks,
            tokenizer=load_tokenizer(directory, text.max_position_embeddings, text.vocab_size),
            scheduler=as_ddim(load_scheduler(directory, scheduler), ddim_config),
            safety_checker=None,
            feature_extractor=None,
            image_encoder=None,
            requires_safety_checker=False,
        )
        pipeline.set_progress_bar_config(disable=True)
        pipeline.vae.to(memory_format=torch.channels_last)  # its convolutions are faster so; the U-Net gains nothing
        checker = index.get("safety_checker")
        named = checker[1] if isinstance(checker, list) and len(checker) == 2 else None
        published = f"published with {named}" if named else "published without one"
        return cls(pipeline, {"published_scheduler": scheduler, "safety_checker": f"off ({published})"})

    @property
    def denoiser(self) -> nn.Module:
        """The U-Net."""
        unet: nn.Module = self._pipeline.unet
        return unet

    @property
    def scheduler(self) -> DDIMScheduler:
        """DDIM with the published noise schedule."""
        return self._pipeline.scheduler

    @cached_property
    def noise_shape(self) -> tuple[int, int, int]:
        """``(c, h, w)`` of the latents."""
        config = self._pipeline.unet.config
        return (config.in_channels, *latent_size(config))

    def condition(self, texts: Sequence[str], guidance: float) -> Tensor:
        """Return text embeddings: ``(2B, L, D)``, unconditional half first, or ``(B, L, D)`` without guidance."""
        unconditional, conditional = torch.stack([self._embed(text) for text in texts], 1)
        return torch.cat([unconditional, conditional]) if guidance > 1 else conditional

    def predict(self, x: Tensor, timestep: int, condition: Tensor | None, guidance: float) -> Tensor:
        """Return the guided prediction (Ho & Salimans 2022, eq. 6), ``(B, c, h, w)``."""
        guided = guidance > 1
        prediction: Tensor = self._pipeline.unet(torch.cat([x, x]) if guided else x, timestep, condition).sample
        if not guided:
            return prediction
        unconditional, conditional = prediction.chunk(2)
        extrapolated: Tensor = unconditional + guidance * (conditional - unconditional)
        return extrapolated

    def encode(self, images: Tensor) -> Tensor:
        """Return the scaled mean latents of uint8 images."""
        vae = self._pipeline.vae
        encoded: Tensor = vae.encode(images.to(self._pipeline.device, vae.dtype) / 127.5 - 1).latent_dist.mean
        scaled: Tensor = encoded * vae.config.scaling_factor
        return scaled

    def decode(self, x: Tensor) -> Tensor:
        """Return uint8 images ``(B, 3, H, W)`` on the CPU."""
        vae = self._pipeline.vae
        decoded = vae.decode(x / vae.config.scaling_factor).sample.float()
        images: Tensor = (decoded * 127.5 + 127.5).round().clamp(0, 255).byte().cpu()
        return images

    def _embedding(self, text: str) -> Tensor:
        """Return the embeddings ``(2, L, D)`` of the empty prompt and of ``text``, which must be read to its end."""
        if self.reader is not None:
            self.reader.check([text])
        conditional, unconditional = self._pipeline.encode_prompt(text, self._pipeline.device, 1, True)
        return torch.cat([unconditional, conditional])
