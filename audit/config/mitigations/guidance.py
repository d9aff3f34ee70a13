"""Config sections of the methods that change the predicted noise."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from audit.config.fields import GroupText
from audit.config.mitigations.section import MitigationSection


class FairDiffusionConfig(MitigationSection):
    """Fair Diffusion: guides the predicted noise towards the assigned group's text and away from the others'."""

    names_groups: ClassVar[bool] = True
    group_words: ClassVar[str | None] = "{group} person"
    needs_guidance: ClassVar[bool] = True

    method: Literal["fair_diffusion"]
    """How the model is edited: ``fair_diffusion``."""
    group_text: GroupText | None = None
    """Text that stands for a group, with ``{group}`` and optionally ``{a}`` and ``{occupation}``. If unset, it is the
    prompts' template with ``{group} person`` as the occupation; ``"{group} person"`` is the published text."""
    scale: Annotated[float, Field(ge=0, le=1000)] = 4.0
    """Scale of the guidance by each group's text; 0 changes nothing."""
    threshold: Annotated[float, Field(ge=0, lt=1)] = 0.95
    """Quantile of the guidance, by image and channel, below which it is set to 0."""
    warm_up: Annotated[int, Field(ge=0, le=1000)] = 5
    """Steps at the beginning that are not changed; momentum builds up meanwhile."""
    momentum: Annotated[float, Field(ge=0, le=10)] = 0.5
    """Scale of the momentum."""
    momentum_decay: Annotated[float, Field(ge=0, lt=1)] = 0.6
    """Share of the momentum that is kept in each step."""

    @property
    def used_alone(self) -> tuple[str, ...]:
        """The guidance."""
        return ("guidance by further texts",)

    @property
    def group_template(self) -> str | None:
        """The text that stands for a group."""
        return self.group_text

    def extra_calls(self, groups: int) -> int:
        """Return one call for two groups."""
        return math.ceil(groups / 2)
