"""Loads the second judges of an audit: any kind of judge, and zero-shot CLIP if a CLIP model is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from audit.config.fields import ZERO_SHOT
from audit.config.sections import JudgeConfig, ModelConfig, SecondOpinionConfig
from audit.models.files.untrusted_model import UnfitModelError
from audit.perception.embedders.clip import ClipEmbedder
from audit.perception.judges.classifiers import Judge, load_judge
from audit.perception.judges.zero_shot import ZeroShotJudge


def load_second_judges(
    opinions: Sequence[SecondOpinionConfig],
    model: ModelConfig,
    attributes: Mapping[str, Sequence[str]],
    clip: ClipEmbedder | None,
) -> dict[str, Judge]:
    """Load the second judges of a config, each for its attributes.

    Args:
        opinions: The config's second judges.
        model: The audited model, whose bundle may include a judge.
        attributes: Attribute → groups of the audit.
        clip: The CLIP model that embeds the images; zero-shot judges share it.

    Raises:
        UnfitModelError: A judge does not know an attribute or a group, or a zero-shot judge has no CLIP model.
    """
    return {opinion.name: _load(opinion, model, _selected(opinion, attributes), clip) for opinion in opinions}


def _selected(opinion: SecondOpinionConfig, attributes: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    wanted = opinion.attributes
    return {name: groups for name, groups in attributes.items() if wanted is None or name in wanted}


def _load(
    opinion: SecondOpinionConfig,
    model: ModelConfig,
    attributes: Mapping[str, Sequence[str]],
    clip: ClipEmbedder | None,
) -> Judge:
    if opinion.source != ZERO_SHOT:
        section = JudgeConfig(source=opinion.source, races=opinion.races, min_confidence=opinion.min_confidence)
        return load_judge(section, model, attributes)
    if clip is None:
        raise UnfitModelError(f"second opinion {opinion.name!r} is zero-shot and needs a CLIP model; set quality.clip")
    return ZeroShotJudge(clip, attributes, opinion.min_confidence)
