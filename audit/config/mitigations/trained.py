"""Config sections of the methods that are trained before the first image."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from audit.config.fields import EachOnce, ModulePath, Text, Window
from audit.config.mitigations.section import CROSS_ATTENTION, EditSection

Hookpoints = Annotated[tuple[Text, ...], Field(strict=False, min_length=1, max_length=100), EachOnce]
Rate = Annotated[float, Field(gt=0, le=10)]


class _FittedEdit(EditSection):
    """Keys of an edit of feature maps that is fitted on images of its own."""

    names_groups: ClassVar[bool] = True
    decisive: ClassVar[frozenset[str]]
    """Keys that determine the fit; how it is applied does not matter."""

    strength: Annotated[float, Field(ge=0, le=100_000)] = 1.0
    """Factor of the edit; 0 changes nothing."""
    hookpoints: Hookpoints = ("mid_block",)
    """Modules of the network whose outputs are edited, all at once."""
    images_per_group: Annotated[int, Field(ge=1, le=100_000)] = 8
    """Images per prompt and group that are sampled for the fit."""

    @property
    def edited_modules(self) -> tuple[str, ...]:
        """The hookpoints."""
        return self.hookpoints

    @property
    def fitted_by(self) -> Mapping[str, Any]:
        """The decisive settings."""
        return self.model_dump(mode="json", include={"method", "attribute", *self.decisive})

    @property
    def fitted_images(self) -> int:
        """Images of every prompt and group."""
        return self.images_per_group


class LatentDirectionConfig(_FittedEdit):
    """Latent Direction: adds a vector per group that was trained to turn the prompt into the group's images."""

    decisive: ClassVar[frozenset[str]] = frozenset(
        {"hookpoints", "images_per_group", "steps", "batch", "learning_rate"}
    )

    method: Literal["latent_direction"]
    """How the model is edited: ``latent_direction``."""
    steps: Annotated[int, Field(ge=1, le=1_000_000)] = 500
    """Optimiser steps of the training."""
    batch: Annotated[int, Field(ge=1, le=4096)] = 8
    """Images per optimiser step; the groups take turns."""
    learning_rate: Rate = 0.1
    """Adam's step size."""
    centred: bool = False
    """Whether the mean of all groups' vectors, what they have in common, is taken off each; not in the paper."""

    def training_steps(self, denoising_steps: int) -> int:
        """Return the optimiser steps."""
        return self.steps


class HDistributionConfig(_FittedEdit):
    """H-Distribution: moves each image's map along the gradient of a classifier of the map, towards its group."""

    decisive: ClassVar[frozenset[str]] = frozenset({"hookpoints", "images_per_group"})

    method: Literal["h_distribution"]
    """How the model is edited: ``h_distribution``."""
    strength: Annotated[float, Field(ge=0, le=100_000)] = 10_000.0
    """γ, the size of the step along the gradient; 0 changes nothing."""
    temperature: Annotated[float, Field(gt=0, le=1000)] = 8.0
    """T of the softmax of the classifier."""


class LatentEditingConfig(_FittedEdit):
    """Latent Editing (Asyrp): adds what a small trained network makes of the map and the timestep, one per group."""

    decisive: ClassVar[frozenset[str]] = frozenset(
        {
            "hookpoints", "images_per_group", "window", "passes", "batch", "learning_rate", "clip_weight",
            "reconstruction_weight",
        }
    )  # fmt: skip
    follows_sampler: ClassVar[bool] = True

    method: Literal["latent_editing"]
    """How the model is edited: ``latent_editing``."""
    window: Window = (0.0, 0.5)
    """Part of the denoising steps that is edited, as fractions from first to last; the training follows it."""
    reverse_step: Literal["symmetric", "asymmetric"] = "asymmetric"
    """Whether the edit acts on both terms of the DDIM step or on the predicted image alone, as in the paper."""
    hookpoints: Annotated[tuple[Text, ...], Field(strict=False, min_length=1, max_length=1)] = ("mid_block",)
    """The module of the network whose output is edited."""
    images_per_group: Annotated[int, Field(ge=1, le=100_000)] = 4
    """Images per prompt and group that are sampled for the training, without the group in the prompt."""
    passes: Annotated[int, Field(ge=1, le=100_000)] = 20
    """Batches of images that are followed through all steps of the window; each step is one optimiser step."""
    batch: Annotated[int, Field(ge=1, le=4096)] = 8
    """Images of a pass; the groups take turns."""
    learning_rate: Rate = 0.001
    """Adam's step size."""
    clip_weight: Annotated[float, Field(ge=0, le=1000)] = 1.0
    """Weight of the directional CLIP loss."""
    reconstruction_weight: Annotated[float, Field(ge=0, le=1000)] = 3.0
    """Weight of the mean absolute change of the pictures."""

    @property
    def trained_with(self) -> tuple[str, ...]:
        """CLIP."""
        return ("clip",)

    def training_steps(self, denoising_steps: int) -> int:
        """Return one step for each pass and denoising step of the window."""
        first, last = (edge * denoising_steps for edge in self.window)
        return self.passes * (math.ceil(last) - math.floor(first))


