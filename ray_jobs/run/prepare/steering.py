"""Finds the strengths of the prompts of an audit before the first shard, and stores them in the run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from audit.config.slices import DissectionRequest
from audit.dissect.prediction import Prediction, is_trusted, prediction_of_data
from audit.dissect.settings import LENS_FILE, STEERING_FILE
from audit.dissect.strengths import GroupStrength, Strengths, strengths_of_data
from audit.models.source import model_fingerprint
from audit.records.work import Prompt
from audit.results.run_strengths import keep_steering
from audit.storage.files import storage_of
from audit.storage.place import Place
from audit.storage.run_directory import LENS, RunDirectory
from ray_jobs.run.parts import WorkerPool
from ray_jobs.run.prepare.strengths import (
    StrengthAnswer,
    StrengthSettings,
    StrengthTask,
    answer_files,
    answers_of,
)


@dataclass(frozen=True)
class KnownStrengths:
    """The strengths in a lens, read without its networks.

    Attributes:
        groups: Groups by attribute.
        texts: Prompts that the lens was made from; the same occupation in another sentence is another prompt.
        searched: Strengths of these prompts.
        lines: Lines that predict the strengths of other prompts.
    """

    groups: Mapping[str, Sequence[str]]
    texts: frozenset[str]
    searched: Strengths
    lines: Prediction

    @classmethod
    def of(cls, plain: Mapping[str, Any], guidance: float, edit: str) -> KnownStrengths:
        """Read the card of a lens; strengths of another guidance (decision 3) or another kind of edit are ignored."""
        settings = plain["settings"]
        if settings.get("guidance") != guidance or settings.get("edit", "add") != edit:
            return cls(plain["groups"], frozenset(), {}, {})
        searched, lines = strengths_of_data(plain["strengths"]), prediction_of_data(plain["prediction"])
        return cls(plain["groups"], frozenset(plain["settings"].get("prompts", ())), searched, lines)

    def of_prompt(self, attribute: str, prompt: Prompt) -> Mapping[str, GroupStrength] | None:
        """Return the strengths that were searched for a prompt, None if there are none."""
        return self.searched.get(attribute, {}).get(prompt.id) if prompt.text in self.texts else None

    def predicts(self, attribute: str) -> bool:
        """Whether the strengths of an unseen prompt may be predicted."""
        return is_trusted(self.lines.get(attribute, {}), self.groups[attribute])


def find_strengths(
    request: DissectionRequest,
    attributes: Sequence[str],
    lens: Place,
    run: RunDirectory,
    prompts: Sequence[Prompt],
    pool: WorkerPool,
) -> None:
    """Find the strength of every edit of an audit, prompt by prompt, and store them in the run.

    The lens holds the strengths of the prompts that it was made from. Strengths of other prompts are predicted if the
    prompts of the lens show that the prediction is right, and searched otherwise. A resumed run keeps its strengths.

    Args:
        request: The dissection.
        attributes: Attributes whose edits take their strengths from the lens.
        lens: Directory of the lens.
        run: Run of the audit.
        prompts: Prompts of the audit.
        pool: Where strengths are searched.

    Raises:
        DissectionError: If a search failed.
    """
    plain = json.loads(storage_of(lens).read(LENS_FILE))
    if plain["model_fingerprint"] != model_fingerprint(request.model) or run.has(f"{LENS}/{STEERING_FILE}"):
        return  # the workers refuse a lens of another model, and report everything that does not fit
    known = KnownStrengths.of(plain, request.sampling.guidance, request.lens.edit)
    attributes = [name for name in attributes if name in known.groups]
    tasks = [
        StrengthTask.of_lens(
            prompt, name, request.lens, search=request.lens.unseen == "search" or not known.predicts(name)
        )
        for name in attributes
        for prompt in prompts
        if known.of_prompt(name, prompt) is None
    ]
    budget = request.lens.side_effect_budget
    files = answer_files(run.file(LENS), budget)
    answers = answers_of(tasks, StrengthSettings.of_lens(request, lens), files, pool)
    strengths: Strengths = {}
    for name in attributes:
        strengths[name] = {
            prompt.id: dict(
                known.of_prompt(name, prompt)
                or _answered(answers[f"{prompt.id}-{name}"], known.lines.get(name, {}), budget)
            )
            for prompt in prompts
        }
    if attributes:
        keep_steering(run, strengths)
        files.delete(tasks)


def _answered(answer: StrengthAnswer, lines: Mapping[str, Any], budget: float) -> dict[str, GroupStrength]:
    if answer.tried:
        return answer.strengths(budget)
    return {group: lines[group].strength(value) for group, value in answer.projection.items()}
