"""The kinds of judges, and the judges of an audit: what they can name, their fingerprints, and how they are loaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from audit.config.judges import JudgeKeys
from audit.config.sections import ModelConfig, SecondOpinionConfig
from audit.perception.judges.answers import Answers
from audit.perception.judges.interface import Asked, Audited, Judge, JudgeKind
from audit.perception.judges.kinds.bundled import Bundled
from audit.perception.judges.kinds.classifier import Classifier
from audit.perception.judges.kinds.fairface import FairFace
from audit.perception.judges.kinds.hand_labels import Labels
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
    return kind_of(judge).fingerprint(judge, model)


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
    return kind_of(judge).load(judge, model, attributes, clip)


def load_second_judges(
    opinions: Sequence[SecondOpinionConfig], model: ModelConfig, attributes: Audited, clip: ClipEmbedder | None
) -> dict[str, Judge]:
    """Load the second judges of a config, each for its attributes, by name; see ``load_judge``."""
    return {opinion.name: load_judge(opinion, model, selected(opinion, attributes), clip) for opinion in opinions}


def selected(opinion: SecondOpinionConfig, attributes: Audited) -> dict[str, Sequence[str]]:
    """Return the audited attributes that a second judge judges."""
    wanted = opinion.attributes
    return {name: groups for name, groups in attributes.items() if wanted is None or name in wanted}
