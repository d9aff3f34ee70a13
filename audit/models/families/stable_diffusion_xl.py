"""The family of Stable Diffusion XL, with its kinds for few steps (turbo, latent consistency)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from audit.config.sections import SamplingConfig
from audit.models.families.configs import CLIP_TOKENIZERS, DIFFUSION, UNET_BLOCKS
from audit.models.families.latent import BATCH, LatentFamily
from audit.models.files.pipeline_files import PipelineConfigs

_SIZES = 6
"""Numbers of SDXL's micro-conditioning: original size, crop, target size."""


class StableDiffusionXL(LatentFamily):
    """Stable Diffusion XL (Podell et al. 2024): two text encoders, and the size as a further condition."""

    name = "Stable Diffusion XL"
    pipelines = ("StableDiffusionXLPipeline",)
    classes: Mapping[str, tuple[str, ...]] = {
        "unet": ("UNet2DConditionModel",),
        "vae": ("AutoencoderKL",),
        "text_encoder": ("CLIPTextModel",),
        "text_encoder_2": ("CLIPTextModelWithProjection",),
        "tokenizer": CLIP_TOKENIZERS,
        "tokenizer_2": CLIP_TOKENIZERS,
    }
    denoiser = "unet"
    blocks = UNET_BLOCKS
    schedulers = DIFFUSION
    embeddings = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")

    def unfit_configs(self, configs: PipelineConfigs) -> Iterator[str]:
        """Find a U-Net that takes something else beside text and size: the refiner, an inpainting model."""
        unet = configs.parts["unet"]
        if unet.get("addition_embed_type") != "text_time":
            yield (
                "unet/config.json: expected addition_embed_type 'text_time', the text and the size as in SDXL, found "
                f"{unet.get('addition_embed_type')!r}"
            )
        channels, latents = unet.get("in_channels", 4), configs.parts["vae"].get("latent_channels", 4)
        if channels != latents:
            yield (
                f"unet/config.json: expected in_channels {latents}, as the VAE's latents have, found {channels!r}; an "
                "inpainting model takes a mask beside them"
            )

    def rows(self, configs: PipelineConfigs, sampling: SamplingConfig) -> int:
        """Return 1 also if the U-Net reads the guidance scale (Luo et al. 2023)."""
        distilled = configs.parts["unet"].get("time_cond_proj_dim") is not None
        return 1 if distilled else super().rows(configs, sampling)

    def encoding(self, pipeline: Any, sampling: SamplingConfig) -> dict[str, Any]:  # noqa: ANN401
        """Return the arguments of ``encode_prompt``; a distilled U-Net needs no unconditional half."""
        guided = sampling.guidance > 1 and pipeline.unet.config.time_cond_proj_dim is None
        return super().encoding(pipeline, sampling) | {"do_classifier_free_guidance": guided}

    def inputs_on_meta(self, configs: PipelineConfigs, networks: Mapping[str, Any], tokens: int) -> dict[str, Any]:
        """Return latents, both encoders' embeddings side by side, the pooled one and the size."""
        import torch

        ids = torch.zeros((BATCH, tokens), dtype=torch.long, device="meta")
        first, second = (networks[part](ids, output_hidden_states=True) for part in ("text_encoder", "text_encoder_2"))
        unet, size = networks["unet"], self.size(configs, SamplingConfig())
        scale = unet.config.time_cond_proj_dim
        return {
            "sample": torch.empty(BATCH, unet.config.in_channels, *size, device="meta"),
            "timestep": 1,
            "encoder_hidden_states": torch.cat([first.hidden_states[-2], second.hidden_states[-2]], -1),
            "added_cond_kwargs": {
                "text_embeds": second.text_embeds,
                "time_ids": torch.empty(BATCH, _SIZES, device="meta"),
            },
            "timestep_cond": None if scale is None else torch.empty(BATCH, scale, device="meta"),
        }
