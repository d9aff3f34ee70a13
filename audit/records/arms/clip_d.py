"""CLIP-D: how near the images of an arm are to the text of each group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from audit.records.estimates import LikeThese, OverPrompts


@dataclass(frozen=True)
class GroupSimilarity:
    """CLIP-D of one arm and one group.

    Attributes:
        arm: The arm.
        attribute: The attribute.
        group: The group.
        texts: Texts of the group; the embeddings of several are averaged.
        signature: ``metric:clip_d|net:…|resize:…|n:…``.
        cosine: Mean cosine between the embeddings of an image and of the texts, with every prompt the same weight. None
            if no image has one: in every arm if the CLIP model does not read the texts to their end.
        change: Mean difference to the baseline image of the same key. None for the baseline, and without pairs.
    """

    arm: str
    attribute: str
    group: str
    texts: tuple[str, ...]
    signature: str
    cosine: OverPrompts | None
    change: OverPrompts | None

    @classmethod
    def of_data(cls, row: Mapping[str, Any]) -> GroupSimilarity:
        """Return the record from its plain data (``dataclasses.asdict``)."""
        figures = {name: _figure(row[name]) for name in ("cosine", "change")}
        return cls(**{**row, "texts": tuple(row["texts"]), **figures})


def _figure(row: Mapping[str, Any] | None) -> OverPrompts | None:
    if row is None:
        return None
    beside = row["like_these"]
    return OverPrompts(**{**row, "like_these": None if beside is None else LikeThese(**beside)})
