"""Config sections of the methods that change what the model reads."""

from __future__ import annotations

from typing import ClassVar, Literal

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
