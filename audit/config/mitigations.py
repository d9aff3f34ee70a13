"""Config sections of the interventions: one for each method; the key ``method`` selects it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag

from audit.config.fields import FileName, GroupName, Section, Text, UniformOrShares, Window

METHOD_TAG = "method:"
"""Prefix of the tag of a method's section in pydantic's errors; no key of a config starts with it."""


class MitigationSection(Section):
    """Keys that every intervention has; its name is the name of an arm."""

    uses_lens: ClassVar[bool] = False
    """Whether the method edits the model through its lens."""

    names_groups: ClassVar[bool] = False
    """Whether the method uses prompts that name a group."""

    name: FileName
    """Name of the arm, used in file names."""
    attribute: Text
    """The attribute to balance."""
    target: UniformOrShares = "uniform"
    """Shares of the groups that images are steered to. ``targets`` sets the shares that results are compared with."""

    def word_of(self, group: str) -> str | None:
        """Return the word that the config sets for a group in prompts, None for the default word."""
        return None

    @property
    def searches_strength(self) -> bool:
        """Whether the strength of each prompt's edit is found with the lens."""
        return False

    @property
    def edited_modules(self) -> tuple[str, ...]:
        """Modules of the network that the config names for editing; empty if it names none."""
        return ()

    @property
    def fitted_by(self) -> Mapping[str, Any] | None:
        """Settings that determine the fit, apart from model, prompts and sampling; None if nothing is fitted."""
        return None

    @property
    def fitted_images(self) -> int:
        """Images per prompt and group that the fit uses; 0 if nothing is fitted."""
        return 0


class EditSection(MitigationSection):
    """Keys of an intervention that edits the feature maps of the network during sampling."""

    window: Window = (0.0, 1.0)
    """Part of the denoising steps that is edited, as fractions from first to last."""
    reverse_step: Literal["symmetric", "asymmetric"] = "symmetric"
    """Whether the edit acts on both terms of the DDIM step or on the predicted image alone (Asyrp)."""


class DiffLensConfig(EditSection):
    """DiffLens: adds to the model's own bias features, found by a sparse autoencoder, or scales them."""

    uses_lens: ClassVar[bool] = True

    method: Literal["difflens"] = "difflens"
    """How the model is edited: ``difflens``."""
    edit: Literal["add", "scale"] = "add"
    """Add to the bias features, or multiply them (which has no effect on inactive features)."""
    strength: Annotated[float, Field(ge=0, le=1000)] | None = None
    """One strength for all prompts. If unset, the lens finds a strength for each prompt."""

    @property
    def searches_strength(self) -> bool:
        """Whether the strength of each prompt's edit is found with the lens."""
        return self.strength is None

    @property
    def is_as_searched(self) -> bool:
        """Whether a lens has strengths for this kind of edit."""
        return (self.edit, self.reverse_step, self.window) == ("add", "symmetric", (0.0, 1.0))


class PromptConfig(MitigationSection):
    """Prompt: names the group in the prompt. It is the control with which every edit of a network is compared."""

    names_groups: ClassVar[bool] = True

    method: Literal["prompt"]
    """How the model is edited: ``prompt`` changes the prompts and leaves the network as it is."""
    words: dict[GroupName, Text] = Field({})
    """Word for each group, inserted before the occupation. A group without a word is named by its own name."""

    def word_of(self, group: str) -> str | None:
        """Return the word for a group, None for its own name."""
        return self.words.get(group)


class MeanDifferenceConfig(EditSection):
    """Mean difference: adds to a feature map, at each step, the mean change that naming a group causes in it."""

    names_groups: ClassVar[bool] = True

    method: Literal["mean_difference"]
    """How the model is edited: ``mean_difference``."""
    strength: Annotated[float, Field(ge=0, le=1000)] = 1.0
    """How many times the mean difference is added."""
    hookpoints: Annotated[tuple[Text, ...], Field(strict=False, min_length=1, max_length=100)] = ("mid_block",)
    """Modules of the network whose outputs are edited, all at once."""
    images_per_group: Annotated[int, Field(ge=1, le=100_000)] = 8
    """Images per prompt and group from which the means are computed."""

    @property
    def edited_modules(self) -> tuple[str, ...]:
        """The hookpoints."""
        return self.hookpoints

    @property
    def fitted_by(self) -> Mapping[str, Any]:
        """Settings that determine the directions; how they are applied does not matter."""
        return self.model_dump(mode="json", include={"method", "attribute", "hookpoints", "images_per_group"})

    @property
    def fitted_images(self) -> int:
        """Images of every prompt and group."""
        return self.images_per_group


def _tag(value: object) -> str:
    """Return the tag of a mitigation's section: its method, or DiffLens if it names none."""
    method: Any = value.get("method", "difflens") if isinstance(value, dict) else getattr(value, "method", "difflens")
    return f"{METHOD_TAG}{method}"


MitigationConfig = Annotated[
    Annotated[DiffLensConfig, Tag(_tag({"method": "difflens"}))]
    | Annotated[PromptConfig, Tag(_tag({"method": "prompt"}))]
    | Annotated[MeanDifferenceConfig, Tag(_tag({"method": "mean_difference"}))],
    Discriminator(_tag),
]
"""One intervention."""
