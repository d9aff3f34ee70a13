"""Config sections of the interventions: one for each method; the key ``method`` selects it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag

from audit.config.fields import FileName, GroupName, Section, Text, UniformOrShares, Window

METHOD_TAG = "method:"
"""What begins the tag of a method's section in an error of pydantic: no key of a config begins so."""


class MitigationSection(Section):
    """What every intervention says; its name is the name of an arm."""

    uses_lens: ClassVar[bool] = False
    """Whether the method edits the model through its lens."""

    names_groups: ClassVar[bool] = False
    """Whether the model is given prompts that name a group."""

    name: FileName
    """Name of the arm, used in file names."""
    attribute: Text
    """The attribute to balance."""
    target: UniformOrShares = "uniform"
    """Shares of the groups that images are steered to. ``targets`` sets the shares that results are compared with."""

    def word_of(self, group: str) -> str | None:
        """Return what names a group in a prompt where the config says so, None for what usually does."""
        return None

    @property
    def searches_strength(self) -> bool:
        """Whether the strength of each prompt's edit is found with the lens."""
        return False

    @property
    def edited_modules(self) -> tuple[str, ...]:
        """Modules of the network that the config names for editing; empty where it names none."""
        return ()

    @property
    def fitted_by(self) -> Mapping[str, Any] | None:
        """What decides the fit beside model, prompts and sampling, as plain data; None where nothing is fitted."""
        return None

    @property
    def fitted_images(self) -> int:
        """Images that the fit takes of every prompt and group; 0 where nothing is fitted."""
        return 0


class EditSection(MitigationSection):
    """What an intervention says that edits the maps of the network while it samples."""

    window: Window = (0.0, 1.0)
    """Part of the denoising steps that is edited, as fractions from first to last."""
    reverse_step: Literal["symmetric", "asymmetric"] = "symmetric"
    """Whether the edit acts on both terms of the DDIM step or on the predicted image alone (Asyrp)."""


class DiffLensConfig(EditSection):
    """DiffLens: the model's own bias features, found by a sparse autoencoder, are added to or scaled."""

    uses_lens: ClassVar[bool] = True

    method: Literal["difflens"] = "difflens"
    """How the model is edited: ``difflens``."""
    edit: Literal["add", "scale"] = "add"
    """Add to the bias features, or multiply them (which does nothing where a feature does not fire)."""
    strength: Annotated[float, Field(ge=0, le=1000)] | None = None
    """One strength for all prompts; nothing means per prompt, as found by the lens."""

    @property
    def searches_strength(self) -> bool:
        """Whether the strength of each prompt's edit is found with the lens."""
        return self.strength is None

    @property
    def is_as_searched(self) -> bool:
        """Whether the edit is of the kind whose strengths a lens holds."""
        return (self.edit, self.reverse_step, self.window) == ("add", "symmetric", (0.0, 1.0))


class PromptConfig(MitigationSection):
    """Prompt: the group is named in the prompt. The control that every edit of a network is compared with."""

    names_groups: ClassVar[bool] = True

    method: Literal["prompt"]
    """How the model is edited: ``prompt`` changes the prompts and leaves the network as it is."""
    words: dict[GroupName, Text] = Field({})
    """What names a group in the prompt, before the occupation; the group's own name unless it says otherwise."""

    def word_of(self, group: str) -> str | None:
        """Return the word of a group, None for its own name."""
        return self.words.get(group)


class MeanDifferenceConfig(EditSection):
    """Mean difference: what naming a group changes in a map on average, by step, is added to the map."""

    names_groups: ClassVar[bool] = True

    method: Literal["mean_difference"]
    """How the model is edited: ``mean_difference``."""
    strength: Annotated[float, Field(ge=0, le=1000)] = 1.0
    """How many times the mean difference is added."""
    hookpoints: Annotated[tuple[Text, ...], Field(strict=False, min_length=1, max_length=100)] = ("mid_block",)
    """Modules of the network whose output is edited, all of them at once."""
    images_per_group: Annotated[int, Field(ge=1, le=100_000)] = 8
    """Images of every prompt and group that the means are taken over."""

    @property
    def edited_modules(self) -> tuple[str, ...]:
        """The hookpoints."""
        return self.hookpoints

    @property
    def fitted_by(self) -> Mapping[str, Any]:
        """What decides the directions; how they are applied is free."""
        return self.model_dump(mode="json", include={"method", "attribute", "hookpoints", "images_per_group"})

    @property
    def fitted_images(self) -> int:
        """Images of every prompt and group."""
        return self.images_per_group


def _tag(value: object) -> str:
    """Return which method a mitigation names, as the tag of its section; DiffLens where it names none."""
    method: Any = value.get("method", "difflens") if isinstance(value, dict) else getattr(value, "method", "difflens")
    return f"{METHOD_TAG}{method}"


MitigationConfig = Annotated[
    Annotated[DiffLensConfig, Tag(_tag({"method": "difflens"}))]
    | Annotated[PromptConfig, Tag(_tag({"method": "prompt"}))]
    | Annotated[MeanDifferenceConfig, Tag(_tag({"method": "mean_difference"}))],
    Discriminator(_tag),
]
"""One intervention."""
