"""What families of text-to-image pipelines in latent space have in common: text encoders, a denoiser, a VAE."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audit.config.sections import SamplingConfig
from audit.models.families.configs import (
    DIFFUSION,
    UNET_BLOCKS,
    Classes,
    cell_of,
    sample_size,
    transformer_places,
    unet_places,
    unfit_class,
    unfit_index,
)
from audit.models.families.interface import Index
from audit.models.files.pipeline_files import (
    NETWORK_CONFIG,
    SCHEDULER_CONFIG,
    TOKENIZER_CONFIG,
    PipelineConfigs,
    tokenizer_problem,
)
from audit.models.files.text_reader import TextReader
from audit.models.files.untrusted_model import NOT_LOADED, UnfitModelError, reason_in_short
from audit.records.located.places import Place

if TYPE_CHECKING:
    from torch import Tensor, nn

# B images, L text tokens, C latent channels, h w latent grid

BATCH = 2
"""Images of a dry run."""

SHORT_TEXT = 3
"""Tokens of a dry run for hookpoints."""


class LatentFamily:
    """Base of the families whose pipelines turn a text into latents and latents into a picture.

    A member names its parts and says what its denoiser reads; the pipeline's own class does the rest.
    """

    name: str
    pipelines: tuple[str, ...]
    classes: Classes
    """Part → classes that it may have, in the order denoiser, VAE, text encoders, tokenizers."""
    optional: tuple[str, ...] = ()
    """Parts that a member may leave out."""
    denoiser: str
    blocks: tuple[str, ...]
    schedulers: tuple[str, ...]
    embeddings: tuple[str, ...]
    """Arguments of the pipeline's call that its ``encode_prompt`` returns, in its order."""
    read_by_denoiser: Mapping[str, str] = {"prompt_embeds": "encoder_hidden_states"}
    guided_in_one_batch: bool = True
    redraws_noise: bool = False
    cross_attention: bool = False
    flow: bool = False
    shared_inputs: tuple[str, ...] = ()
    reads_text: bool = True
    longest_text: int = 77

    def configs(self, index: Index) -> Mapping[str, str]:
        """Return part → file with its config."""
        kinds = {"tokenizer": TOKENIZER_CONFIG}
        parts = {part: kinds.get(part.partition("_")[0], NETWORK_CONFIG) for part in self._present(index)}
        return {**parts, "scheduler": SCHEDULER_CONFIG}

    def networks(self, index: Index) -> tuple[str, ...]:
        """Return the denoiser, the VAE and the text encoders."""
        return tuple(part for part in self._present(index) if not part.startswith("tokenizer"))

    def size(self, configs: PipelineConfigs, sampling: SamplingConfig) -> tuple[int, int]:
        """Return height and width of the latents."""
        height, width = self.published_size(configs)
        cell = self.cell(configs)
        return (
            sampling.height // cell if sampling.height else height,
            sampling.width // cell if sampling.width else width,
        )

    def published_size(self, configs: PipelineConfigs) -> tuple[int, int]:
        """Return height and width of the latents that a model is published for."""
        return sample_size(self.denoiser, configs.parts[self.denoiser])

    def cell(self, configs: PipelineConfigs) -> int:
        """Return the pixels that one cell of the latents stands for, in each direction."""
        return cell_of(configs.parts["vae"], "block_out_channels")

    def rows(self, configs: PipelineConfigs, sampling: SamplingConfig) -> int:
        """Return 2 with guidance, which also needs the unconditional half, and 1 without."""
        return 2 if sampling.guidance > 1 else 1

    def places(self, configs: PipelineConfigs) -> tuple[Place, ...]:
        """Return the places of the denoiser; a transformer has two streams if its blocks return the image second."""
        config = configs.parts[self.denoiser]
        if self.denoiser == "unet":
            return unet_places(config)
        return transformer_places(config, streams=self.stream("transformer_blocks.0") == 1)

    def unfit_index(self, index: Index) -> Iterator[str]:
        """Find parts that the family does not have, or that are missing."""
        needed = {part: self.classes[part] for part in self._present(index)}
        return unfit_index(index, self.name, needed)

    def unfit_parts(self, directory: Path, configs: PipelineConfigs) -> Iterator[str]:
        """Find configs of other classes, a denoiser without size, and tokenizers without words."""
        for part in self.networks(configs.index):
            yield from unfit_class(part, configs.parts[part], self.classes)
        yield from self.unfit_configs(configs)
        for check in (self.published_size, self.cell):
            try:
                check(configs)
            except ValueError as error:
                yield str(error)
        for part in self._tokenizers(configs.index):
            missing = tokenizer_problem(directory, part)
            if missing:
                yield missing

    def unfit_configs(self, configs: PipelineConfigs) -> Iterator[str]:
        """Find what the configs of the parts ask for that an audit does not give."""
        return iter(())

    def unfit_sampling(self, configs: PipelineConfigs, sampling: SamplingConfig) -> Iterator[tuple[str, str]]:
        """Find a size that the latents cannot have, and a negative prompt that is not read."""
        unit = self.cell(configs) * self.patch(configs)
        for key in ("height", "width"):
            side = getattr(sampling, key)
            if side is not None and side % unit:
                yield (
                    key,
                    f"expected a multiple of {unit}, the pixels of one cell of the latents, found {side}; choose one",
                )
        if sampling.true_guidance is not None:
            yield "true_guidance", f"expected none for {self.name}, whose guidance is sampling.guidance; remove it"
        if sampling.negative_prompt is not None and self.rows(configs, sampling) == 1:
            yield (
                "negative_prompt",
                f"expected none without guidance, since the model would not read it, found "
                f"{sampling.negative_prompt!r}; remove it, or set guidance above 1",
            )

    def patch(self, configs: PipelineConfigs) -> int:
        """Return the cells of the latents that one token of the denoiser stands for, in each direction."""
        return int(configs.parts[self.denoiser].get("patch_size") or 1)

    def network_class(self, part: str, index: Index) -> Any:  # noqa: ANN401 - a class of diffusers or transformers
        """Return the class that the index names; :meth:`unfit_index` has compared it with those of the family."""
        import diffusers
        import transformers

        library, named = index[part]
        return getattr({"diffusers": diffusers, "transformers": transformers}[library], named)

    def check_parts(self, directory: Path, configs: PipelineConfigs, networks: Mapping[str, Any]) -> None:
        """Read a text, predict and decode a picture, on the meta device."""
        import torch

        tokens = min(map(_limit, self.load_tokenizers(directory, networks, configs.index).values()))
        inputs = _tried(
            "the text encoders fail on the tokens of the tokenizers",
            lambda: self.inputs_on_meta(configs, networks, tokens),
        )
        prediction = _tried(
            "the denoiser fails on the text encoder's embeddings", lambda: self._predict(networks, inputs)
        )
        expected = self.prediction_shape(configs, next(iter(inputs.values())))
        if tuple(prediction.shape) != expected:
            raise UnfitModelError(
                f"{self.denoiser}: expected a prediction of shape {expected}, found {tuple(prediction.shape)}"
            )
        vae = networks["vae"]
        shape = (BATCH, vae.config.latent_channels, *self.size(configs, SamplingConfig()))
        image = _tried(
            "the VAE fails on the denoiser's latents",
            lambda: vae.decode(torch.empty(*shape, device="meta"), return_dict=False)[0],
        )
        if image.ndim != 4 or image.shape[1] != 3:
            raise UnfitModelError(f"vae: expected pictures (B, 3, H, W), found {tuple(image.shape)}")

    def predict_on_meta(self, configs: PipelineConfigs, networks: Mapping[str, Any]) -> Tensor:
        """Call the denoiser on the embedding of a short text."""
        return self._predict(networks, self.inputs_on_meta(configs, networks, SHORT_TEXT))

    def inputs_on_meta(self, configs: PipelineConfigs, networks: Mapping[str, Any], tokens: int) -> dict[str, Any]:
        """Return what the denoiser is called with, by the name of the argument; the noisy latents come first.

        Args:
            configs: Of the pipeline.
            networks: On the meta device.
            tokens: L, of the text.
        """
        raise NotImplementedError

    def prediction_shape(self, configs: PipelineConfigs, noisy: Tensor) -> tuple[int, ...]:
        """Return the shape of a prediction, given the noisy latents."""
        return tuple(noisy.shape)

    def build(self, directory: Path, networks: Mapping[str, Any], index: Index) -> Any:  # noqa: ANN401 - a pipeline
        """Return the pipeline of the published class."""
        import diffusers

        from audit.models.schedulers.trial import load_scheduler

        kind = getattr(diffusers, index["_class_name"])
        known = inspect.signature(kind.__init__).parameters
        # Settings of the pipeline itself, such as what SDXL takes for an empty negative prompt.
        parts: dict[str, Any] = {part: None for part in (*NOT_LOADED, *self.optional) if part in known}
        parts |= {key: value for key, value in index.items() if key in known and not isinstance(value, list)}
        parts |= dict(networks) | self.load_tokenizers(directory, networks, index)
        parts["scheduler"] = load_scheduler(directory, index["scheduler"][1])
        # Images that a safety checker blanks would be missing from the statistics without any sign of it.
        if "requires_safety_checker" in known:
            parts["requires_safety_checker"] = False
        pipeline = kind(**parts)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def load_tokenizers(self, directory: Path, networks: Mapping[str, Any], index: Index) -> dict[str, Any]:
        """Load the tokenizers, each of which knows only tokens that its text encoder knows.

        Raises:
            UnfitModelError: One cannot be used.
        """
        from audit.models.files.tokens import load_tokenizer

        found = {}
        for part in self._tokenizers(index):
            encoder = networks[part.replace("tokenizer", "text_encoder")]
            found[part] = load_tokenizer(directory / part, encoder.config, index[part][1], self.longest_text)
        return found

    def reader(self, pipeline: Any) -> TextReader | None:  # noqa: ANN401 - a pipeline
        """Return the tokenizer that reads least."""
        from audit.models.files.tokens import pipeline_reader

        tokenizers = [getattr(pipeline, part, None) for part in self.classes if part.startswith("tokenizer")]
        return pipeline_reader(min(filter(None, tokenizers), key=_limit))

    def encode(self, pipeline: Any, text: str, sampling: SamplingConfig) -> dict[str, Tensor]:  # noqa: ANN401
        """Return the embeddings of a text, with those of the negative prompt if guidance needs them."""
        found = pipeline.encode_prompt(text, **self.encoding(pipeline, sampling))
        return {name: rows for name, rows in zip(self.embeddings, found, strict=False) if rows is not None}

    def encoding(self, pipeline: Any, sampling: SamplingConfig) -> dict[str, Any]:  # noqa: ANN401
        """Return the arguments of the pipeline's ``encode_prompt`` beside the text."""
        return {
            "device": pipeline.device,
            "num_images_per_prompt": 1,
            "do_classifier_free_guidance": sampling.guidance > 1,
            "negative_prompt": sampling.negative_prompt,
        }

    def arguments(self, pipeline: Any, sampling: SamplingConfig) -> dict[str, Any]:  # noqa: ANN401
        """Return guidance, and height and width if the config sets them."""
        sides = {"height": sampling.height, "width": sampling.width}
        return {"guidance_scale": sampling.guidance, **{key: side for key, side in sides.items() if side is not None}}

    def kept(self, pipeline: Any, latents: Tensor) -> Tensor:  # noqa: ANN401
        """Return them as they are."""
        return latents

    def as_map(self, pipeline: Any, latents: Tensor, sampling: SamplingConfig) -> Tensor:  # noqa: ANN401
        """Return them as they are."""
        return latents

    def timestep_scales(self, denoiser: Any) -> tuple[float, float]:  # noqa: ANN401 - of diffusers
        """Return 1, or what pipelines of some Sana models multiply by."""
        scale = float(denoiser.config.get("timestep_scale") or 1)
        return scale, scale

    def read_by_blocks(self, denoiser: nn.Module, embeddings: Tensor) -> Tensor:
        """Return them as they are."""
        return embeddings

    def stream(self, path: str) -> int:
        """Return 0: the image comes first in what a block of a U-Net returns."""
        return 0

    def _predict(self, networks: Mapping[str, Any], inputs: dict[str, Any]) -> Tensor:
        import torch

        with torch.inference_mode():
            prediction: Tensor = networks[self.denoiser](**inputs, return_dict=False)[0]
        return prediction

    def _present(self, index: Index) -> tuple[str, ...]:
        """Return the parts of a member; an optional one may be ``[null, null]``."""
        return tuple(
            part for part in self.classes if part not in self.optional or index.get(part) not in (None, [None, None])
        )

    def _tokenizers(self, index: Index) -> tuple[str, ...]:
        return tuple(part for part in self._present(index) if part.startswith("tokenizer"))


