"""Config sections of the methods that edit feature maps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from audit.config.fields import EachOnce, PlaceText
from audit.config.mitigations.section import EditSection, ProjectableEdit, SearchableEdit, Strength


class DiffLensConfig(ProjectableEdit):
    """DiffLens: adds to the model's own bias features, found by a sparse autoencoder, or scales them."""

    uses_lens: ClassVar[bool] = True
    later: ClassVar[tuple[str, ...]] = ("others",)

    method: Literal["difflens"] = "difflens"
    """How the model is edited: ``difflens``."""
    edit: Literal["add", "scale", "contrast"] = "add"
    """``add`` adds the group's mean activation to its features, ``scale`` multiplies them (which has no effect on
    inactive features), ``contrast`` adds what distinguishes the group from the others in the features of all groups."""
    others: Literal["lowered", "unchanged"] = "lowered"
    """Features of the other groups: ``lowered`` towards zero as the strength grows, or ``unchanged``, as Eq. 7 of the
    paper has it for all features that are not the group's. Without effect on ``contrast``, which edits all of them."""
    strength: Strength | None = None
    """One strength for all prompts. If unset, the lens finds a strength for each prompt."""

    @property
    def searches_strength(self) -> bool:
        """Whether the strength of each prompt's edit is found with the lens."""
        return self.strength is None

    def is_as_searched(self, edit: str) -> bool:
        """Whether a lens that searched strengths of a kind of edit has strengths for this one."""
        as_searched = (edit, "symmetric", (0.0, 1.0), "lowered", None)
        return (self.edit, self.reverse_step, self.window, self.others, self.project) == as_searched

    @property
    def fitted_by(self) -> Mapping[str, Any] | None:
        """The method, if its change is projected; only the projection is fitted."""
        return {"method": self.method, **self.projected_by} if self.project is not None else None


class FeatureControlConfig(ProjectableEdit):
    """Feature control: the DiffLens edit with latents that attribution did not choose."""

    uses_lens: ClassVar[bool] = True
    names_groups: ClassVar[bool] = True

    method: Literal["feature_control"]
    """How the model is edited: ``feature_control``."""
    choice: Literal["random", "activation", "firing_difference"] = "random"
    """Latents of a group: random ones, those with the largest mean activation for it, or those whose mean activation
    exceeds that of the other groups most."""
    strength: Annotated[float, Field(ge=0, le=1000)] = 1.0
    """Strength of the edit; 0 changes nothing."""
    features_per_group: Annotated[int, Field(ge=1, le=100_000)] = 30
    """Latents for each group."""
    equal_norm: bool = True
    """Whether the change of each map has the norm that the change by the attributed features would have."""
    images_per_group: Annotated[int, Field(ge=1, le=100_000)] = 8
    """Images per prompt and group from which the mean activations are computed."""

    @property
    def fitted_by(self) -> Mapping[str, Any]:
        """Settings that determine the latents and their mean activations."""
        included = {"method", "attribute", "choice", "features_per_group", "images_per_group"}
        return self.model_dump(mode="json", include=included) | self.projected_by

    @property
    def fitted_images(self) -> int:
        """Images of every prompt and group, in both rounds."""
        return 2 * self.images_per_group


class GatedCrossAttentionConfig(EditSection):
    """Gated cross-attention: removes the groups' directions from the outputs of cross-attention and adds one back."""

    names_groups: ClassVar[bool] = True
    needs_cross_attention: ClassVar[bool] = True

    method: Literal["gated_cross_attention"]
    """How the model is edited: ``gated_cross_attention``."""
    strength: Annotated[float, Field(ge=0, le=1000)] = 1.0
    """How much of the change is applied; 0 changes nothing."""
    push: Annotated[float, Field(ge=0, le=1000)] = 1.0
    """How many times the assigned group's mean response is added back."""
    gate: bool = True
    """Whether images whose prompt seems to name a group stay as they are."""
    keep_length: bool = True
    """Whether every output keeps its length."""
    images_per_group: Annotated[int, Field(ge=1, le=100_000)] = 4
    """Images per prompt and group, and of the prompt itself, in each of two rounds."""

    @property
    def hooks_inside_blocks(self) -> bool:
        """Yes, the modules of cross-attention."""
        return True

    @property
    def fitted_by(self) -> Mapping[str, Any]:
        """Settings that determine directions and thresholds."""
        return self.model_dump(mode="json", include={"method", "attribute", "images_per_group"})

    def fitted_images_of(self, groups: int) -> int:
        """Return the images per prompt: those of the groups and of the prompt itself, in both rounds."""
        return 2 * (groups + 1) * self.images_per_group


class MeanDifferenceConfig(ProjectableEdit, SearchableEdit):
    """Mean difference: adds to a feature map, at each step, the mean change that naming a group causes in it."""

    names_groups: ClassVar[bool] = True

    method: Literal["mean_difference"]
    """How the model is edited: ``mean_difference``."""
    hookpoints: Annotated[tuple[PlaceText, ...], Field(strict=False, min_length=1, max_length=100), EachOnce] = (
        "mid_block",
    )
    """Places of the network that are edited, all at once: modules, whose outputs are meant, or other places of a
    location map such as ``skips:down_blocks.0``."""
    images_per_group: Annotated[int, Field(ge=1, le=100_000)] = 8
    """Images per prompt and group from which the means are computed."""

    @property
    def edited_modules(self) -> tuple[str, ...]:
        """The hookpoints."""
        return self.hookpoints

    @property
    def fitted_by(self) -> Mapping[str, Any]:
        """Settings that determine the directions; how they are applied does not matter."""
        own = self.model_dump(mode="json", include={"method", "attribute", "hookpoints", "images_per_group"})
        return own | self.projected_by

    @property
    def fitted_images(self) -> int:
        """Images of every prompt and group."""
        return self.images_per_group
