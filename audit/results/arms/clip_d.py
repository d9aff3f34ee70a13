"""Computes CLIP-D: how near the images of each arm are to the text of each group, and how far an edit moved them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from audit.measure.inference.span import COSINE, Span
from audit.records.arms.clip_d import GroupSimilarity
from audit.records.attributes import Attribute
from audit.records.estimates import OverPrompts
from audit.records.work import BASELINE
from audit.results.arm_rows import ArmRows, Floats
from audit.results.scores import Scores
from audit.storage.rows import CLIP_D, clip_d_column, clip_d_columns

CHANGE_OF_COSINE = Span(-2.0, 2.0)


@dataclass(frozen=True)
class DirectionTexts:
    """With what the cosines were measured.

    Attributes:
        texts: Attribute → group → texts of the group.
        signature: ``net:…|resize:…`` of the CLIP model, empty without one.
    """

    texts: Mapping[str, Mapping[str, tuple[str, ...]]]
    signature: str


def group_similarities(
    arms: Mapping[str, ArmRows], attributes: Sequence[Attribute], measured_by: DirectionTexts
) -> tuple[GroupSimilarity, ...]:
    """Return CLIP-D of every arm, attribute and group; empty if no image has one, as in runs of older versions.

    The intervals are those of CLIP-T and CLIP-I (:meth:`audit.results.scores.Scores.mean`); those of a change come from
    the differences of paired images.

    Args:
        arms: Arm → its rows, the baseline among them.
        attributes: Audited attributes.
        measured_by: Texts and CLIP model.
    """
    names = clip_d_columns(attributes)
    if all(np.isnan(rows.scores[name]).all() for rows in arms.values() for name in names):
        return ()
    return tuple(_similarities(arms, attributes, measured_by))


def _similarities(
    arms: Mapping[str, ArmRows], attributes: Sequence[Attribute], measured_by: DirectionTexts
) -> Iterator[GroupSimilarity]:
    for arm, rows in arms.items():
        for attribute in attributes:
            for group in attribute.groups:
                name = clip_d_column(attribute.name, group)
                cosine = _mean(rows, rows.scores[name], COSINE)
                moved = rows.scores[name] - arms[BASELINE].scores[name]
                n = 0 if cosine is None else cosine.n
                yield GroupSimilarity(
                    arm=arm,
                    attribute=attribute.name,
                    group=group,
                    texts=measured_by.texts[attribute.name][group],
                    signature=f"metric:{CLIP_D}|{measured_by.signature}|n:{n}",
                    cosine=cosine,
                    change=None if arm == BASELINE else _mean(rows, moved, CHANGE_OF_COSINE),
                )


def _mean(rows: ArmRows, values: Floats, span: Span) -> OverPrompts | None:
    """Return the mean of the images that have a value, None without any."""
    known = ~np.isnan(values)
    return Scores(values[known], rows.prompt_numbers()[known]).mean(span) if known.any() else None
