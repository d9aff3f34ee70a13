"""What a single value of a config may be, each kind with its words for a message, and what every section has."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, StringConstraints, Tag
from pydantic_core import PydanticCustomError

from audit.config.problems import listing, suggestion

ZERO_SHOT = "zero-shot"
"""Source of a further judge: the quality figures' CLIP model, asked which group's caption fits best."""

CLIP_SOURCES = "a directory, hf-hub:OWNER/NAME, or a model with the tag of its weights (ViT-B-32:laion2b_s34b_b79k)"
"""Where a CLIP model of the user's can come from, for messages."""

UNCONDITIONAL = "calibration-unconditional"
GENERATED_HERE = ("calibration", UNCONDITIONAL, "rendered")
"""Model sources that come with this package and draw the faces of a world."""

RAY_STEP = 0.0001
"""Smallest share of a resource that Ray counts."""

RESOURCES_OF_RAY: Mapping[str, str] = {
    "CPU": "set workers.threads instead",
    "GPU": "set workers.gpus_per_worker instead",
    "memory": "set workers.memory_gb instead",
    "object_store_memory": "remove it, workers keep nothing there",
}
"""Resources that Ray takes by options of their own → what to do; no custom resource can have these names."""

LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""Hosts that plain http may go to."""

DEFAULT_ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    "gender": ("female", "male"),
    "age": ("young", "adult", "old"),
    "skin_tone": ("light", "medium", "tan", "dark"),
}
"""Attributes and groups as the bundled judge sees them, in the order of its probability vectors."""


def _mistake(message: str) -> PydanticCustomError:
    """Build a pydantic error whose message is already complete (braces in it are text)."""
    return PydanticCustomError("mistake", "{message}", {"message": message})


class GateMeasureKind(NamedTuple):
    """What a gate's measure can be asked of.

    Attributes:
        lowest: Smallest value that it can take.
        highest: Largest value.
        of_attribute: Whether it belongs to one attribute.
        of_prompt: Whether a single prompt has it, and not only the whole arm.
        edited: Whether it compares an arm with the baseline, so that the baseline has none.
    """

    lowest: float
    highest: float
    of_attribute: bool = False
    of_prompt: bool = False
    edited: bool = False


GATE_MEASURES: Mapping[str, GateMeasureKind] = {
    "fairness_discrepancy": GateMeasureKind(0, math.sqrt(2), of_attribute=True, of_prompt=True),
    "share": GateMeasureKind(0, 1, of_attribute=True, of_prompt=True),
    "share_difference": GateMeasureKind(-1, 1, of_attribute=True, of_prompt=True),
    "share_ratio": GateMeasureKind(0, 1, of_attribute=True, of_prompt=True),
    "four_fifths_ratio": GateMeasureKind(0, 1, of_attribute=True, of_prompt=True),
    "normalised_entropy": GateMeasureKind(0, 1, of_attribute=True, of_prompt=True),
    "total_variation": GateMeasureKind(0, 1, of_attribute=True, of_prompt=True),
    "kl_divergence": GateMeasureKind(0, math.inf, of_attribute=True, of_prompt=True),
    "jensen_shannon": GateMeasureKind(0, math.log(2), of_attribute=True, of_prompt=True),
    "effective_groups": GateMeasureKind(1, math.inf, of_attribute=True, of_prompt=True),
    "unclassified_share": GateMeasureKind(0, 1, of_prompt=True),
    "clip_i": GateMeasureKind(-1, 1, edited=True),
    "kid": GateMeasureKind(-math.inf, math.inf, edited=True),
    "prompt_shown": GateMeasureKind(0, 1),
    "attribute_shift": GateMeasureKind(0, 1, of_attribute=True, edited=True),
}
"""What a gate may limit; ``share`` is written with its group, ``share:female``."""

_MEASURES_IN_WORDS = tuple(name if name != "share" else "share:<group>" for name in GATE_MEASURES)


def _known_measure(measure: str) -> str:
    name, colon, group = measure.partition(":")
    if name not in GATE_MEASURES or bool(colon) != (name == "share") or (colon and not group):
        hint = suggestion(name, GATE_MEASURES)
        raise _mistake(f"expected a measure ({listing(_MEASURES_IN_WORDS)}), found {measure!r}{hint}")
    return measure


def _without_duplicates(names: tuple[str, ...]) -> tuple[str, ...]:
    repeated = sorted(name for name, count in Counter(names).items() if count > 1)
    if repeated:
        raise _mistake(f"expected each name once, found {listing(repeated)} more than once; remove the repetition")
    return names


def only_known_fields(template: str) -> str:
    """Refuse a template without its occupation, or with braces that nothing fills."""
    fields = re.findall(r"{[^{}]*}", template)
    unknown = [field for field in fields if field not in ("{a}", "{occupation}")]
    stray = re.sub(r"{[^{}]*}", "", template)
    if unknown or "{" in stray or "}" in stray or "{occupation}" not in fields:
        raise _mistake(f"expected a text with {{occupation}}, and {{a}} for its article, found {template!r}")
    return template


def unreserved_alias(alias: str) -> str:
    """Refuse what MLflow's registry refuses, before any image is made."""
    if not re.fullmatch(r"[\w-]{1,255}", alias) or re.fullmatch(r"latest|v\d+", alias, re.IGNORECASE):
        expected = "expected letters, digits, '_' and '-', other than 'latest' and 'v' with a number"
        raise _mistake(f"{expected}, which MLflow keeps for itself, found {alias!r}")
    return alias


