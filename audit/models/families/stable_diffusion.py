"""The family of Stable Diffusion 1.x and 2.x, and of models distilled from them for latent consistency."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from audit.config.sections import SamplingConfig
from audit.models.families.latent import BATCH, UnetFamily
from audit.models.families.stable_diffusion_configs import CLASSES, latent_size, unfit_parts
from audit.models.files.pipeline_files import PipelineConfigs


class StableDiffusion(UnetFamily):
    """Stable Diffusion 1.x and 2.x (Rombach et al. 2022)."""

    name = "Stable Diffusion 1.x or 2.x"
    pipelines = ("StableDiffusionPipeline",)
    classes = CLASSES
    embeddings: tuple[str, ...] = ("prompt_embeds", "negative_prompt_embeds")

    def published_size(self, configs: PipelineConfigs) -> tuple[int, int]:
        """Return height and width of the latents; as diffusers reads them in configs of early releases."""
        return latent_size(configs.parts["unet"])

    def unfit_configs(self, configs: PipelineConfigs) -> Iterator[str]:
        """Find a U-Net that takes more than a text, and parts that do not fit each other."""
        return unfit_parts(configs)

    def inputs_on_meta(self, configs: PipelineConfigs, networks: Mapping[str, Any], tokens: int) -> dict[str, Any]:
        """Return latents, a timestep, and the text encoder's embeddings."""
        import torch

        ids = torch.zeros((BATCH, tokens), dtype=torch.long, device="meta")
        text = {"encoder_hidden_states": networks["text_encoder"](ids)[0]}
        return self.latents_on_meta(configs, networks) | text


class LatentConsistency(StableDiffusion):
    """Stable Diffusion distilled for few steps, with a pipeline of its own (Luo et al. 2023)."""

    name = "a latent consistency model"
    pipelines = ("LatentConsistencyModelPipeline",)
    schedulers = ("LCMScheduler",)
    embeddings = ("prompt_embeds",)
    guided_in_one_batch = False
    redraws_noise = True

    def rows(self, configs: PipelineConfigs, sampling: SamplingConfig) -> int:
        """Return 1: guidance is an input of the U-Net."""
        return 1

    def encoding(self, pipeline: Any, sampling: SamplingConfig) -> dict[str, Any]:  # noqa: ANN401
        """Return the arguments of ``encode_prompt`` without guidance."""
        return super().encoding(pipeline, sampling) | {"do_classifier_free_guidance": False}
