"""What is tried in which window of steps, on which images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from audit.config.optional.segmenters import SegmenterConfig
from audit.config.sections import ModelConfig, QualityConfig
from audit.records.work import Prompt

Kind = Literal["spatial", "global"]

_NAMED = (
    "role", "dictionaries_name", "block", "quality_name", "template", "neutral", "images", "batch", "features",
)  # fmt: skip
"""Fields that determine a part as they are."""


@dataclass(frozen=True)
class Arm:
    """One edit.

    Attributes:
        kind: ``spatial`` or ``global``.
        concept: A part, or ``attribute: group``.
        stage: Window of steps.
        strength: β.
    """

    kind: Kind
    concept: str
    stage: str
    strength: float

    @property
    def id(self) -> str:
        """Name in a part."""
        return f"{self.kind}.{self.concept}.{self.stage}.{self.strength:.15g}"


@dataclass(frozen=True)
class AskedGroup:
    """What a global edit asks for.

    Attributes:
        attribute: The attribute.
        code: Number of the group among those of the attribute.
        phrase: How a prompt names it.
    """

    attribute: str
    code: int
    phrase: str


@dataclass(frozen=True)
class TrialsRequest:
    """What is tried.

    Attributes:
        role: ``calibration`` or ``measured``; each has images of its own.
        dictionaries: Directory of the dictionaries' parts.
        dictionaries_name: Its name by content.
        block: Number and address of the block whose update is edited.
        model: The model.
        segmenter: Names what labels the pixels.
        quality: Networks that measure similarity and distance.
        quality_name: Their settings and weights.
        arms: The edits.
        groups: Concept of a global edit → what it asks for.
        template: Template of the prompts.
        neutral: Noun of the texts from which the concepts of groups are made.
        prompts: The prompts.
        images: Images of each prompt.
        batch: Images of a task.
        features: Latents of a concept.
    """

    role: str
    dictionaries: str
    dictionaries_name: str
    block: tuple[int, str]
    model: ModelConfig
    segmenter: SegmenterConfig
    quality: QualityConfig
    quality_name: str
    arms: tuple[Arm, ...]
    groups: Mapping[str, AskedGroup]
    template: str
    neutral: str
    prompts: tuple[Prompt, ...]
    images: int
    batch: int
    features: int

    def as_data(self) -> dict[str, Any]:
        """Return what determines all parts, as plain data."""
        return {name: getattr(self, name) for name in _NAMED} | {
            "arms": [arm.id for arm in self.arms],
            "groups": {concept: asdict(of) for concept, of in self.groups.items()},
            "prompts": [[prompt.id, prompt.text] for prompt in self.prompts],  # their order decides the quadrants
        }
