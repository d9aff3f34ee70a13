"""Pictures of two people: who is perceived as which group, beside pictures of each occupation alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from audit.records.estimates import Estimate

COMPOSITIONS_FORMAT = 1
"""Format of the stored file."""


@dataclass(frozen=True)
class PairImages:
    """What became of the images of a pair.

    Attributes:
        pair: Id of the prompt.
        text: Its text.
        first: The first occupation.
        second: The other one.
        images: Images.
        people: Images in which no person, one, two, and more than two were found.
        apart: Images with two persons who were matched with their occupations.
        classified: Attribute → images of these in which both persons have a group.
    """

    pair: str
    text: str
    first: str
    second: str
    images: int
    people: tuple[int, int, int, int]
    apart: int
    classified: Mapping[str, int]


@dataclass(frozen=True)
class AloneImages:
    """What became of the images of an occupation alone.

    Attributes:
        occupation: The occupation.
        text: Text of the prompt.
        images: Images.
        people: Images in which no person, one, two, and more than two were found.
        classified: Attribute → images with one person, who has a group.
    """

    occupation: str
    text: str
    images: int
    people: tuple[int, int, int, int]
    classified: Mapping[str, int]


@dataclass(frozen=True)
class Matching:
    """How well persons are matched with occupations, where the truth is known: two images of one person each.

    Attributes:
        pair: Id of the prompt.
        attribute: Attribute of the groups; empty for all images together.
        first: Group of the first occupation's person; empty for all.
        second: Group of the other.
        pairs: Pairs of images: each image of one occupation with each of the other.
        apart: Pairs that were told apart.
        right: Share of these that are right, with the smaller number of images as its n; None if there are none.
    """

    pair: str
    attribute: str
    first: str
    second: str
    pairs: int
    apart: int
    right: Estimate | None


@dataclass(frozen=True)
class JointCell:
    """A combination of groups.

    Attributes:
        pair: Id of the prompt.
        attribute: The attribute.
        first: Group of the first occupation's person.
        second: Group of the other.
        count: Images with it.
        share: Their share of the images in which both persons have a group.
        expected: Images that independent persons with the same shares would give.
    """

    pair: str
    attribute: str
    first: str
    second: str
    count: int
    share: Estimate
    expected: float


@dataclass(frozen=True)
class Company:
    """The share of a group for one occupation of a pair, beside its share alone.

    Attributes:
        pair: Id of the prompt.
        occupation: The occupation.
        attribute: The attribute.
        group: The group.
        share: Its share among this occupation's persons in images of the pair; None if none has a group.
        alone: Its share in images of the occupation alone; None if no image has one.
        change: The first minus the second.
        p: p-value of no change (Fisher), adjusted by Benjamini and Hochberg; None without a change.
        found: Whether it is found at the rate of false findings.
    """

    pair: str
    occupation: str
    attribute: str
    group: str
    share: Estimate | None
    alone: Estimate | None
    change: Estimate | None
    p: float | None
    found: bool


@dataclass(frozen=True)
class Reversal:
    """A combination of groups against the reverse one.

    Attributes:
        pair: Id of the prompt.
        attribute: The attribute.
        first: Group of the first occupation's person, in the combination that is as frequent or more.
        second: Group of the other.
        count: Images with this combination.
        reverse: Images with the reverse one.
        difference: Difference of both shares, among images in which both persons are perceived as one of these groups.
        p: p-value of equal frequency (exact sign test), adjusted by Benjamini and Hochberg.
        found: Whether it is found at the rate of false findings.
    """

    pair: str
    attribute: str
    first: str
    second: str
    count: int
    reverse: int
    difference: Estimate
    p: float
    found: bool


@dataclass(frozen=True)
class Alike:
    """Whether the group of one person depends on that of the other.

    Attributes:
        pair: Id of the prompt.
        attribute: The attribute.
        same: Share of images in which both persons have the same group.
        expected: That share for independent persons with the same shares.
        cramers_v: Strength of the dependence; None if one of both occupations shows a single group.
        p: p-value of independence, adjusted by Benjamini and Hochberg; None as above.
        found: Whether it is found at the rate of false findings.
    """

    pair: str
    attribute: str
    same: Estimate
    expected: float
    cramers_v: Estimate | None
    p: float | None
    found: bool


@dataclass(frozen=True)
class PairPicture:
    """A sampled picture.

    Attributes:
        webp: The picture as base64.
        caption: Who is perceived as what, or why that is not known.
    """

    webp: str
    caption: str


@dataclass(frozen=True)
class Compositions:
    """The result.

    Attributes:
        name: Name of the audit.
        model: Fingerprint of the model.
        instruments: Judge, finder of persons and CLIP model, by kind.
        attributes: Attribute → its groups.
        certainty: Least certainty of a match.
        rate: Rate of false findings.
        pairs: One for each pair.
        alone: One for each occupation.
        matchings: For each pair, all images and then each combination of groups.
        cells: Joint tables.
        company: Shares in company and alone.
        reversals: Combinations against the reverse ones.
        alike: Dependence of both persons.
        pictures: Pair → its first pictures.
    """

    name: str
    model: str
    instruments: Mapping[str, str]
    attributes: Mapping[str, tuple[str, ...]]
    certainty: float
    rate: float
    pairs: tuple[PairImages, ...]
    alone: tuple[AloneImages, ...]
    matchings: tuple[Matching, ...]
    cells: tuple[JointCell, ...]
    company: tuple[Company, ...]
    reversals: tuple[Reversal, ...]
    alike: tuple[Alike, ...]
    pictures: Mapping[str, tuple[PairPicture, ...]]

    @property
    def company_once(self) -> tuple[Company, ...]:
        """Rows of company, of an attribute with two groups the first one's: the other changes by the opposite."""
        groups = self.attributes
        return tuple(
            one for one in self.company if len(groups[one.attribute]) > 2 or one.group == groups[one.attribute][0]
        )

    def as_data(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {"format_version": COMPOSITIONS_FORMAT, **asdict(self)}

    @classmethod
    def of_data(cls, data: Mapping[str, Any]) -> Compositions:
        """Read plain data back.

        Raises:
            ValueError: It is of another format.
            KeyError: A field is missing.
            TypeError: A field has another form.
        """
        version = data.get("format_version")
        if version != COMPOSITIONS_FORMAT:
            raise ValueError(
                f"expected format {COMPOSITIONS_FORMAT} of compositions, found {version}; run the command again"
            )
        plain = {name: value for name, value in data.items() if name != "format_version"}
        rows = {name: tuple(_row(kind, one) for one in plain[name]) for name, kind in _ROWS.items()}
        own = {pair: tuple(PairPicture(**one) for one in of) for pair, of in plain["pictures"].items()}
        groups = {name: tuple(of) for name, of in plain["attributes"].items()}
        return cls(**{**plain, **rows, "pictures": own, "attributes": groups})


_ROWS: Mapping[str, type[Any]] = {
    "pairs": PairImages,
    "alone": AloneImages,
    "matchings": Matching,
    "cells": JointCell,
    "company": Company,
    "reversals": Reversal,
    "alike": Alike,
}
"""Field → its kind of row."""

_ESTIMATES = ("right", "share", "alone", "change", "difference", "same", "cramers_v")


def _row(kind: type[Any], data: Mapping[str, Any]) -> Any:  # noqa: ANN401 - one of the kinds
    """Return a row with its estimates and its counts of people."""
    estimates = {name: None if data[name] is None else Estimate(**data[name]) for name in _ESTIMATES if name in data}
    people = {"people": tuple(data["people"])} if "people" in data else {}
    return kind(**{**data, **estimates, **people})
