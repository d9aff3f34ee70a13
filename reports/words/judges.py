"""Sentences about the judge for the method section: what its answers rest on, and its known accuracies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from audit.config.sections import JudgeConfig, QualityConfig, with_clip
from audit.perception.judges.registry import kind_of
from reports.index.settings import setting
from reports.index.story import Story


def judge_notes(story: Story) -> tuple[str, ...]:
    """Return the notes of the judge's kind; none if the run's config is of a version that this one cannot read."""
    judge = judge_of(story.result.config)
    if judge is None:
        return ()
    attributes = {one.name: one.groups for one in story.attributes if len(one.groups) > 1}
    return tuple(kind_of(judge).notes(judge, attributes))


def judge_of(config: Mapping[str, Any]) -> JudgeConfig | None:
    """Return the judge of a run's config; None if the config is of a version that this one cannot read."""
    try:
        judge = JudgeConfig.model_validate(config.get("judge"))
        return with_clip(judge, QualityConfig(clip=setting(config, "quality", "clip")))
    except ValidationError:
        return None
