"""Tries a judge on a folder of pictures, and compares its answers with labels by hand."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audit.config.problems import listing
from audit.config.sections import JudgeConfig, ModelConfig
from audit.measure.shares.classifier_error import ConfusionMatrix
from audit.models.files.untrusted_model import reason_in_short
from audit.perception.judges.answers import left_out
from audit.perception.judges.interface import Audited, Judge
from audit.perception.judges.kinds.hand_labels import HandLabels
from audit.perception.judges.kinds.zero_shot import ZeroShotJudge
from audit.perception.judges.label_table import LabelTable, image_name
from audit.perception.judges.perceived import Perceived
from audit.perception.judges.registry import answers_of, load_judge
from audit.perception.judges.temperature import TemperatureFit, fit_temperature
from audit.records.work import Status
from audit.storage.outside.picture import PictureError, read_picture
from audit.storage.outside.picture_folder import Unusable, picture_folder

Pixels = NDArray[np.uint8]
"""A picture, ``(H, W, 3)``."""

BATCH = 16
"""Pictures of one size that are judged at once."""


class TrialError(ValueError):
    """The judge cannot be downloaded, there is no picture to judge, or no label belongs to one."""


@dataclass(frozen=True)
class Answer:
    """The answer of a judge for one attribute of one picture.

    Attributes:
        file: Path of the picture below the folder.
        attribute: The attribute.
        group: The most probable group, also if it is not audited; None if nothing was perceived.
        probability: Its probability among all groups that the judge knows.
        status: Status of the picture for this attribute.
        shares: Probabilities of all groups, in the order of ``Trial.groups``.
        faces: Number of faces that were found, None for a judge of whole pictures.
        face_score: The largest score of the faces that were judged, None without one.
    """

    file: str
    attribute: str
    group: str | None
    probability: float | None
    status: Status
    shares: tuple[float, ...]
    faces: int | None = None
    face_score: float | None = None


@dataclass(frozen=True)
class Trial:
    """The answers of a judge for a folder of pictures.

    Attributes:
        signature: Signature of the judge.
        groups: Attribute → all groups that the judge knows, the audited ones first.
        answers: Answers by picture and attribute, sorted by path.
        unusable: Files that are no usable pictures.
        temperature: Temperature of a zero-shot judge, None for any other.
    """

    signature: str
    groups: Audited
    answers: tuple[Answer, ...]
    unusable: tuple[Unusable, ...]
    temperature: float | None = None


@dataclass(frozen=True)
class Comparison:
    """The answers for an attribute compared with labels.

    Attributes:
        counts: (truth, answer) → pictures; the answer of a picture without a group is its status.
        matrix: Confusion matrix of the classified pictures; None if a group has no labelled and classified picture.
        lacking: Groups without such a picture.
    """

    counts: Mapping[tuple[str, str], int]
    matrix: ConfusionMatrix | None
    lacking: tuple[str, ...]


def known_groups(judge: JudgeConfig, model: ModelConfig, attributes: Audited) -> dict[str, tuple[str, ...]]:
    """Return all groups that a judge knows of the audited attributes, the audited ones first."""
    answers = answers_of(judge, model, attributes) or {}
    return {name: (*audited, *left_out(answers, name, audited)) for name, audited in attributes.items()}


def try_judge(judge: JudgeConfig, model: ModelConfig, attributes: Audited, folder: Path) -> Trial:
    """Judge every picture below a folder.

    Args:
        judge: The judge's section, whose CLIP model is named.
        model: The audited model, whose bundle may include a judge.
        attributes: Attribute → audited groups.
        folder: The folder.

    Raises:
        TrialError: The folder has no picture that can be read, or the judge cannot be downloaded.
        UnfitModelError: The judge cannot be loaded.
    """
    groups = known_groups(judge, model, attributes)
    found = picture_folder(folder)
    try:
        loaded = load_judge(judge, model, groups)
    except OSError as error:  # weights of a name that is not in the cache
        raise TrialError(
            f"expected weights of the judge {judge.source!r} on this machine or the hub, found none "
            f"({reason_in_short(error)}); check the name and the connection"
        ) from error
    unusable = [*found.unusable]
    rows: list[Answer] = []
    for paths, pictures in _batches(found.pictures, unusable):
        names = [Path(os.path.relpath(path, folder)).as_posix() for path in paths]
        seen = _perceived(loaded, names, pictures)
        rows += [
            _answer(seen, row, name, n, groups[n], attributes[n]) for row, name in enumerate(names) for n in groups
        ]
    if not rows:
        reasons = "".join(f"\n{one.path}: {one.reason}" for one in unusable[:10])
        raise TrialError(f"expected pictures (PNG, JPEG or WebP) in {folder}, found none that can be read{reasons}")
    order = list(groups)
    rows.sort(key=lambda answer: (answer.file, order.index(answer.attribute)))
    own = loaded.temperature if isinstance(loaded, ZeroShotJudge) else None
    return Trial(loaded.signature, groups, tuple(rows), tuple(unusable), own)


def compare_with_labels(trial: Trial, labels: LabelTable, attributes: Audited) -> dict[str, Comparison]:
    """Count answers by the labelled group, for each attribute that has labels.

    Groups that the judge knows and the audit leaves out are included if a picture shows them.

    Raises:
        TrialError: No label belongs to a picture of the folder.
    """
    found: dict[str, Comparison] = {}
    for attribute, audited in attributes.items():
        pairs = [
            (truth, answer.group or answer.status.value, answer.status)
            for answer, truth in _labelled(trial, labels, attribute)
        ]
        if not pairs:
            continue
        counts: dict[tuple[str, str], int] = defaultdict(int)
        classified: dict[tuple[str, str], int] = defaultdict(int)
        for truth, group, status in pairs:
            named = status in (Status.CLASSIFIED, Status.OUTSIDE_GROUPS)
            counts[truth, group if named else status.value] += 1
            classified[truth, group] += named
        shown = {group for pair in classified for group in pair if classified[pair]}
        groups = [group for group in trial.groups[attribute] if group in audited or group in shown]
        table = [[classified[truth, group] for group in groups] for truth in groups]
        lacking = tuple(group for group, row in zip(groups, table, strict=True) if not sum(row))
        found[attribute] = Comparison(dict(counts), None if lacking else ConfusionMatrix.of(groups, table), lacking)
    if not found:
        names = listing(dict.fromkeys(answer.file for answer in trial.answers[:5]))
        raise TrialError(
            f"expected labels of pictures in the folder (such as {names}), found none; check the column image"
        )
    return found


def fitted_temperature(trial: Trial, labels: LabelTable) -> TemperatureFit | None:
    """Fit the temperature of a zero-shot judge to labels; None for any other judge, and without a label."""
    if trial.temperature is None:
        return None
    shares, truths = [], []
    for attribute, groups in trial.groups.items():
        pairs = list(_labelled(trial, labels, attribute))
        if pairs:
            shares.append(np.array([answer.shares for answer, _ in pairs]))
            truths.append(np.array([groups.index(truth) for _, truth in pairs], dtype=np.int64))
    return fit_temperature(shares, truths, trial.temperature) if shares else None


def _labelled(trial: Trial, labels: LabelTable, attribute: str) -> Iterator[tuple[Answer, str]]:
    """Yield the answers for an attribute whose picture has a label that the judge knows, with the label."""
    for answer in trial.answers:
        truth = labels.labels.get(image_name(answer.file), {}).get(attribute)
        if answer.attribute == attribute and truth is not None and truth in trial.groups[attribute]:
            yield answer, truth


def _batches(paths: Sequence[Path], unusable: list[Unusable]) -> Iterator[tuple[list[Path], list[Pixels]]]:
    """Read pictures and yield them in batches of one size; files that cannot be read are added to ``unusable``."""
    waiting: dict[tuple[int, ...], tuple[list[Path], list[Pixels]]] = {}
    for path in paths:
        try:
            picture = read_picture(path)
        except PictureError as error:
            unusable.append(Unusable(path, str(error)))
            continue
        names, pictures = waiting.setdefault(picture.shape, ([], []))
        names.append(path)
        pictures.append(picture)
        if len(names) == BATCH:
            yield waiting.pop(picture.shape)
    yield from waiting.values()


def _perceived(judge: Judge, names: Sequence[str], pictures: Sequence[Pixels]) -> Perceived:
    import torch

    if isinstance(judge, HandLabels):
        return judge.perceive_named([image_name(name) for name in names])
    return judge.perceive(torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous(), "")


def _answer(
    seen: Perceived, row: int, file: str, attribute: str, groups: Sequence[str], audited: Sequence[str]
) -> Answer:
    values = seen.probabilities[attribute][row]
    best, status = int(values.argmax()), seen.statuses[row]
    shares, found = tuple(map(float, values)), _faces(seen, row)
    if status in (Status.NO_FACE, Status.UNLABELLED):
        return Answer(file, attribute, None, None, status, shares, *found)
    if status is Status.CLASSIFIED and groups[best] not in audited:
        status = Status.OUTSIDE_GROUPS
    return Answer(file, attribute, groups[best], float(values[best]), status, shares, *found)


def _faces(seen: Perceived, row: int) -> tuple[int | None, float | None]:
    """Return the number of faces of a picture, and the largest score of those that were judged."""
    if seen.faces is None:
        return None, None
    count, score = int(seen.faces.counts[row]), float(seen.faces.scores[row])
    return count, score if count else None
