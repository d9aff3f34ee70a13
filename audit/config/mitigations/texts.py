"""Config sections of the methods that change what the model reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from audit.config.fields import EachOnce, GroupName, ModulePath, Text, Window
from audit.config.mitigations.section import PROMPT_TEXT, MitigationSection, SearchableSection, SearchOrStrength


class PromptConfig(SearchableSection):
    """Prompt: names the group in the prompt. It is the control with which every edit of a network is compared."""

    names_groups: ClassVar[bool] = True
    edited_key: ClassVar[str] = "blocks"
    later: ClassVar[tuple[str, ...]] = ("blocks", "strength", "window")

    method: Literal["prompt"]
    """How the model is edited: ``prompt`` changes the prompts and leaves the network as it is."""
    words: dict[GroupName, Text] = Field({})
    """Word for each group, inserted before the occupation. A group without a word is named by its own name."""
    blocks: Annotated[tuple[ModulePath, ...], Field(strict=False, max_length=100), EachOnce] = ()
    """Blocks of the network whose cross-attention alone reads the caption that names the group, for example
    ``[up_blocks.0]``; ``difflens-audit locate`` finds them. If empty, the whole network reads it."""
    strength: SearchOrStrength = 1.0
    """How far the embeddings of the text go from the own prompt (0) to the caption that names the group (1). ``search``
    finds a strength for each prompt and group before the first image."""
    window: Window = (0.0, 1.0)
    """Part of the denoising steps at which the blocks read the caption, as fractions from first to last; it needs
    ``blocks``."""

    @property
    def changes_prompts_alone(self) -> bool:
        """Whether the whole network reads the caption as it is."""
        return not self.blocks and self.strength in (0, 1)

    @property
    def acting_window(self) -> tuple[float, float]:
        """The window, which is the whole one if the whole network reads the caption."""
        return self.window

    @property
    def used_alone(self) -> tuple[str, ...]:
        """The text of the whole prompt, or those of the blocks."""
        return tuple(f"the text of {block}" for block in self.blocks) or (PROMPT_TEXT,)

    @property
    def edited_modules(self) -> tuple[str, ...]:
        """The text that the blocks read."""
        return tuple(f"text:{block}" for block in self.blocks)

    def word_of(self, group: str) -> str | None:
        """Return the word for a group, None for its own name."""
        return self.words.get(group)

    def only_group(self, groups: Sequence[str]) -> str | None:
        """Return the group that every prompt of the arm names in full; None if prompts name several groups or none."""
        if not self.changes_prompts_alone or self.strength != 1 or self.if_needed is not None:
            return None
        return next((group for group, share in self.steered_shares(groups).items() if share == 1), None)


class FairPcaConfig(MitigationSection):
    """Fair PCA: projects the embeddings of the prompts on a subspace in which all groups have the same mean."""

    names_groups: ClassVar[bool] = True

    method: Literal["fair_pca"]
    """How the model is edited: ``fair_pca`` changes the embeddings of the prompts."""
    strength: Annotated[float, Field(ge=0, le=1000)] = 1.0
    """How much of the change is applied: 0 changes nothing, 1 projects completely."""
    dimensions: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Principal components that are kept. If unset, all are: only the differences between the groups are removed."""
    push: Annotated[float, Field(ge=0, le=1000)] = 1.0
    """How many times the assigned group's mean is added in the removed directions; 0 only removes."""

    @property
    def used_alone(self) -> tuple[str, ...]:
        """The text of the prompt."""
        return (PROMPT_TEXT,)

    @property
    def fitted_by(self) -> Mapping[str, Any]:
        """Settings that determine the subspace."""
        return self.model_dump(mode="json", include={"method", "attribute", "dimensions"})
