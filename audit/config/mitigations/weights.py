"""Config sections of the methods that change weights of the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Field

from audit.config.fields import EachOnce, Fraction, GroupText, Text
from audit.config.mitigations.section import PROMPT_TEXT, MitigationSection


class UceConfig(MitigationSection):
    """UCE: changes the keys and values of all cross-attention in closed form, once for all prompts."""

    names_groups: ClassVar[bool] = True
    group_words: ClassVar[str | None] = "{group}"
    fit_uses_judge: ClassVar[bool] = True
    needs_cross_attention: ClassVar[bool] = True
    steers_images: ClassVar[bool] = False

    method: Literal["uce"]
    """How the model is edited: ``uce``."""
    group_text: GroupText | None = None
    """Text whose last token stands for a group, with ``{group}`` and optionally ``{a}`` and ``{occupation}``. If unset,
    the prompts' template with the group as the occupation; ``"{group}"`` is the published text."""
    strength: Annotated[float, Field(ge=0, le=1000)] = 1.0
    """How many times the fitted change of the weights is applied; 0 changes nothing."""
    tokens: Literal["last", "to_end"] = "last"
    """Tokens whose keys and values are changed: the last one of a text, or all from there on, with the padding."""
    regularisation: Annotated[float, Field(gt=0, le=1e6)] = 0.5
    """λ: how strongly the weights are kept for every other direction."""
    preserve: Annotated[tuple[Text, ...], Field(strict=False, max_length=1000), EachOnce] = ()
    """Texts whose keys and values are kept."""
    images_per_prompt: Annotated[int, Field(ge=2, le=100_000)] = 32
    """Images of each prompt in which the judge counts the groups, in each round."""
    rounds: Annotated[int, Field(ge=1, le=1000)] = 10
    """Most rounds of counting and changing."""
    tolerance: Fraction = 0.05
    """Difference of a share from the target that is accepted; a difference within its standard error always is."""
    gain: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """Change of a coefficient in a round for a difference of 1 between target and share. It is halved for a prompt
    whenever one of its differences changes sign."""

    @property
    def used_alone(self) -> tuple[str, ...]:
        """The weights."""
        return ("weights",)

    @property
    def group_template(self) -> str | None:
        """The text that stands for a group."""
        return self.group_text

    @property
    def fitted_by(self) -> Mapping[str, Any]:
        """Settings that determine the change; its strength does not matter."""
        return self.model_dump(mode="json", exclude={"name", "strength"})

    @property
    def fitted_images(self) -> int:
        """Most images of every prompt, over all rounds."""
        return self.images_per_prompt * self.rounds

    def fitted_images_of(self, groups: int) -> int:
        """Return the most images per prompt; they name no group."""
        return self.fitted_images


DENOISER: Final = "denoiser"
"""The network that predicts the noise: a U-Net or a transformer."""

Part = Literal["text_encoder", "denoiser", "unet"]


