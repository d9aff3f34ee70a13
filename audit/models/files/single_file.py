"""Reads the header of a single-file checkpoint: a whole pipeline in one safetensors file, with the original names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from audit.models.files.adapter_file import is_lora_name
from audit.models.files.pipeline_files import header_of, some
from audit.models.files.untrusted_model import UnfitModelError

SUFFIX = ".safetensors"

CONFIG_REMEDY = (
    "set model.config to the directory of the same pipeline in the layout of diffusers; its weights are not needed: "
    "hf download OWNER/NAME --include '*.json' '*.txt' --local-dir DIRECTORY"
)

PIPELINES = ("StableDiffusionPipeline", "StableDiffusionXLPipeline")
"""Pipeline classes whose members are published as one file with text encoders and VAE."""

_PARTS = {
    "U-Net": ("model.diffusion_model.",),
    "VAE": ("first_stage_model.",),
    "text encoder": ("cond_stage_model.", "conditioner.embedders."),
}
"""Part → beginnings of the names of its tensors in the original layout."""

_NO_CHECKPOINT = (
    (("control_model.", "controlnet_"), "a ControlNet", "an audit gives no control image"),
    (("encoder.", "decoder.", "quant_conv."), "a VAE alone", "give the checkpoint of the whole pipeline"),
    (("down_blocks.", "up_blocks.", "mid_block."), "a U-Net of diffusers alone", "give the directory of its pipeline"),
    (
        (
            "double_blocks.",
            "joint_blocks.",
            "model.diffusion_model.double_blocks.",
            "model.diffusion_model.joint_blocks.",
        ),
        "a transformer (FLUX or Stable Diffusion 3)",
        "give the pipeline as a directory of diffusers",
    ),
    (("text_model.", "transformer.text_model."), "a text encoder alone", "give the checkpoint of the whole pipeline"),
    (("emb_params", "string_to_", "clip_l", "clip_g"), "a textual inversion", "give the checkpoint of a pipeline"),
)
"""Beginnings of names → what a file of such tensors is, and what to do."""

_NOT_SAMPLED = re.compile(
    r"model_ema\..+|betas|alphas_cumprod(_prev)?|sqrt_.+|log_one_minus_alphas_cumprod|posterior_.+|lvlb_weights|logvar"
    r"|scale_factor|denoiser\.(log_)?sigmas|v_pred|ztsnr|.+\.position_ids|.+\.logit_scale|.+\.attn_mask"
)
"""Tensors that no part is made of: schedules of the training, its moving averages, constants of text encoders."""


@dataclass(frozen=True)
class SingleFile:
    """A single-file checkpoint.

    Attributes:
        path: The file.
        tensors: Original name → shape.
    """

    path: Path
    tensors: Mapping[str, tuple[int, ...]]

    @classmethod
    def read(cls, path: Path) -> SingleFile:
        """Read the header of a checkpoint.

        Raises:
            UnfitModelError: It is no whole safetensors file, holds quantised numbers, or is something else, such as a
                LoRA or a VAE alone.
        """
        tensors = dict(header_of(path))
        _refuse_other_kinds(path, tensors)
        missing = [part for part, begins in _PARTS.items() if not any(name.startswith(begins) for name in tensors)]
        if missing:
            raise UnfitModelError(
                f"{path}: expected U-Net, VAE and text encoder in one file, found no {' and no '.join(missing)}; give "
                "the checkpoint of the whole pipeline"
            )
        return cls(path, tensors)

    def unread(self, used: frozenset[str]) -> tuple[str, ...]:
        """Return the tensors that no part is made from, but for those known to be left over from training."""
        return tuple(name for name in sorted(self.tensors) if name not in used and not _NOT_SAMPLED.fullmatch(name))

    def unlike_scheduler(self, scheduler: Mapping[str, object]) -> str | None:
        """Return why a scheduler is not the checkpoint's, from the marks ``v_pred`` and ``ztsnr``; None if unknown.

        Args:
            scheduler: Its config.
        """
        wanted = {"v_pred": ("prediction_type", "v_prediction"), "ztsnr": ("rescale_betas_zero_snr", True)}
        for mark, (key, value) in wanted.items():
            if mark in self.tensors and scheduler.get(key) != value:
                return (
                    f"scheduler/scheduler_config.json: expected {key} {value!r}, as the mark {mark} in "
                    f"{self.path.name} says, found {scheduler.get(key)!r}; give the configs of this model"
                )
        return None


def names_single_file(source: str) -> bool:
    """Return whether ``model.source`` names one file."""
    return source.endswith(SUFFIX)


def _refuse_other_kinds(path: Path, tensors: Mapping[str, object]) -> None:
    if any(map(is_lora_name, tensors)):
        raise UnfitModelError(
            f"{path}: expected the checkpoint of a whole pipeline, found a LoRA; name it under model.adapters, and its "
            "base model under model.source"
        )
    for begins, kind, remedy in _NO_CHECKPOINT:
        found = [name for name in tensors if name.startswith(begins)]
        if found:
            raise UnfitModelError(
                f"{path}: expected the checkpoint of a whole pipeline with its original names, found {kind} "
                f"({some(found)}); {remedy}"
            )
    known = tuple(begin for begins in _PARTS.values() for begin in begins)
    if not any(name.startswith(known) for name in tensors):
        found_names = some(sorted(tensors)) or "no tensor"
        raise UnfitModelError(
            f"{path}: expected the checkpoint of a Stable Diffusion pipeline, found {found_names}; give another file"
        )
