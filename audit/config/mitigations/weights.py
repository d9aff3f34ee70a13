"""Config sections of the methods that change weights of the denoiser."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from audit.config.fields import Fraction, GroupText, Text
from audit.config.mitigations.section import MitigationSection


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
    preserve: Annotated[tuple[Text, ...], Field(strict=False, max_length=1000)] = ()
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
