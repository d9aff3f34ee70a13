"""The family of Stable Diffusion 3 and 3.5: a transformer on two streams of tokens, trained for flow matching."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from audit.config.sections import SamplingConfig
from audit.models.families.configs import CLIP_TOKENIZERS, T5_TOKENIZERS
from audit.models.families.latent import BATCH, LatentFamily
from audit.models.files.pipeline_files import PipelineConfigs

_BLOCK = re.compile(r"transformer_blocks\.\d+")
"""A block returns tokens of the text and of the image; its attention returns them in the other order."""


class StableDiffusion3(LatentFamily):
    """Stable Diffusion 3 (Esser et al. 2024); T5, the third text encoder, may be left out."""

    name = "Stable Diffusion 3"
    pipelines = ("StableDiffusion3Pipeline",)
    classes: Mapping[str, tuple[str, ...]] = {
        "transformer": ("SD3Transformer2DModel",),
        "vae": ("AutoencoderKL",),
        "text_encoder": ("CLIPTextModelWithProjection",),
        "text_encoder_2": ("CLIPTextModelWithProjection",),
        "text_encoder_3": ("T5EncoderModel",),
        "tokenizer": CLIP_TOKENIZERS,
        "tokenizer_2": CLIP_TOKENIZERS,
        "tokenizer_3": T5_TOKENIZERS,
    }
    optional = ("text_encoder_3", "tokenizer_3")
    denoiser = "transformer"
    blocks = ("pos_embed", "transformer_blocks", "norm_out", "proj_out")
    schedulers = ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler")
    flow = True
    longest_text = 256
    embeddings = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
    read_by_denoiser: Mapping[str, str] = {
        "prompt_embeds": "encoder_hidden_states",
        "pooled_prompt_embeds": "pooled_projections",
    }

    def encoding(self, pipeline: Any, sampling: SamplingConfig) -> dict[str, Any]:  # noqa: ANN401
        """Return the arguments of ``encode_prompt``: all encoders read the same text."""
        return super().encoding(pipeline, sampling) | {"prompt_2": None, "prompt_3": None}

    def inputs_on_meta(self, configs: PipelineConfigs, networks: Mapping[str, Any], tokens: int) -> dict[str, Any]:
        """Return latents, the tokens of all encoders, and the pooled embeddings of the two that are CLIP's."""
        import torch

        ids = torch.zeros((BATCH, tokens), dtype=torch.long, device="meta")
        transformer, size = networks["transformer"], self.size(configs, SamplingConfig())
        width = transformer.config.joint_attention_dim
        clip = [networks[part](ids, output_hidden_states=True) for part in ("text_encoder", "text_encoder_2")]
        joined = torch.cat([found.hidden_states[-2] for found in clip], -1)
        padded = torch.nn.functional.pad(joined, (0, width - joined.shape[-1]))
        t5 = networks.get("text_encoder_3")
        third = torch.empty(BATCH, tokens, width, device="meta") if t5 is None else t5(ids)[0]
        return {
            "hidden_states": torch.empty(BATCH, transformer.config.in_channels, *size, device="meta"),
            "encoder_hidden_states": torch.cat([padded, third], 1),
            "pooled_projections": torch.cat([found.text_embeds for found in clip], -1),
            "timestep": torch.ones(BATCH, device="meta"),
        }

    def stream(self, path: str) -> int:
        """Return 1 for a block, whose output is ``(text, image)``."""
        return 1 if _BLOCK.fullmatch(path) else 0
