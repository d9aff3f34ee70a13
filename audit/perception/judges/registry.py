"""The kinds of judges, and the judges of an audit: what they can name, their fingerprints, and how they are loaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from audit.config.judges import JudgeKeys
from audit.config.sections import ModelConfig, SecondOpinionConfig
from audit.perception.faces.finder import FaceFinder, finder_fingerprint
from audit.perception.judges.answers import Answers, audited_columns, left_out
from audit.perception.judges.interface import Asked, Audited, Judge, JudgeKind
from audit.perception.judges.kinds.age_gender import AgeAndGender
from audit.perception.judges.kinds.bundled import Bundled
from audit.perception.judges.kinds.classifier import Classifier
from audit.perception.judges.kinds.fairface import FairFace
from audit.perception.judges.kinds.hand_labels import Labels
from audit.perception.judges.kinds.on_faces import ChipReader, JudgeOfFaces
from audit.perception.judges.kinds.vqa import Vqa
from audit.perception.judges.kinds.zero_shot import ZeroShot

if TYPE_CHECKING:
    from audit.perception.embedders.clip import ClipEmbedder

FALLBACK = FairFace()
"""Kind of a source that no other kind takes: a file."""

KINDS: tuple[JudgeKind, ...] = (
    Vqa(),
    Classifier(),
    Bundled(),
    ZeroShot(),
    AgeAndGender(),
    Labels(),
    FALLBACK,
)
"""The kinds of judges; the first that a section of the config names is its kind."""

WORDS = tuple(kind.word for kind in KINDS if kind.word is not None)
"""Values of ``source`` that are neither a file nor a directory."""


def kind_of(judge: JudgeKeys) -> JudgeKind:
    """Return the kind of a judge."""
    return next(kind for kind in KINDS if kind.is_named_by(judge))


def answers_of(judge: JudgeKeys, model: ModelConfig, attributes: Audited) -> Answers | None:
    """Return the attributes and groups that a judge can name; no weights are read.

    Args:
        judge: Its section of the config.
        model: The audited model, whose bundle may include a judge.
        attributes: Attribute → audited groups.

    Returns:
        Attribute → groups. None for a judge that accepts any groups, and for one that is not on this machine.

    Raises:
        ValueError: A file that names them cannot be read.
    """
    return kind_of(judge).answers(Asked(judge, ("judge",), "the judge", model, attributes))


def judge_name(judge: JudgeKeys, model: ModelConfig) -> str:
    """Return the source of a judge and the fingerprint of its weights: other weights may give other labels."""
    faces = judge.face_settings
    found = "" if faces is None else f":faces:{finder_fingerprint(faces)}"
    return kind_of(judge).fingerprint(judge, model) + found


def load_judge(judge: JudgeKeys, model: ModelConfig, attributes: Audited, clip: ClipEmbedder | None = None) -> Judge:
    """Load the judge of a config onto this process's device.

    Args:
        judge: Its section of the config.
        model: The audited model, whose bundle may include a judge.
        attributes: Attribute → audited groups.
        clip: The CLIP model of the quality figures, if it is loaded; zero-shot judges can share it.

    Raises:
        UnfitModelError: The judge does not know an attribute or a group, its file has other contents, or this model has
            no bundled judge.
    """
    kind, faces = kind_of(judge), judge.faces
    if faces is None or isinstance(kind, AgeAndGender):
        return kind.load(judge, model, attributes, clip)
    answers = _all_answers(kind, Asked(judge, ("judge",), kind.name, model, attributes))
    certain = judge.model_copy(update={"faces": None, "min_confidence": 0.0})
    reader, each = ChipReader(kind.load(certain, model, answers, clip)), faces.several == "each"
    return JudgeOfFaces(FaceFinder(faces), reader, answers, attributes, judge.min_confidence, each=each)


def _all_answers(kind: JudgeKind, asked: Asked) -> dict[str, tuple[str, ...]]:
    """Return all groups that a judge knows of the audited attributes, the audited ones first.

    Raises:
        UnfitModelError: The judge does not know an attribute or a group.
    """
    known = kind.answers(asked) or {name: tuple(groups) for name, groups in asked.attributes.items()}
    audited_columns(kind.name, known, asked.attributes)
    return {name: (*groups, *left_out(known, name, groups)) for name, groups in asked.attributes.items()}


def load_second_judges(
    opinions: Sequence[SecondOpinionConfig], model: ModelConfig, attributes: Audited, clip: ClipEmbedder | None
) -> dict[str, Judge]:
    """Load the second judges of a config, each for its attributes, by name; see ``load_judge``."""
    return {opinion.name: load_judge(opinion, model, selected(opinion, attributes), clip) for opinion in opinions}


def selected(opinion: SecondOpinionConfig, attributes: Audited) -> dict[str, Sequence[str]]:
    """Return the audited attributes that a second judge judges."""
    wanted = opinion.attributes
    return {name: groups for name, groups in attributes.items() if wanted is None or name in wanted}
