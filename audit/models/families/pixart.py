"""The families of PixArt-α, PixArt-Σ and Sana: transformers that read one text by cross-attention."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from audit.config.sections import SamplingConfig
from audit.models.families.configs import DIFFUSION, T5_TOKENIZERS, cell_of
from audit.models.families.interface import TEXT_MASK, Index
from audit.models.families.latent import BATCH, LatentFamily
from audit.models.files.pipeline_files import PipelineConfigs

if TYPE_CHECKING:
    from torch import Tensor, nn

_WITH_SIZE = 128
"""``sample_size`` of the PixArt-α models that also read the size of the picture."""


class PixArtAlpha(LatentFamily):
    """PixArt-α (Chen et al. 2024)."""

    name = "PixArt-α"
    pipelines: tuple[str, ...] = ("PixArtAlphaPipeline",)
    classes: Mapping[str, tuple[str, ...]] = {
        "transformer": ("PixArtTransformer2DModel", "Transformer2DModel"),
        "vae": ("AutoencoderKL",),
        "text_encoder": ("T5EncoderModel",),
        "tokenizer": T5_TOKENIZERS,
    }
    denoiser = "transformer"
    blocks: tuple[str, ...] = ("pos_embed", "transformer_blocks", "proj_out")
    cross_attention = True
    schedulers: tuple[str, ...] = DIFFUSION
    longest_text = 120
    formats: tuple[int, ...] = (32, 64, 128)
    """Values of ``sample_size`` for which the pipeline lists formats; it fits a size to the nearest of them."""
    multiple: int = 8
    """What the pipeline's call takes sides in multiples of, in pixels; it fits them first where it has formats."""
    embeddings = (
        "prompt_embeds", "prompt_attention_mask", "negative_prompt_embeds", "negative_prompt_attention_mask"
    )  # fmt: skip
    read_by_denoiser: Mapping[str, str] = {
        "prompt_embeds": "encoder_hidden_states",
        "prompt_attention_mask": TEXT_MASK,
    }

    def network_class(self, part: str, index: Index) -> Any:  # noqa: ANN401 - a class of diffusers or transformers
        """Return the present class of the transformer, also if the index names the former one."""
        if part == self.denoiser:
            import diffusers

            return getattr(diffusers, self.classes[part][0])
        return super().network_class(part, index)

    def encoding(self, pipeline: Any, sampling: SamplingConfig) -> dict[str, Any]:  # noqa: ANN401
        """Return the arguments of ``encode_prompt``, as the pipeline's own call sets them."""
        from diffusers.utils import is_bs4_available, is_ftfy_available

        named = ("clean_caption", "max_sequence_length", "complex_human_instruction")
        known = inspect.signature(type(pipeline).__call__).parameters
        usual = {name: known[name].default for name in named if name in known}
        # Without these packages the pipeline does not clean captions either, and warns for every text.
        cleaned = usual["clean_caption"] and is_bs4_available() and is_ftfy_available()
        # A text is padded to this length, and a tokenizer with a smaller limit has no text that long.
        length = min(usual["max_sequence_length"], int(pipeline.tokenizer.model_max_length))
        own = {"negative_prompt": sampling.negative_prompt or "", "max_sequence_length": length}
        return super().encoding(pipeline, sampling) | usual | own | {"clean_caption": cleaned}

    def arguments(self, pipeline: Any, sampling: SamplingConfig) -> dict[str, Any]:  # noqa: ANN401
        """Return also an unset negative prompt, whose default clashes with embeddings, and whether sizes are fitted.

        The pipelines refuse to fit pictures to the formats of a ``sample_size`` for which they list none.
        """
        own = super().arguments(pipeline, sampling) | {"negative_prompt": None}
        fitted = pipeline.transformer.config.sample_size in self.formats
        return own if fitted else own | {"use_resolution_binning": False}

    def unfit_sampling(self, configs: PipelineConfigs, sampling: SamplingConfig) -> Iterator[tuple[str, str]]:
        """Find also sides that the pipeline's call refuses, if it does not fit them to a format."""
        found = tuple(super().unfit_sampling(configs, sampling))
        yield from found
        published, cell = self.published_size(configs), self.cell(configs)
        if found or published[0] in self.formats:
            return
        for key, cells in zip(("height", "width"), published, strict=True):
            side = getattr(sampling, key) or cells * cell
            if side % self.multiple:
                message = f"expected a multiple of {self.multiple}, as the pipeline of {self.name} takes, found {side}"
                yield key, f"{message}; set sampling.{key}"

    def read_by_blocks(self, denoiser: nn.Module, embeddings: Tensor) -> Tensor:
        """Return what the projection makes of them, which is the same for every block and step."""
        network: Any = denoiser
        if network.caption_projection is None:
            return embeddings
        projected: Tensor = network.caption_projection(embeddings)
        return projected

    def prediction_shape(self, configs: PipelineConfigs, noisy: Tensor) -> tuple[int, ...]:
        """Return the shape of a prediction, which may hold a variance beside the noise."""
        batch, channels, *grid = noisy.shape
        return (batch, configs.parts["transformer"].get("out_channels") or channels, *grid)

    def inputs_on_meta(self, configs: PipelineConfigs, networks: Mapping[str, Any], tokens: int) -> dict[str, Any]:
        """Return latents, the text with its mask, and the size where it is read."""
        import torch

        transformer = networks["transformer"]
        with_size = transformer.config.sample_size == _WITH_SIZE and transformer.config.use_additional_conditions
        size = {"resolution": 2, "aspect_ratio": 1}
        return {
            **self._latents_and_text(configs, networks, tokens),
            "added_cond_kwargs": {
                name: torch.empty(BATCH, numbers, device="meta") if with_size else None
                for name, numbers in size.items()
            },
        }

    def _latents_and_text(self, configs: PipelineConfigs, networks: Mapping[str, Any], tokens: int) -> dict[str, Any]:
        import torch

        ids = torch.zeros((BATCH, tokens), dtype=torch.long, device="meta")
        channels, size = networks["transformer"].config.in_channels, self.size(configs, SamplingConfig())
        return {
            "hidden_states": torch.empty(BATCH, channels, *size, device="meta"),
            "encoder_hidden_states": networks["text_encoder"](ids)[0],
            "timestep": torch.ones(BATCH, device="meta"),
            TEXT_MASK: torch.ones(BATCH, tokens, device="meta"),
        }


