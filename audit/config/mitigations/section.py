"""Keys that the sections of several methods share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Discriminator, Field, Tag

from audit.config.fields import FileName, GrowingSection, Text, UniformOrShares, Window, word_or_other
from audit.config.mitigations.if_needed import IfNeededConfig
from audit.config.problems import Location
from audit.config.shares import normalised

PROMPT_TEXT: Final = "the text of the prompt"
"""What methods change that act on the embeddings of the whole prompt."""


CROSS_ATTENTION: Final = "layers"
"""Key that names modules whose cross-attention is edited."""


def chosen_by_method(place: Location) -> bool:
    """Return whether a module is a method's own choice: its place in the config is the key, without a number."""
    return place[-1] == CROSS_ATTENTION


class MitigationSection(GrowingSection):
    """Keys that every intervention has; its name is the name of an arm."""

    uses_lens: ClassVar[bool] = False
    """Whether the method edits the model through its lens."""

    names_groups: ClassVar[bool] = False
    """Whether the method uses texts that name a group."""

    group_words: ClassVar[str | None] = None
    """What stands in place of the occupation in a text that names a group alone; None if prompts name the groups."""

    fit_uses_judge: ClassVar[bool] = False
    """Whether the fit looks at images with the judge of the audit."""

    judge_gradients: ClassVar[bool] = False
    """Whether the fit asks the judge for gradients to the pictures."""

    needs_guidance: ClassVar[bool] = False
    """Whether the method works only with classifier-free guidance in one batch."""

    needs_cross_attention: ClassVar[bool] = False
    """Whether the method changes cross-attention that reads the text's embeddings, as a U-Net or PixArt has."""

    needs_text_encoder: ClassVar[bool] = False
    """Whether the method works only with a model that reads prompts."""

    edited_key: ClassVar[str] = "hookpoints"
    """Key that names the places that are edited."""

    follows_sampler: ClassVar[bool] = False
    """Whether the training follows images through the sampler's steps, one call of the denoiser in each."""

    steers_images: ClassVar[bool] = True
    """Whether the method steers each image to a group of its own."""

    later: ClassVar[tuple[str, ...]] = ("if_needed",)

    name: FileName
    """Name of the arm, used in file names."""
    attribute: Text
    """The attribute to balance."""
    target: UniformOrShares = "uniform"
    """Shares of the groups that images are steered to. ``targets`` sets the shares that results are compared with."""

    if_needed: IfNeededConfig | None = None
    """Whether each image is looked at first, and changed only if it has to be; ``{}`` does so with the defaults. If
    unset, every image gets the intervention."""

    @property
    def trained_with(self) -> tuple[str, ...]:
        """Networks beside the model that the training uses.

        These are ``clip``, ``outside`` for the segmenter of ``quality.outside``, and ``dino`` where a config names it.
        """
        return ()

    def steered_shares(self, groups: Sequence[str]) -> dict[str, float]:
        """Return the share of images that is steered to each group of the attribute."""
        if isinstance(self.target, str):
            return dict.fromkeys(groups, 1 / len(groups))
        return dict(zip(groups, normalised(self.target, groups), strict=True))

    @property
    def used_alone(self) -> tuple[str, ...]:
        """What the method changes and no second method can change at the same time, in words."""
        return ()

    def word_of(self, group: str) -> str | None:
        """Return the word that the config sets for a group in prompts, None for the default word."""
        return None

    @property
    def group_template(self) -> str | None:
        """Text that the config sets for a group, with ``{group}``; None for the prompts' template."""
        return None

    @property
    def searches_strength(self) -> bool:
        """Whether a strength is found for each prompt and group before the first image."""
        return False

    @property
    def acting_window(self) -> tuple[float, float]:
        """Part of the denoising steps at which the method acts; in the steps before it, the arm is the baseline."""
        return 0.0, 1.0

    @property
    def changes_prompts_alone(self) -> bool:
        """Whether the method gives the model another prompt and reaches nothing inside it."""
        return False

    @property
    def edited_modules(self) -> tuple[str, ...]:
        """Places of the network that the config names for editing, in their written form; empty if it names none."""
        return ()

    @property
    def own_module(self) -> str | None:
        """Module in which the method finds the places that it edits, where the config names none; else None."""
        return None

    @property
    def hooks_inside_blocks(self) -> bool:
        """Whether the method reads or edits modules inside the repeated blocks that ``model.compile`` compiles."""
        return False

    @property
    def fitted_by(self) -> Mapping[str, Any] | None:
        """Settings that determine the fit, apart from model, prompts and sampling; None if nothing is fitted."""
        return None

    @property
    def fitted_images(self) -> int:
        """Images per prompt and group that the fit uses; 0 if nothing is fitted."""
        return 0

    def fitted_images_of(self, groups: int) -> int:
        """Return the most images per prompt that the fit uses, given the number of groups."""
        return groups * self.fitted_images

    @property
    def trained_images(self) -> int:
        """Images that the steps of the training sample, over all prompts."""
        return 0

    def gradient_passes(self, denoising_steps: int, *, guided: bool) -> int:
        """Return how often an image passes the denoiser with gradients in a training that samples its images.

        Args:
            denoising_steps: Those of an image.
            guided: Whether the denoiser also reads the empty prompt.
        """
        return 0

    def extra_calls(self, groups: int) -> int:
        """Return the calls of the denoiser in each step beside the usual one, given the number of groups."""
        return 0

    def training_steps(self, denoising_steps: int) -> int:
        """Return the optimiser steps of the training; 0 if the fit takes none."""
        return 0


