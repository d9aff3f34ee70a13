"""The strengths of an audit's own prompts: found with the lens before the first shard, and kept in the run."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from audit.config.settings import AuditConfig
from audit.dissect.prediction import Prediction, is_trusted, prediction_of_data
from audit.dissect.settings import LENS_FILE, STEERING_FILE
from audit.dissect.strengths import GroupStrength, Strengths, strengths_of_data
from audit.models.source import model_fingerprint
from audit.records.work import Prompt
from audit.results.lens_evidence import keep_steering
from audit.storage.files import storage_of
from audit.storage.place import Place
from audit.storage.run_directory import LENS, RunDirectory
from ray_jobs.cluster.connection import Cluster
from ray_jobs.run.lens import LensAnswer, LensTask, answers_of, forget_answers

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class KnownStrengths:
    """What a lens knows about strengths, read without its networks.

    Attributes:
        groups: Groups by attribute.
        texts: The prompts that it was made from: the same occupation in another sentence is another prompt.
        searched: Their strengths.
        lines: What predicts others.
    """

    groups: Mapping[str, Sequence[str]]
    texts: frozenset[str]
    searched: Strengths
    lines: Prediction

    @classmethod
    def of(cls, plain: Mapping[str, Any], guidance: float) -> KnownStrengths:
        """Read a lens's card; what was found at another guidance holds for none of it (decision 3)."""
        if plain["settings"].get("guidance") != guidance:
            return cls(plain["groups"], frozenset(), {}, {})
        searched, lines = strengths_of_data(plain["strengths"]), prediction_of_data(plain["prediction"])
        return cls(plain["groups"], frozenset(plain["settings"].get("prompts", ())), searched, lines)

    def of_prompt(self, attribute: str, prompt: Prompt) -> Mapping[str, GroupStrength] | None:
        """Return the strengths that were searched for a prompt, None where none were."""
        return self.searched.get(attribute, {}).get(prompt.id) if prompt.text in self.texts else None

    def predicts(self, attribute: str) -> bool:
        """Whether an unseen prompt's strengths may be predicted."""
        return is_trusted(self.lines.get(attribute, {}), self.groups[attribute])


def find_strengths(
    config: AuditConfig, lens: Place, run: RunDirectory, prompts: Sequence[Prompt], cluster: Cluster
) -> None:
    """Find the strength of every edit that an audit makes, prompt by prompt, and keep them in the run.

    Prompts that the lens was made from have theirs in it. Of others they are predicted, where the lens's own prompts
    show that this is right, and searched otherwise. A run that goes on keeps what it has.

    Raises:
        DissectionError: A search failed.
    """
    plain = json.loads(storage_of(lens).read(LENS_FILE))
    if plain["model_fingerprint"] != model_fingerprint(config.model) or run.has(f"{LENS}/{STEERING_FILE}"):
        return  # a lens of another model is refused by the workers, with all that does not fit
    known = KnownStrengths.of(plain, config.sampling.guidance)
    attributes = [name for name in searched_attributes(config) if name in known.groups]
    tasks = [
        LensTask(f"{prompt.id}-{name}", name, prompt, config.lens.unseen == "search" or not known.predicts(name))
        for name in attributes
        for prompt in prompts
        if known.of_prompt(name, prompt) is None
    ]
    kept_in = run.file(LENS)
    answers = answers_of(tasks, config, lens, kept_in, cluster)
    strengths: Strengths = {}
    for name in attributes:
        strengths[name] = {
            prompt.id: dict(
                known.of_prompt(name, prompt)
                or _answered(answers[f"{prompt.id}-{name}"], known.lines.get(name, {}), config)
            )
            for prompt in prompts
        }
    if attributes:
        keep_steering(run, strengths)
        forget_answers(tasks, kept_in)


def searched_attributes(config: AuditConfig) -> tuple[str, ...]:
    """Attributes whose edits take their strengths from a lens, none of them twice."""
    return tuple(dict.fromkeys(edit.attribute for edit in config.mitigations if edit.searches_strength))


def _answered(answer: LensAnswer, lines: Mapping[str, Any], config: AuditConfig) -> dict[str, GroupStrength]:
    if answer.tried:
        return answer.strengths(config.lens.side_effect_budget)
    return {group: lines[group].strength(value) for group, value in answer.projection.items()}
