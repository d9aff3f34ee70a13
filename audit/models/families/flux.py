"""The family of FLUX.1: a transformer on packed latents, with distilled guidance or none, trained for flow matching."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from audit.config.sections import SamplingConfig
from audit.models.families.configs import CLIP_TOKENIZERS, T5_TOKENIZERS
from audit.models.families.latent import BATCH, LatentFamily
from audit.models.files.pipeline_files import PipelineConfigs

if TYPE_CHECKING:
    from torch import Tensor

_BLOCK = re.compile(r"(single_)?transformer_blocks\.\d+")
_SIDE = 128
"""Cells of the latents in each direction for which FLUX.1 is published; no config states it."""
_PATCH = 2
_POSITIONS = 3
_TIMESTEPS = 1000


class Flux(LatentFamily):
    """FLUX.1 (Black Forest Labs 2024). One token stands for 2 × 2 cells of the latents."""

    name = "FLUX.1"
    pipelines = ("FluxPipeline",)
    classes: Mapping[str, tuple[str, ...]] = {
        "transformer": ("FluxTransformer2DModel",),
        "vae": ("AutoencoderKL",),
        "text_encoder": ("CLIPTextModel",),
        "text_encoder_2": ("T5EncoderModel",),
        "tokenizer": CLIP_TOKENIZERS,
        "tokenizer_2": T5_TOKENIZERS,
    }
    denoiser = "transformer"
    blocks = ("x_embedder", "transformer_blocks", "single_transformer_blocks", "norm_out", "proj_out")
    schedulers = ("FlowMatchEulerDiscreteScheduler",)
    flow = True
    shared_inputs = ("img_ids", "txt_ids")
    longest_text = 512
    embeddings = ("prompt_embeds", "pooled_prompt_embeds")
    read_by_denoiser: Mapping[str, str] = {
        "prompt_embeds": "encoder_hidden_states",
        "pooled_prompt_embeds": "pooled_projections",
    }
    guided_in_one_batch = False

    def published_size(self, configs: PipelineConfigs) -> tuple[int, int]:
        """Return height and width of the latents, which no config states."""
        return _SIDE, _SIDE

    def patch(self, configs: PipelineConfigs) -> int:
        """Return the cells that one token stands for, in each direction."""
        return _PATCH

    def rows(self, configs: PipelineConfigs, sampling: SamplingConfig) -> int:
        """Return 2 with true guidance: the denoiser is called twice in each step."""
        return 1 if sampling.true_guidance is None else 2

    def unfit_sampling(self, configs: PipelineConfigs, sampling: SamplingConfig) -> Iterator[tuple[str, str]]:
        """Find a guidance and a negative prompt that the pipeline would ignore without a word."""
        plain = sampling.model_copy(update={"true_guidance": None, "negative_prompt": None})
        yield from super().unfit_sampling(configs, plain)
        if sampling.negative_prompt is not None and sampling.true_guidance is None:
            message = "expected true_guidance beside a negative prompt, which FLUX.1 otherwise ignores, found none"
            yield "negative_prompt", f"{message}; set sampling.true_guidance above 1"
        if not configs.parts["transformer"].get("guidance_embeds") and sampling.guidance > 1:
            message = (
                f"expected 0 for a model without distilled guidance, which ignores it, found {sampling.guidance:g}"
            )
            yield "guidance", f"{message}; set it to 0"

    def inputs_on_meta(self, configs: PipelineConfigs, networks: Mapping[str, Any], tokens: int) -> dict[str, Any]:
        """Return packed latents with the place of each token, the text, its pooled embedding, and the guidance."""
        import torch

        ids = torch.zeros((BATCH, tokens), dtype=torch.long, device="meta")
        config = networks["transformer"].config
        height, width = self.size(configs, SamplingConfig())
        packed = (height // _PATCH) * (width // _PATCH)
        return {
            "hidden_states": torch.empty(BATCH, packed, config.in_channels, device="meta"),
            "encoder_hidden_states": networks["text_encoder_2"](ids)[0],
            "pooled_projections": networks["text_encoder"](ids).pooler_output,
            "timestep": torch.ones(BATCH, device="meta"),
            "img_ids": torch.empty(packed, _POSITIONS, device="meta"),
            "txt_ids": torch.empty(tokens, _POSITIONS, device="meta"),
            "guidance": torch.ones(BATCH, device="meta") if config.guidance_embeds else None,
        }

    def encode(self, pipeline: Any, text: str, sampling: SamplingConfig) -> dict[str, Tensor]:  # noqa: ANN401
        """Return the embeddings of a text, with those of the negative prompt for true guidance."""
        found = pipeline.encode_prompt(text, None, pipeline.device)
        rows = dict(zip(self.embeddings, found[:2], strict=True))
        if sampling.true_guidance is None:
            return rows
        negative = pipeline.encode_prompt(sampling.negative_prompt or "", None, pipeline.device)
        return rows | {f"negative_{name}": row for name, row in zip(self.embeddings, negative[:2], strict=True)}

    def arguments(self, pipeline: Any, sampling: SamplingConfig) -> dict[str, Any]:  # noqa: ANN401
        """Return also the scale of true guidance."""
        true = {} if sampling.true_guidance is None else {"true_cfg_scale": sampling.true_guidance}
        return super().arguments(pipeline, sampling) | true

    def kept(self, pipeline: Any, latents: Tensor) -> Tensor:  # noqa: ANN401
        """Return a token (B, T, 4c) for each 2 × 2 cells."""
        packed: Tensor = pipeline._pack_latents(latents, *latents.shape)
        return packed

    def as_map(self, pipeline: Any, latents: Tensor, sampling: SamplingConfig) -> Tensor:  # noqa: ANN401
        """Return the 2 × 2 cells (B, c, h, w) of each token."""
        published, factor = pipeline.default_sample_size * pipeline.vae_scale_factor, pipeline.vae_scale_factor
        height, width = sampling.height or published, sampling.width or published
        cells: Tensor = pipeline._unpack_latents(latents, height, width, factor)
        return cells

    def timestep_scales(self, denoiser: Any) -> tuple[float, float]:  # noqa: ANN401 - of diffusers
        """Return 1/1000, which the pipeline multiplies by, and 1: the transformer takes it off again."""
        return 1 / _TIMESTEPS, 1.0

    def stream(self, path: str) -> int:
        """Return 1 for a block of either kind, whose output is ``(text, image)``."""
        return 1 if _BLOCK.fullmatch(path) else 0