def quantity_of_ray(quantity: float) -> float:
    """Refuse what Ray would end an audit for when it starts the workers."""
    if 0 < quantity < RAY_STEP or (quantity > 1 and quantity != int(quantity)):
        expected = f"expected a share of one, in steps of {RAY_STEP:g}, or a whole number of them"
        raise _mistake(f"{expected}, found {quantity:g}; Ray gives out nothing between")
    return quantity


def _low_below_high(window: tuple[float, float]) -> tuple[float, float]:
    if not window[0] < window[1]:
        raise _mistake(f"expected the start of the window below its end, found [{window[0]:g}, {window[1]:g}]")
    return window


# No control character, and none that reorders what a reader sees: such a text would lie in a report or on a terminal.
_ACTS = r"\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff"
_TEXT = rf"^[^\s{_ACTS}]([^{_ACTS}]*[^\s{_ACTS}])?$"
_FILE_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
_ENVIRONMENT_NAME = r"^[A-Za-z_][A-Za-z0-9_]*$"
_GROUP_NAME = r"^[A-Za-z0-9][A-Za-z0-9_+ -]*$"
_JUDGE_NAME = r"^[a-z0-9][a-z0-9-]*$"
PATTERNS_IN_WORDS = {
    _TEXT: "one line of text without space around it and without control characters",
    _FILE_NAME: "letters, digits, '.', '_' and '-', a letter or digit first",
    _ENVIRONMENT_NAME: "a name of letters, digits and '_', no digit first",
    _GROUP_NAME: "letters, digits, '_', '+', '-' and spaces, a letter or digit first",
    _JUDGE_NAME: "small letters, digits and '-', a letter or digit first",
}
"""What a text must look like, for messages."""

Text = Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=_TEXT)]
FileName = Annotated[str, StringConstraints(min_length=1, max_length=60, pattern=_FILE_NAME)]
GroupName = Annotated[str, StringConstraints(min_length=1, max_length=40, pattern=_GROUP_NAME)]
JudgeName = Annotated[str, StringConstraints(min_length=1, max_length=30, pattern=_JUDGE_NAME)]
EnvironmentName = Annotated[str, StringConstraints(max_length=100, pattern=_ENVIRONMENT_NAME)]
Races = Literal[7, 4]
Fraction = Annotated[float, Field(ge=0, le=1)]
# YAML has lists, not tuples: strictness is lifted for the container alone.
Names = Annotated[tuple[Text, ...], Field(min_length=1, strict=False), AfterValidator(_without_duplicates)]
Groups = Annotated[tuple[GroupName, ...], Field(min_length=2, strict=False), AfterValidator(_without_duplicates)]
Window = Annotated[tuple[Fraction, Fraction], Field(strict=False), AfterValidator(_low_below_high)]


GateMeasure = Annotated[
    Text,
    AfterValidator(_known_measure),
    Field(
        json_schema_extra={
            "anyOf": [{"enum": [name for name in GATE_MEASURES if name != "share"]}, {"pattern": "^share:."}]
        }
    ),
]


def names_clip_weights(name: str) -> bool:
    """Whether an open_clip name says which weights are meant: ``hf-hub:OWNER/NAME`` or ``MODEL:TAG``."""
    return re.fullmatch(r"hf-hub:[\w.-]+/[\w.-]+|(?!(hf-hub|local-dir):)[\w.-]+:[\w.-]+", name) is not None


def word_or_other(value: object) -> str:
    """Tell the branches of ``"word" | other`` apart, so that a mistake is told of the one that was meant."""
    return "word" if isinstance(value, str) else "other"


AllNoneOrNames = Annotated[
    Annotated[Literal["all", "none"], Tag("word")] | Annotated[Names, Tag("other")], Discriminator(word_or_other)
]
Shares = dict[GroupName, Fraction]
UniformOrShares = Annotated[
    Annotated[Literal["uniform"], Tag("word")] | Annotated[Shares, Tag("other")], Discriminator(word_or_other)
]
AutoOrCount = Annotated[
    Annotated[Literal["auto"], Tag("word")] | Annotated[int, Field(ge=1, le=100_000), Tag("other")],
    Discriminator(word_or_other),
]


UNIONS_IN_WORDS = {
    "occupations": "'all', 'none' or a list of names",
    "count": "'auto' or a whole number",
    "targets": "'uniform', a share for each group, or csv: with a file",
    "target": "'uniform' or a share for each group",
}
"""What the fields of two kinds take, for messages."""


class Section(BaseModel):
    """A closed, frozen part of the config; the text under a field is its documentation in the JSON Schema."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )
