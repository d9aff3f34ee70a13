"""The attributes and groups of each kind of judge, and the captions of a zero-shot judge; no weights are loaded.

A config can audit only some groups of an attribute. The judge can still answer with the other groups: an image whose
most probable answer is one of them is outside the audited groups and is not counted in any of them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from audit.calibration.bundle import NETWORK_CONFIG, NETWORK_FILES, bundle_of
from audit.config.fields import ZERO_SHOT
from audit.config.sections import JudgeConfig, ModelConfig
from audit.planning.plan import group_phrase, prompt_text
from audit.storage.outside.json_object import read_json_object
from audit.storage.provenance import short_fingerprint

Answers = Mapping[str, tuple[str, ...]]
"""Attribute → all groups that a judge distinguishes."""

_NO_ATTRIBUTES = ("face", "occupation")
"""Questions of the bundled judge that are about the picture and not about perceived presentation."""

TEMPLATE = "a face photo of {a} {occupation}"
"""Template of captions; a caption names a group without an occupation: ``a face photo of an old person``."""


@dataclass(frozen=True)
class FairFaceLayout:
    """The meaning of the 18 outputs of a FairFace checkpoint (Kärkkäinen & Joo 2021, and their predict.py).

    The probability of a group is the sum of its columns, so every column counts for the correct group. Ages: young
    0-19, adult 20-59, old 60 and above.

    Attributes:
        races: Number of races that the checkpoint distinguishes.
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
"""Outputs of both published checkpoints; the four-race one does not use columns 4 to 6."""

FAIRFACE_KIND = "FairFace (ResNet-34 with 18 outputs: race, gender, age)"
FAIRFACE_HEAD = "fc.weight"
"""The tensor with one row per output."""

FAIRFACE: Mapping[int, FairFaceLayout] = {
    7: FairFaceLayout(7, {**_GENDER_AND_AGE, "race": _SEVEN}),
    4: FairFaceLayout(4, {**_GENDER_AND_AGE, "race": _FOUR}),
}
"""Number of races of a checkpoint → its layout. The weights do not show which layout a checkpoint has."""


def races_in_name(checkpoint: Path) -> int | None:
    """Return the number of races in a published file name: ``res34_fair_align_multi_4_20190809.pt`` has four."""
    found = re.search(r"(?:multi|race|races)[_-]?([47])(?![0-9])|(?<![0-9])([47])[_-]?race", checkpoint.stem, re.I)
    return int(found[1] or found[2]) if found else None


def fairface_layout(checkpoint: Path, races: int | None) -> FairFaceLayout:
    """Return the layout given by the config, or else by the file name; seven races if neither gives a number."""
    return FAIRFACE[races or races_in_name(checkpoint) or 7]


def races_problem(checkpoint: Path, races: int | None, asked: Collection[str]) -> str | None:
    """Return why the layout of a FairFace checkpoint is unknown; None if it is known.

    Args:
        checkpoint: The file.
        races: Number of races in the config, None if it is not set.
        asked: Attributes that the judge must classify.
    """
    named = races_in_name(checkpoint)
    if races is not None and named is not None and races != named:
        return f"expected races: {named} for {checkpoint.name}, as in its file name, found {races}; correct it"
    if races is None and named is None and "race" in asked:
        return (
            f"expected races: 7 or 4 for {checkpoint.name}, found none; set races, because FairFace published a "
            "checkpoint of each, both have 18 outputs, and the wrong setting gives wrong races"
        )
    return None


def calibration_answers(judge: Path) -> Answers:
    """Return the attributes and groups of a calibration judge, from the config next to its weights.

    Raises:
        ValueError: There is no such config, or it does not name answers.
    """
    answers = read_json_object(judge / NETWORK_CONFIG, "the answers of a judge").get("answers")
    if not isinstance(answers, dict) or not all(isinstance(groups, list) for groups in answers.values()):
        raise ValueError(f"{judge / NETWORK_CONFIG}: expected the answers of each question, found none")
    return {name: tuple(map(str, groups)) for name, groups in answers.items() if name not in _NO_ATTRIBUTES}


def answers_of(source: str, races: int | None, model: ModelConfig) -> Answers | None:
    """Return the attributes and groups of the judge with a config's ``source``; no weights are read.

    Args:
        source: ``bundled`` or the file of a FairFace checkpoint, as in the config.
        races: Number of races that a FairFace checkpoint distinguishes, if the config sets it.
        model: The audited model, whose bundle may include a judge.

    Returns:
        Attribute → groups. None for a judge that accepts any groups (zero-shot CLIP), and if the model has no bundle.

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
    """Return the groups that a judge does not know; all of them if it cannot judge the attribute."""
    return tuple(group for group in groups if group not in answers.get(attribute, ()))


def left_out(answers: Answers, attribute: str, groups: Sequence[str]) -> tuple[str, ...]:
    """Return the groups that a judge knows and a config does not audit."""
    return tuple(group for group in answers.get(attribute, ()) if group not in groups)


def cannot_answer(judge: str, answers: Answers, attribute: str, groups: Sequence[str]) -> str | None:
    """Return why a judge cannot classify an attribute; None if it knows all groups.

    Args:
        judge: Its name in a sentence.
        answers: Its attributes and groups.
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
    """Return the caption of each group: ``a face photo of a tan skinned person``.

    Raises:
        ValueError: There are fewer than two groups to choose from.
    """
    if len(groups) < 2:
        raise ValueError(
            f"expected at least 2 groups of {attribute!r} for a zero-shot judge, found {list(groups)}; add a group"
        )
    phrases = (group_phrase(attribute, group.replace("_", " ")) for group in groups)
    return [prompt_text(TEMPLATE, f"{phrase} person") for phrase in phrases]


def judge_name(judge: JudgeConfig, model: ModelConfig) -> str:
    """Return the file name of a judge and the fingerprint of its weights: other weights may give other labels."""
    source = Path(judge.source)
    bundle = bundle_of(model) if judge.source == "bundled" else None
    weights = short_fingerprint(bundle.judge, NETWORK_FILES) if bundle else short_fingerprint(source)
    return f"{source.name}:{weights}"
