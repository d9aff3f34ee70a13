"""Config sections of the methods that change what the model reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from audit.config.fields import GroupName, Text
from audit.config.mitigations.section import MitigationSection


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
    def fitted_by(self) -> Mapping[str, Any]:
        """Settings that determine the subspace."""
        return self.model_dump(mode="json", include={"method", "attribute", "dimensions"})
