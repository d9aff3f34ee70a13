"""Loading a Stable Diffusion pipeline: safetensors only, from a directory or a hub id.

Diffusers takes seconds to import, and a worker that draws needs none of it: it is imported where a pipeline is loaded.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from audit.config.sections import ModelConfig
from audit.models.check import refuse_unfit
from audit.models.files.pipeline_files import PipelineConfigs, find_weights, some
from audit.models.files.tokens import load_tokenizer
from audit.models.files.untrusted_model import WITH_WEIGHTS, UnfitModelError
from audit.models.schedule import as_ddim, load_scheduler
from audit.models.source import pipeline_source

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


class Loaded(NamedTuple):
    """A pipeline with DDIM, and what it was published with.

    Attributes:
        pipeline: On its device.
        scheduler: Class of the scheduler that it was published with.
        safety_checker: Class of the safety checker that it was published with, None where it had none.
    """

    pipeline: StableDiffusionPipeline
    scheduler: str
    safety_checker: str | None


def load_pipeline(model: ModelConfig, device: torch.device) -> Loaded:
    """Load a Stable Diffusion 1.x or 2.x pipeline with a DDIM scheduler on ``device``.

    The safety checker is left out: it would blank images out of the statistics without a trace.

    Raises:
        UntrustedModelError: It holds code, pickled weights alone or classes of its own.
        UnfitModelError: It is of another family, incomplete, or cannot be sampled as it was published.
        OSError: No such directory or repository.
    """
    from diffusers import StableDiffusionPipeline

    source = Path(pipeline_source(model))
    directory = source if source.is_dir() else _downloaded(model)
    refuse_unfit(directory, model)
    index = PipelineConfigs.read(directory).index
    networks = {part: _network(directory, part, model) for part in WITH_WEIGHTS}
    text = networks["text_encoder"].config
    pipeline = StableDiffusionPipeline(
        **networks,
        tokenizer=load_tokenizer(directory, text.max_position_embeddings, text.vocab_size),
        scheduler=as_ddim(load_scheduler(directory, index["scheduler"][1])),
        safety_checker=None,
        feature_extractor=None,
        image_encoder=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    for part in networks.values():
        part.requires_grad_(False).eval()
    pipeline.vae.to(memory_format=torch.channels_last)  # its convolutions are faster so; the U-Net gains nothing
    checker = index.get("safety_checker")
    return Loaded(
        pipeline=pipeline.to(device),
        scheduler=index["scheduler"][1],
        safety_checker=checker[1] if isinstance(checker, list) and len(checker) == 2 else None,
    )


def _network(directory: Path, part: str, model: ModelConfig) -> Any:  # noqa: ANN401 - a network of either library
    """Load one part, all of whose tensors come from its files.

    Raises:
        UnfitModelError: The loader filled a tensor in, or left one over.
    """
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel

    kind = {"unet": UNet2DConditionModel, "vae": AutoencoderKL, "text_encoder": CLIPTextModel}[part]
    network, told = kind.from_pretrained(
        directory / part,
        variant=find_weights(directory, part, model.variant).variant,
        dtype=DTYPES[model.dtype],
        use_safetensors=True,
        local_files_only=True,
        output_loading_info=True,
    )
    odd = {why: sorted(map(str, told.get(why) or ())) for why in ("missing_keys", "unexpected_keys", "mismatched_keys")}
    if any(odd.values()):
        found = "; ".join(f"{why.replace('_', ' ')} {some(names)}" for why, names in odd.items() if names)
        raise UnfitModelError(
            f"{directory / part}: expected every tensor of {kind.__name__} and no other, found {found}"
        )
    return network


def _downloaded(model: ModelConfig) -> Path:
    """Fetch a pipeline from the hub, safetensors and configs alone, so that it can be looked at before it is loaded."""
    from diffusers import StableDiffusionPipeline

    folder = StableDiffusionPipeline.download(
        model.source, revision=model.revision, variant=model.variant, use_safetensors=True, trust_remote_code=False
    )
    return Path(folder)