class EditSection(MitigationSection):
    """Keys of an intervention that edits the feature maps of the network during sampling."""

    window: Window = (0.0, 1.0)
    """Part of the denoising steps that is edited, as fractions from first to last."""
    reverse_step: Literal["symmetric", "asymmetric"] = "symmetric"
    """Whether the edit acts on both terms of the DDIM step or on the predicted image alone (Asyrp)."""

    @property
    def acting_window(self) -> tuple[float, float]:
        """The window."""
        return self.window


PROJECTION_IMAGES = 8
"""Images of each prompt from which the principal components of a projection are computed."""


class ProjectableEdit(EditSection):
    """Keys of an edit that adds to feature maps, whose change can be projected."""

    later: ClassVar[tuple[str, ...]] = ("project",)

    project: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of the variance of unedited activations, such as 0.95: the change of a map keeps only its part in the
    leading principal components of the channels that explain this share. If unset, the change is not projected."""

    @property
    def projected_by(self) -> dict[str, Any]:
        """What the fit of the projection depends on: nothing but that there is one, since all components are stored."""
        return {} if self.project is None else {"project": True}

    def fitted_images_of(self, groups: int) -> int:
        """Return the images of the method's own fit and those of the projection."""
        return super().fitted_images_of(groups) + (0 if self.project is None else PROJECTION_IMAGES)


SEARCH: Final = "search"
"""Value of ``strength`` with which a strength is searched for each prompt and group."""

Strength = Annotated[float, Field(ge=0, le=1000)]
SearchOrStrength = Annotated[
    Annotated[Literal["search"], Tag("word")] | Annotated[Strength, Tag("other")], Discriminator(word_or_other)
]


class SearchableSection(MitigationSection):
    """Keys of an intervention whose strength can be searched, prompt by prompt."""

    later: ClassVar[tuple[str, ...]] = ("trial_images", "side_effect_budget")

    strength: SearchOrStrength = 1.0
    """Strength of the edit; 0 changes nothing. ``search`` finds a strength for each prompt and group before the first
    image: it edits ``trial_images`` with rising strength until they show the group, or until side effects grow faster
    than the effect."""
    trial_images: int = Field(12, ge=1, le=100_000)
    """Held-out images per prompt, group and strength in the search. The noise is not used by the audit."""
    side_effect_budget: float = Field(1.0, gt=0, le=100)
    """Images that may change in another attribute (or lose their face) for each image that an edit moves to its
    assigned group. The search uses a stronger edit only within this budget."""

    @property
    def searches_strength(self) -> bool:
        """Whether the config asks for a search."""
        return self.strength == SEARCH


class SearchableEdit(EditSection, SearchableSection):
    """Keys of an edit of feature maps whose strength can be searched."""