class EntanglementFreeAttentionConfig(EditSection):
    """Entanglement-free attention: cross-attention with a value for each group, which a trained network weights."""

    names_groups: ClassVar[bool] = True
    needs_cross_attention: ClassVar[bool] = True
    needs_text_encoder: ClassVar[bool] = True
    edited_key: ClassVar[str] = CROSS_ATTENTION
    decisive: ClassVar[frozenset[str]] = frozenset(
        {
            "layers", "images_per_group", "steps", "batch", "learning_rate", "present_weight", "outside_weight",
            "width",
        }
    )  # fmt: skip

    method: Literal["entanglement_free_attention"]
    """How the model is edited: ``entanglement_free_attention``."""
    strength: Annotated[float, Field(ge=0, le=1000)] = 1.0
    """How much of the change of each attention is applied; 0 changes nothing."""
    layers: Annotated[tuple[ModulePath, ...], Field(strict=False, max_length=100), EachOnce] = ()
    """Modules whose cross-attention is extended, for example ``[mid_block, up_blocks.0]``. If empty, the first block
    of a U-Net's decoder that has cross-attention, as in the paper. A transformer has no decoder: its modules must be
    named, for example ``[transformer_blocks.1]``."""
    images_per_group: Annotated[int, Field(ge=1, le=100_000)] = 8
    """Images per prompt and group that are sampled for the training, with the group named."""
    steps: Annotated[int, Field(ge=1, le=1_000_000)] = 500
    """Optimiser steps of the training."""
    batch: Annotated[int, Field(ge=1, le=4096)] = 8
    """Images per optimiser step; the groups take turns. Each is called twice, with its own group named and another."""
    learning_rate: Rate = 0.001
    """Adam's step size."""
    present_weight: Annotated[float, Field(ge=0, le=1000)] = 0.01
    """λ₁, weight of the attention to a group in images whose prompt names it."""
    outside_weight: Annotated[float, Field(ge=0, le=1000)] = 0.01
    """λ₂, weight of the attention to a group outside the parts that may change."""
    width: Annotated[int, Field(ge=1, le=4096)] = 64
    """Channels inside the network that predicts attention."""

    @property
    def edited_modules(self) -> tuple[str, ...]:
        """The layers."""
        return self.layers

    @property
    def own_module(self) -> str | None:
        """The decoder, if no layers are named."""
        return None if self.layers else "up_blocks"

    @property
    def hooks_inside_blocks(self) -> bool:
        """Yes, the modules of cross-attention."""
        return True

    @property
    def trained_with(self) -> tuple[str, ...]:
        """The segmenter of ``quality.outside``."""
        return ("outside",)

    @property
    def fitted_by(self) -> Mapping[str, Any]:
        """The decisive settings."""
        return self.model_dump(mode="json", include={"method", "attribute", *self.decisive})

    @property
    def fitted_images(self) -> int:
        """Images of every prompt and group."""
        return self.images_per_group

    def training_steps(self, denoising_steps: int) -> int:
        """Return the optimiser steps."""
        return self.steps