class FinetuningConfig(MitigationSection):
    """Finetuning: trains low-rank changes of the weights until the judge counts the target among the images."""

    fit_uses_judge: ClassVar[bool] = True
    judge_gradients: ClassVar[bool] = True
    follows_sampler: ClassVar[bool] = True
    needs_text_encoder: ClassVar[bool] = True
    steers_images: ClassVar[bool] = False

    method: Literal["finetuning"]
    """How the model is edited: ``finetuning``."""
    strength: Annotated[float, Field(ge=0, le=1000)] = 1.0
    """Factor of the trained change of the weights; 0 changes nothing."""
    networks: Annotated[tuple[Part, ...], Field(strict=False, min_length=1, max_length=2), EachOnce] = ("text_encoder",)
    """Networks whose attention is changed: ``text_encoder`` (every text encoder, CLIP or T5), ``denoiser`` (the U-Net
    or the transformer), or both. ``unet`` is the denoiser of a model that has a U-Net."""
    rank: Annotated[int, Field(ge=1, le=4096)] = 50
    """Rank of the change of each matrix (LoRA)."""
    steps: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    """Optimiser steps; the prompts take turns."""
    images_per_step: Annotated[int, Field(ge=2, le=4096)] = 24
    """Images of one prompt that are sampled for an optimiser step. Their groups are compared with the target."""
    noises: Annotated[int, Field(ge=2, le=100_000)] = 96
    """Noises of each prompt from which the images of a step are drawn. Their images without the change are made once,
    and those with the finished change are counted for the card."""
    sampler_steps: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Denoising steps of the images of the training. If unset, those of ``sampling``."""
    gradient_steps: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Denoising steps through which the gradient goes, drawn anew for each optimiser step. If unset, all."""
    learning_rate: Annotated[float, Field(gt=0, le=10)] = 5e-5
    """Adam's step size."""
    uncertainty: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """An image whose assigned group has a smaller probability than 1 minus this is left out of the alignment loss."""
    clip_weight: Annotated[float, Field(ge=0, le=1000)] = 8.0
    """Weight of 1 minus the cosine of the CLIP embeddings with and without the change."""
    dino_weight: Annotated[float, Field(ge=0, le=1000)] | None = None
    """The same for DINOv2. If unset, 8 where ``quality.dino`` names weights, else 0."""
    flip_factor: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Factor of both weights for an image that must change its group."""
    images_at_once: Annotated[int, Field(ge=1, le=4096)] = 8
    """Images that pass a network at once with gradients; fewer need less memory."""

    @property
    def trained_with(self) -> tuple[str, ...]:
        """The networks whose term of the loss has a weight."""
        return (*["clip"] * (self.clip_weight > 0), *["dino"] * (self.dino_weight is None or self.dino_weight > 0))

    @property
    def changes_text(self) -> bool:
        """Whether the text encoders are changed."""
        return "text_encoder" in self.networks

    @property
    def changes_denoiser(self) -> bool:
        """Whether the denoiser is changed."""
        return bool({DENOISER, "unet"} & {*self.networks})

    @property
    def hooks_inside_blocks(self) -> bool:
        """Whether layers of the denoiser are changed: the training adds the change to what they return."""
        return self.changes_denoiser

    def most_certain(self, groups: Sequence[str]) -> float:
        """Return the largest probability that a batch can give an image's assigned group.

        The image that shows a group of share t most clearly is assigned to it if any of N draws is of this group, which
        has the probability 1 − (1 − t)ᴺ.
        """
        return 1 - (1 - max(self.steered_shares(groups).values())) ** self.images_per_step

    @property
    def used_alone(self) -> tuple[str, ...]:
        """The weights of the denoiser, the text of the prompt, or both."""
        return (*["weights"] * self.changes_denoiser, *[PROMPT_TEXT] * self.changes_text)

    @property
    def fitted_by(self) -> Mapping[str, Any]:
        """Settings that determine the change; its strength does not matter."""
        return self.model_dump(mode="json", exclude={"name", "strength"})

    @property
    def fitted_images(self) -> int:
        """Images of every prompt: one for each noise, without the change and with it."""
        return 2 * self.noises

    def fitted_images_of(self, groups: int) -> int:
        """Return the images per prompt beside those of the optimiser steps; they name no group."""
        return self.fitted_images

    @property
    def trained_images(self) -> int:
        """Images of all optimiser steps."""
        return self.steps * self.images_per_step

    def training_steps(self, denoising_steps: int) -> int:
        """Return the optimiser steps."""
        return self.steps

    def gradient_passes(self, denoising_steps: int, *, guided: bool) -> int:
        """Return how often an image passes the denoiser with gradients in the whole training.

        With guidance, a change of the denoiser also acts on the half that reads the empty prompt.
        """
        steps, halves = self.sampler_steps or denoising_steps, 2 if guided and self.changes_denoiser else 1
        return halves * self.trained_images * min(self.gradient_steps or steps, steps)