class UnetFamily(LatentFamily):
    """Base of the families whose denoiser is a U-Net, which may be distilled to read the guidance scale itself."""

    denoiser = "unet"
    blocks = UNET_BLOCKS
    cross_attention = True
    schedulers: tuple[str, ...] = DIFFUSION

    def rows(self, configs: PipelineConfigs, sampling: SamplingConfig) -> int:
        """Return 1 also if the U-Net reads the guidance scale (Luo et al. 2023)."""
        distilled = configs.parts["unet"].get("time_cond_proj_dim") is not None
        return 1 if distilled else super().rows(configs, sampling)

    def encoding(self, pipeline: Any, sampling: SamplingConfig) -> dict[str, Any]:  # noqa: ANN401
        """Return the arguments of ``encode_prompt``; a distilled U-Net needs no unconditional half."""
        guided = sampling.guidance > 1 and pipeline.unet.config.time_cond_proj_dim is None
        return super().encoding(pipeline, sampling) | {"do_classifier_free_guidance": guided}

    def latents_on_meta(self, configs: PipelineConfigs, networks: Mapping[str, Any]) -> dict[str, Any]:
        """Return noisy latents, a timestep, and the embedding of the guidance scale if the U-Net reads it."""
        import torch

        unet, size = networks["unet"], self.size(configs, SamplingConfig())
        scale = unet.config.time_cond_proj_dim
        return {
            "sample": torch.empty(BATCH, unet.config.in_channels, *size, device="meta"),
            "timestep": 1,
            "timestep_cond": None if scale is None else torch.empty(BATCH, scale, device="meta"),
        }


def _limit(tokenizer: Any) -> int:  # noqa: ANN401 - a tokenizer of transformers
    return int(tokenizer.model_max_length)


def _tried(what: str, call: Callable[[], Any]) -> Any:  # noqa: ANN401 - what the call returns
    import torch

    try:
        with torch.inference_mode():
            return call()
    except Exception as error:
        raise UnfitModelError(
            f"expected parts that fit each other, found that {what} ({reason_in_short(error)}); take all "
            "parts from one model"
        ) from error
