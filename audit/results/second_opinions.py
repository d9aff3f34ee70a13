"""Second judges compared with the main judge: agreement by arm, and their view of each finding.

Only images that both judges classified are compared. A second judge does not change any figure; it shows which findings
depend on the choice of the classifier.

Legend: n images of an arm, P prompts, K groups of an attribute.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from audit.measure.inference.intervals import share_estimate
from audit.measure.shares.agreement import agreement
from audit.records.attributes import Attribute, SecondOpinion
from audit.records.estimates import Estimate
from audit.records.groups import GroupResult
from audit.records.opinions import JudgeAgreement, SecondView
from audit.storage.rows import has_group, opinion_column, probability_column

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class CommonAnswers:
    """The answers of two judges for one attribute, on the images of one arm that both classified.

    Attributes:
        judge: The second judge.
        arm: The arm.
        attribute: The attribute.
        prompts: Prompt ids.
        codes: Index in ``prompts`` of each image's prompt, shape (m,).
        first: Most probable group of each image according to the main judge, shape (m,).
        second: The same according to the second judge.
    """

    judge: str
    arm: str
    attribute: Attribute
    prompts: tuple[str, ...]
    codes: Ints
    first: Ints
    second: Ints


def common_answers(table: pa.Table, arms: Sequence[str], opinions: Sequence[SecondOpinion]) -> Iterator[CommonAnswers]:
    """Yield the answers of each second judge with those of the main judge, by judge, arm and attribute.

    Args:
        table: Rows of ``audit.storage.rows.results_schema``.
        arms: Arm names in the order of the result.
        opinions: The second judges.
    """
    for opinion in opinions:
        for arm in arms:
            rows = table.filter(pc.equal(table["arm"], arm))
            for attribute in opinion.attributes:
                yield _common(rows.filter(has_group(rows, attribute.name)), opinion.judge, arm, attribute)


def _common(rows: pa.Table, judge: str, arm: str, attribute: Attribute) -> CommonAnswers:
    rows = rows.filter(rows[opinion_column(judge, attribute.name, attribute.groups[0])].is_valid())
    prompts = rows["prompt_id"].combine_chunks().dictionary_encode()
    return CommonAnswers(
        judge=judge,
        arm=arm,
        attribute=attribute,
        prompts=tuple(prompts.dictionary.to_pylist()),
        codes=prompts.indices.to_numpy().astype(np.int64),
        first=_hard(rows, [probability_column(attribute.name, group) for group in attribute.groups]),
        second=_hard(rows, [opinion_column(judge, attribute.name, group) for group in attribute.groups]),
    )


def _hard(rows: pa.Table, columns: Sequence[str]) -> Ints:
    answers: Ints = np.stack([rows[name].to_numpy() for name in columns], axis=1).argmax(axis=1)
    return answers


def agreements(common: Iterable[CommonAnswers]) -> tuple[JudgeAgreement, ...]:
    """Return the share of equal answers and kappa for each judge, arm and attribute; None without a common image."""
    return tuple(_agreement(answers) for answers in common)


def _agreement(answers: CommonAnswers) -> JudgeAgreement:
    n = len(answers.first)
    found = agreement(answers.first, answers.second) if n else None
    return JudgeAgreement(
        judge=answers.judge,
        arm=answers.arm,
        attribute=answers.attribute.name,
        n=n,
        share=found.share if found else None,
        kappa=found.kappa if found else None,
    )


def second_views(common: Iterable[CommonAnswers], results: Iterable[GroupResult]) -> tuple[SecondView, ...]:
    """Return the view of each second judge on each finding in ``results``, in the order of the findings.

    Args:
        common: Answers of the second judges.
        results: Rows of prompts; rows that are not findings are skipped.
    """
    counted = [(answers, _counts_by_prompt(answers)) for answers in common]
    return tuple(
        _view(answers, row, counts.get(row.prompt_id))
        for row in results
        if row.is_finding and row.prompt_id is not None
        for answers, counts in counted
        if (answers.arm, answers.attribute.name) == (row.arm, row.attribute)
    )


def _counts_by_prompt(answers: CommonAnswers) -> dict[str, Ints]:
    """Count the second judge's groups for each prompt, shape (K,)."""
    prompts, groups = len(answers.prompts), len(answers.attribute.groups)
    counts = np.bincount(answers.codes * groups + answers.second, minlength=prompts * groups)
    return dict(zip(answers.prompts, counts.reshape(prompts, groups), strict=True))


def _view(answers: CommonAnswers, row: GroupResult, counts: Ints | None) -> SecondView:
    group = row.most_above_target
    position, target = answers.attribute.groups.index(group), row.target[group]
    share = None if counts is None else share_estimate(int(counts[position]), int(counts.sum()))
    return SecondView(
        judge=answers.judge,
        prompt_id=row.prompt_id or "",
        arm=row.arm,
        attribute=row.attribute,
        group=group,
        target=target,
        share=share,
        direction=_direction(share, target),
    )


def _direction(share: Estimate | None, target: float) -> Literal["same", "unclear", "opposite"]:
    if share is None or share.low <= target <= share.high:
        return "unclear"
    return "same" if share.value > target else "opposite"