class PixArtSigma(PixArtAlpha):
    """PixArt-Σ (Chen et al. 2024b): no size, longer texts."""

    name = "PixArt-Σ"
    pipelines = ("PixArtSigmaPipeline",)
    formats = (32, 64, 128, 256)
    longest_text = 300


class Sana(PixArtAlpha):
    """Sana (Xie et al. 2025): linear attention on the latents of a deep autoencoder, trained for flow matching."""

    name = "Sana"
    pipelines = ("SanaPipeline",)
    classes: Mapping[str, tuple[str, ...]] = {
        "transformer": ("SanaTransformer2DModel",),
        "vae": ("AutoencoderDC",),
        "text_encoder": ("Gemma2Model", "Gemma2PreTrainedModel"),
        "tokenizer": ("GemmaTokenizer", "GemmaTokenizerFast"),
    }
    blocks = ("patch_embed", "transformer_blocks", "proj_out")
    schedulers = ("DPMSolverMultistepScheduler", "FlowMatchEulerDiscreteScheduler", "UniPCMultistepScheduler")
    flow = True
    formats = (16, 32, 64, 128)
    multiple = 32
    longest_text = 300

    def cell(self, configs: PipelineConfigs) -> int:
        """Return the pixels of one cell of the latents: 32 as published."""
        return cell_of({"encoder_block_out_channels": [64] * 6, **configs.parts["vae"]}, "encoder_block_out_channels")

    def network_class(self, part: str, index: Index) -> Any:  # noqa: ANN401 - a class of diffusers or transformers
        """Return the class; some indices name the base class of the text encoder."""
        import transformers

        return transformers.Gemma2Model if part == "text_encoder" else super().network_class(part, index)

    def read_by_blocks(self, denoiser: nn.Module, embeddings: Tensor) -> Tensor:
        """Return what projection and normalisation make of them."""
        network: Any = denoiser
        normalised: Tensor = network.caption_norm(super().read_by_blocks(denoiser, embeddings))
        return normalised

    def inputs_on_meta(self, configs: PipelineConfigs, networks: Mapping[str, Any], tokens: int) -> dict[str, Any]:
        """Return latents and the text with its mask."""
        return self._latents_and_text(configs, networks, tokens)
