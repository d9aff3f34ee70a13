"""The further judges of an audit: any judge there is, and zero-shot CLIP where a CLIP model is loaded."""

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
    """Load the further judges that a config names, each for the attributes that it is asked about.

    Args:
        opinions: The config's further judges.
        model: The audited model, whose bundle may hold a judge.
        attributes: Attribute → groups, as the audit has them.
        clip: The CLIP model that embeds the images; zero-shot judges share it.

    Raises:
        UnfitModelError: A judge does not know an attribute or a group, or is zero-shot where there is no CLIP
            model.
    """
    return {opinion.name: _load(opinion, model, _asked(opinion, attributes), clip) for opinion in opinions}


def _asked(opinion: SecondOpinionConfig, attributes: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    wanted = opinion.attributes
    return {name: groups for name, groups in attributes.items() if wanted is None or name in wanted}


def _load(
    opinion: SecondOpinionConfig,
    model: ModelConfig,
    attributes: Mapping[str, Sequence[str]],
    clip: ClipEmbedder | None,
) -> Judge:
    if opinion.source != ZERO_SHOT:
        same = JudgeConfig(source=opinion.source, races=opinion.races, min_confidence=opinion.min_confidence)
        return load_judge(same, model, attributes)
    if clip is None:
        raise UnfitModelError(f"second opinion {opinion.name!r} is zero-shot and needs a CLIP model; set quality.clip")
    return ZeroShotJudge(clip, attributes, opinion.min_confidence)
