"""The family of Stable Diffusion XL, with its kinds for few steps (turbo, latent consistency)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from audit.models.families.configs import CLIP_TOKENIZERS
from audit.models.families.latent import BATCH, UnetFamily
from audit.models.files.pipeline_files import PipelineConfigs

_SIZES = 6
"""Numbers of SDXL's micro-conditioning: original size, crop, target size."""


class StableDiffusionXL(UnetFamily):
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
    embeddings = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
    read_by_denoiser: Mapping[str, str] = {
        "prompt_embeds": "encoder_hidden_states",
        "pooled_prompt_embeds": "added_cond_kwargs.text_embeds",
    }

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

    def inputs_on_meta(self, configs: PipelineConfigs, networks: Mapping[str, Any], tokens: int) -> dict[str, Any]:
        """Return latents, both encoders' embeddings side by side, the pooled one and the size."""
        import torch

        ids = torch.zeros((BATCH, tokens), dtype=torch.long, device="meta")
        first, second = (networks[part](ids, output_hidden_states=True) for part in ("text_encoder", "text_encoder_2"))
        return self.latents_on_meta(configs, networks) | {
            "encoder_hidden_states": torch.cat([first.hidden_states[-2], second.hidden_states[-2]], -1),
            "added_cond_kwargs": {
                "text_embeds": second.text_embeds,
                "time_ids": torch.empty(BATCH, _SIZES, device="meta"),
            },
        }
