"""Attributes and their groups, the attributes of a second judge, and the source of a target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Attribute:
    """A perceived attribute and its groups, as assigned by one named classifier.

    Attributes:
        name: For example ``gender``; always *perceived presentation*, never identity.
        groups: Group names, in the order of all probability vectors of this attribute.
    """

    name: str
    groups: tuple[str, ...]


@dataclass(frozen=True)
class SecondOpinion:
    """A second judge, whose answers do not change any figure.

    Attributes:
        judge: Its name in the config.
        attributes: The attributes that it judges, in the config's order.
    """

    judge: str
    attributes: tuple[Attribute, ...]


@dataclass(frozen=True)
class TargetSource:
    """Source of an attribute's target, the distribution that counts as fair.

    Attributes:
        kind: ``uniform`` (equal shares), ``shares`` (set in the config) or ``csv`` (a file with shares per prompt).
        file: The file, as named in the config.
        sha256: Checksum of the file's text.
        origins: The sources of the numbers that the file itself names, without duplicates.
    """

    kind: Literal["uniform", "shares", "csv"]
    file: str | None = None
    sha256: str | None = None
    origins: tuple[str, ...] = ()
