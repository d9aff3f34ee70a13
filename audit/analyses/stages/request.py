"""What is tried in which window of steps, on which images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from audit.config.optional.segmenters import SegmenterConfig
from audit.config.sections import ModelConfig, QualityConfig
from audit.planning.plan import named_text, prompt_text
from audit.records.work import Prompt

Kind = Literal["spatial", "global", "style", "group text", "style text"]
"""A part into a quadrant; a group or a style in the whole picture; a group or a style that the prompt names."""

BY_TEXT: Mapping[str, Kind] = {"global": "group text", "style": "style text"}
"""Kind of an edit → kind of the prompt that asks for the same: what the edit is measured against."""

ALL_STEPS = "all"
"""Window of a prompt, which acts at every step."""

_NAMED = (
    "role", "dictionaries_name", "block", "quality_name", "template", "neutral", "images", "batch", "features",
)  # fmt: skip
"""Fields that determine a part as they are."""


@dataclass(frozen=True)
class Arm:
    """One edit.

    Attributes:
        kind: What is done.
        concept: A part, ``attribute: group``, or ``style: text``.
        stage: Window of steps.
        strength: β; 1 for a prompt.
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

    def text(self, template: str, prompt: Prompt) -> str:
        """Return the text of a prompt that names the group."""
        return named_text(template, prompt.occupation, self.phrase)


@dataclass(frozen=True)
class AskedStyle:
    """A look of the whole picture.

    Attributes:
        words: How a prompt names it, after its own text.
    """

    words: str

    def text(self, template: str, prompt: Prompt) -> str:
        """Return the text of a prompt that names the style."""
        return f"{prompt.text}, {self.words}"


Asked = AskedGroup | AskedStyle


def neutral_prompt(template: str, noun: str) -> Prompt:
    """Return the prompt from whose texts the concepts of groups and styles are made."""
    return Prompt("", prompt_text(template, noun), noun)


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
        asked: Concept of the whole picture → what it asks for.
        template: Template of the prompts.
        neutral: Noun of the texts from which the concepts of groups and styles are made.
        prompts: The prompts.
        images: Images of each prompt.
        batch: Images of a task.
        features: Latents of a concept.
        seed: Seed of the audit.
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
    asked: Mapping[str, Asked]
    template: str
    neutral: str
    prompts: tuple[Prompt, ...]
    images: int
    batch: int
    features: int
    seed: int

    @property
    def groups(self) -> dict[str, AskedGroup]:
        """The groups that are asked for, by concept."""
        return {concept: of for concept, of in self.asked.items() if isinstance(of, AskedGroup)}

    @property
    def styles(self) -> dict[str, AskedStyle]:
        """The styles that are asked for, by concept."""
        return {concept: of for concept, of in self.asked.items() if isinstance(of, AskedStyle)}

    def as_data(self) -> dict[str, Any]:
        """Return what determines all parts, as plain data."""
        return {name: getattr(self, name) for name in _NAMED} | {
            "arms": [arm.id for arm in self.arms],
            "groups": {concept: asdict(of) for concept, of in self.groups.items()},
            **({"styles": list(self.styles)} if self.styles else {}),
            "prompts": [[prompt.id, prompt.text] for prompt in self.prompts],  # their order decides the quadrants
            **({"seed": self.seed} if self.seed else {}),
        }
