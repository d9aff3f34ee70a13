"""What each kind of judge can be asked, and the captions of a zero-shot judge; no weight is loaded.

A config may audit some of an attribute's groups. The others are still answers that the judge gives: an image whose most
probable answer is one of them lies outside the audited groups and is counted under none.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from audit.calibration.bundle import NETWORK_CONFIG, bundle_of
from audit.config.fields import ZERO_SHOT
from audit.config.sections import ModelConfig
from audit.planning.plan import group_phrase, prompt_text
from audit.storage.outside.json_object import read_json_object

Answers = Mapping[str, tuple[str, ...]]
"""Attribute → all groups that a judge tells apart."""

_NO_ATTRIBUTES = ("face", "occupation")
"""Questions of the bundled judge that are about the picture and not about perceived presentation."""

TEMPLATE = "a face photo of {a} {occupation}"
"""Each group is asked for as a person of no occupation: ``a face photo of an old person``."""


@dataclass(frozen=True)
class FairFaceLayout:
    """What the 18 outputs of a FairFace checkpoint mean (Kärkkäinen & Joo 2021, and their predict.py).

    A group's probability is the sum of its columns, so that no column is dropped and none is counted under another
    group's name. Ages: young 0-19, adult 20-59, old 60 and above.

    Attributes:
        races: How many races the checkpoint was trained to tell apart.
        columns: Attribute → group → columns.
    """

    races: int
    columns: Mapping[str, Mapping[str, tuple[int, ...]]]

    @property
    def answers(self) -> Answers:
        """Attribute → groups."""
        return {attribute: tuple(groups) for attribute, groups in self.columns.items()}


_GENDER_AND_AGE: Mapping[str, Mapping[str, tuple[int, ...]]] = {
    "gender": {"male": (7,), "female": (8,)},
    "age": {"young": (9, 10, 11), "adult": (12, 13, 14, 15), "old": (16, 17)},
}
_SEVEN = {"white": (0,), "black": (1,), "latino": (2,), "asian": (3, 4), "indian": (5,), "middle_eastern": (6,)}
_FOUR = {"white": (0,), "black": (1,), "asian": (2,), "indian": (3,)}

FAIRFACE_OUTPUTS = 18
"""Outputs of either published checkpoint; the four-race one has them too, and leaves columns 4 to 6 unused."""

FAIRFACE_KIND = "FairFace (ResNet-34 with 18 outputs: race, gender, age)"
FAIRFACE_HEAD = "fc.weight"
"""The tensor with a row for each output."""

FAIRFACE: Mapping[int, FairFaceLayout] = {
    7: FairFaceLayout(7, {**_GENDER_AND_AGE, "race": _SEVEN}),
    4: FairFaceLayout(4, {**_GENDER_AND_AGE, "race": _FOUR}),
}
"""Races of a checkpoint → its layout. Nothing in the weights tells the two apart."""


def races_in_name(checkpoint: Path) -> int | None:
    """Return how many races a published file name says: ``res34_fair_align_multi_4_20190809.pt`` says four."""
    found = re.search(r"(?:multi|race|races)[_-]?([47])(?![0-9])|(?<![0-9])([47])[_-]?race", checkpoint.stem, re.I)
    return int(found[1] or found[2]) if found else None


def fairface_layout(checkpoint: Path, races: int | None) -> FairFaceLayout:
    """Return the layout that the config names, or else the file name; seven races where neither says."""
    return FAIRFACE[races or races_in_name(checkpoint) or 7]


def races_problem(checkpoint: Path, races: int | None, asked: Collection[str]) -> str | None:
    """Say why it is not known which of FairFace's checkpoints a file is; None where it is.

    Args:
        checkpoint: The file.
        races: What the config says.
        asked: Attributes that the judge is asked about.
    """
    named = races_in_name(checkpoint)
    if races is not None and named is not None and races != named:
        return f"expected races: {named} for {checkpoint.name}, which says so itself, found {races}; correct it"
    if races is None and named is None and "race" in asked:
        return (
            f"expected races: 7 or 4 for {checkpoint.name}, found none; FairFace published a checkpoint of each, both "
            "have 18 outputs, and either would name wrong races if it were read as the other"
        )
    return None


def calibration_answers(judge: Path) -> Answers:
    """Return what a calibration judge can be asked, from the config beside its weights.

    Raises:
        ValueError: There is no such config, or it does not name answers.
    """
    said = read_json_object(judge / NETWORK_CONFIG, "the answers of a judge").get("answers")
    if not isinstance(said, dict) or not all(isinstance(groups, list) for groups in said.values()):
        raise ValueError(f"{judge / NETWORK_CONFIG}: expected the answers of each question, found none")
    return {name: tuple(map(str, groups)) for name, groups in said.items() if name not in _NO_ATTRIBUTES}


def answers_of(source: str, races: int | None, model: ModelConfig) -> Answers | None:
    """Return what the judge behind a config's ``source`` can be asked; no weights are read.

    Args:
        source: ``bundled`` or the file of a FairFace checkpoint, as in the config.
        races: Races that a FairFace checkpoint tells apart, where the config says so.
        model: The audited model, whose bundle may hold a judge.

    Returns:
        Attribute → groups. None for a judge that knows only what it is given (zero-shot CLIP), and where the model has
        no bundle.

    Raises:
        ValueError: The bundled judge's config cannot be read.
    """
    if source == ZERO_SHOT:
        return None
    if source != "bundled":
        return fairface_layout(Path(source), races).answers
    bundle = bundle_of(model)
    return None if bundle is None else calibration_answers(bundle.judge)


def unknown_groups(answers: Answers, attribute: str, groups: Sequence[str]) -> tuple[str, ...]:
    """Return the groups that a judge cannot name; all of them where it cannot judge the attribute."""
    return tuple(group for group in groups if group not in answers.get(attribute, ()))


def left_out(answers: Answers, attribute: str, groups: Sequence[str]) -> tuple[str, ...]:
    """Return the groups that a judge can name and a config does not audit."""
    return tuple(group for group in answers.get(attribute, ()) if group not in groups)


def cannot_answer(judge: str, answers: Answers, attribute: str, groups: Sequence[str]) -> str | None:
    """Say what a judge cannot be asked of an attribute; None where it knows every group.

    Args:
        judge: Its name in a sentence.
        answers: What it can be asked.
        attribute: The attribute.
        groups: The groups that the config names.
    """
    if attribute not in answers:
        return f"{judge} cannot judge {attribute!r}. It judges {', '.join(answers)}"
    unknown = unknown_groups(answers, attribute, groups)
    if not unknown:
        return None
    known = ", ".join(answers[attribute])
    return f"{judge} does not know the group {', '.join(map(repr, unknown))} of {attribute!r}. It knows {known}"


def group_captions(attribute: str, groups: Sequence[str]) -> list[str]:
    """Return what CLIP is asked about each group: ``a face photo of a tan skinned person``.

    Raises:
        ValueError: There are fewer than two groups to choose from.
    """
    if len(groups) < 2:
        raise ValueError(
            f"a zero-shot judge needs at least 2 groups of {attribute!r} to choose from, got {list(groups)}"
        )
    phrases = (group_phrase(attribute, group.replace("_", " ")) for group in groups)
    return [prompt_text(TEMPLATE, f"{phrase} person") for phrase in phrases]
