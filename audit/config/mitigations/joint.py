"""Config section of an arm that steers several attributes at once, and the checks of it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from audit.config.fields import FileName, Fraction, GrowingSection, Text, word_or_other
from audit.config.mitigations.if_needed import IfNeededConfig
from audit.config.mitigations.registry import MitigationConfig
from audit.config.mitigations.section import EditSection
from audit.config.problems import Location, Problem
from audit.config.shares import normalised, share_problems
from audit.records.arms.joint import Cell, joined

JointShares = dict[Text, Fraction]
IndependentOrShares = Annotated[
    Annotated[Literal["independent"], Tag("word")] | Annotated[JointShares, Tag("other")], Discriminator(word_or_other)
]

_FEWEST = 2


class JointConfig(GrowingSection):
    """Joint: steers several attributes in one arm; all parts act on the same images."""

    later: ClassVar[tuple[str, ...]] = ("if_needed",)

    method: Literal["joint"]
    """How the model is edited: ``joint``, by several methods at once."""
    name: FileName
    """Name of the arm, used in file names."""
    parts: Annotated[tuple[MitigationConfig, ...], Field(strict=False, max_length=8, json_schema_extra={"minItems": 2})]
    """The mitigations that act together, one for each attribute, with the keys of their methods. At one hookpoint they
    act one after the other, in this order. A part is named after the arm and its attribute."""
    target: IndependentOrShares = "independent"
    """Shares of the combinations of groups that images are steered to. ``independent``: the product of the targets of
    the parts. Otherwise a share for each combination, written with the groups in the order of the parts:
    ``female & young: 0.2``."""

    if_needed: IfNeededConfig | None = None
    """Whether each image is looked at first, and changed only if it has to be; ``{}`` does so with the defaults. If
    unset, every image gets the intervention."""

    @model_validator(mode="before")
    @classmethod
    def _parts_are_named(cls, data: Any) -> Any:  # noqa: ANN401 (a file can contain any value)
        """Name each part that has no name of its own."""
        if not isinstance(data, dict) or not isinstance(data.get("parts"), list | tuple):
            return data
        return data | {"parts": [_named(part, data.get("name")) for part in data["parts"]]}

    @property
    def attributes(self) -> tuple[str, ...]:
        """The steered attributes, in the order of the parts."""
        return tuple(part.attribute for part in self.parts)

    def shares(self, groups: Sequence[Sequence[str]]) -> dict[Cell, float]:
        """Return the share of images that is steered to each combination.

        Args:
            groups: Groups of each part's attribute.
        """
        cells = tuple(itertools.product(*groups))
        if self.target != "independent":
            names = [joined(cell) for cell in cells]
            return dict(zip(cells, normalised(self.target, names), strict=True))
        margins = [part.steered_shares(own) for part, own in zip(self.parts, groups, strict=True)]
        return {cell: _product(margins, cell) for cell in cells}


def joint_problems(at: Location, joint: JointConfig, attributes: Mapping[str, Sequence[str]]) -> Iterator[Problem]:
    """Find parts that cannot act together, and a target that is no distribution over the combinations.

    Args:
        at: Location of the section.
        joint: The section.
        attributes: Attribute → groups.

    Yields:
        Problems, each with its location.
    """
    if len(joint.parts) < _FEWEST:
        message = f"expected {_FEWEST} parts or more, found {len(joint.parts)}; add one, or write it without parts"
        yield Problem((*at, "parts"), message, reads=((*at, "parts"),))
    for number, part in enumerate(joint.parts):
        yield from _conflicts((*at, "parts", number), part, joint.parts[:number])
        if joint.target != "independent":
            yield from _targets_of_both((*at, "parts", number), part)
        if part.if_needed is not None:
            message = "expected if_needed at the arm, whose parts act together, found it at a part; move it"
            yield Problem((*at, "parts", number, "if_needed"), message)
    yield from _mixed_steps(at, joint)
    if joint.target != "independent" and set(joint.attributes) <= set(attributes):
        cells = [joined(cell) for cell in itertools.product(*(attributes[name] for name in joint.attributes))]
        for problem in share_problems((*at, "target"), joint.target, cells, "combination"):
            yield replace(problem, reads=(("attributes",), (*at, "parts"), problem.location))


def _conflicts(at: Location, part: MitigationConfig, before: Sequence[MitigationConfig]) -> Iterator[Problem]:
    if part.attribute in {other.attribute for other in before}:
        message = f"expected one part for each attribute, found {part.attribute!r} again; remove one"
        yield Problem((*at, "attribute"), message)
    for what in part.used_alone:
        if any(what in other.used_alone for other in before):
            message = f"expected {what} in one part only, found it in a second one ({part.method}); remove one"
            yield Problem((*at, "method"), f"{message}, or use another method")


def _targets_of_both(at: Location, part: MitigationConfig) -> Iterator[Problem]:
    if part.target != "uniform":
        message = "expected no target of a part beside shares of the combinations, which contain it, found one"
        yield Problem((*at, "target"), f"{message}; remove it")
    if not part.steers_images:
        message = f"expected methods that steer single images beside shares of the combinations, found {part.method!r}"
        yield Problem((*at, "method"), f"{message}; set target: independent, or use another method")


def _mixed_steps(at: Location, joint: JointConfig) -> Iterator[Problem]:
    steps = [(number, part.reverse_step) for number, part in enumerate(joint.parts) if isinstance(part, EditSection)]
    for number, step in steps[1:]:
        if step != steps[0][1]:
            message = f"expected {steps[0][1]}, as in the other parts, since all share the step, found {step}"
            yield Problem((*at, "parts", number, "reverse_step"), f"{message}; write the same in all")


def _named(part: object, arm: object) -> object:
    if not isinstance(part, dict) or "name" in part or not isinstance(arm, str):
        return part
    attribute = re.sub(r"[^A-Za-z0-9_-]", "-", str(part.get("attribute", "")))
    return part | {"name": f"{arm[:39]}.{attribute[:20]}"}


def _product(margins: Sequence[Mapping[str, float]], cell: Cell) -> float:
    share = 1.0
    for margin, group in zip(margins, cell, strict=True):
        share *= margin[group]
    return share
