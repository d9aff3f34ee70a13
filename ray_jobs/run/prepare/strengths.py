"""Finds strengths of edits on the workers: one task for each prompt and attribute, one answer for each task."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from audit.config.slices import DissectionRequest
from audit.dissect.settings import dissected_groups
from audit.dissect.strengths import GroupStrength, Tried, choose_strengths
from audit.records.work import Prompt
from audit.storage.folder_copy import folder_on_disk
from audit.storage.place import Place, place_of
from ray_jobs.run.network import NetworkSettings
from ray_jobs.run.parts import PartFiles, PreparationError, WorkerPool, make_parts

if TYPE_CHECKING:
    from audit.dissect.lens import Lens

STRENGTHS = "strengths"
"""Folder of the answers, beside a lens that is being made or in the run that asks."""


class DissectionError(PreparationError):
    """A step of the dissection failed."""


@dataclass(frozen=True)
class StrengthTask:
    """One prompt and attribute whose strengths are wanted.

    Attributes:
        id: Name in messages and of the file of the answer.
        attribute: The attribute.
        prompt: The prompt.
        search: Whether edited images are sampled; otherwise only the first step of the unedited prompt is computed.
    """

    id: str
    attribute: str
    prompt: Prompt
    search: bool = True


@dataclass(frozen=True)
class StrengthAnswer:
    """What a worker found for one prompt and attribute.

    Attributes:
        projection: Group → projection of the first denoising step of the prompt.
        tried: Group → edits that were sampled, from weak to strong; empty if none was.
    """

    projection: dict[str, float]
    tried: dict[str, tuple[Tried, ...]]

    def as_data(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)

    @classmethod
    def of_data(cls, data: Mapping[str, Any]) -> StrengthAnswer:
        """Read plain data back."""
        tried = {group: tuple(Tried(**rung) for rung in rungs) for group, rungs in data["tried"].items()}
        return cls(data["projection"], tried)

    def strengths(self, budget: float) -> dict[str, GroupStrength]:
        """Choose the strength of each group among those that were sampled."""
        return choose_strengths(self.tried, budget)


@dataclass(frozen=True)
class StrengthSettings:
    """What a worker needs to find strengths.

    Attributes:
        request: The dissection; its lens section says how strengths are searched.
        lens: Path or address of the lens.
    """

    request: DissectionRequest
    lens: str


class StrengthWorker:
    """Finds strengths with a lens; a plain class, run by ``make_parts``."""

    def __init__(self, settings: StrengthSettings) -> None:
        """Load the model and its judge."""
        from audit.perception.judges.registry import load_judge

        request = settings.request
        groups = dissected_groups(request.lens, request.attributes)
        self._settings, self._place = request.lens, place_of(settings.lens)
        self._generator = NetworkSettings(request.model, request.sampling, request.lens.hookpoint).load()
        self._judge = load_judge(request.judge, request.model, groups)

    def do(self, task: StrengthTask) -> StrengthAnswer:
        """Find the strengths of one prompt and attribute."""
        from audit.dissect.observer import project
        from audit.mitigate.strength import StrengthSearch, try_strengths

        settings, tried = self._settings, {}
        if task.search:
            search = StrengthSearch(task.prompt, task.attribute, settings.strength_images, settings.side_effect_budget)
            tried = try_strengths(self._generator, self._judge, self._lens, search)
        projection = project(self._generator, self._lens, task.prompt, task.attribute)
        return StrengthAnswer(projection, {group: tuple(rungs) for group, rungs in tried.items()})

    @cached_property
    def _lens(self) -> Lens:
        from audit.dissect.lens import Lens
        from audit.models.device import device_here

        with folder_on_disk(self._place) as directory:
            return Lens.load(directory).to(device_here())


def answer_files(directory: Place, budget: float) -> PartFiles[StrengthAnswer]:
    """Return the files of the answers under a directory.

    Args:
        directory: Directory of the lens that is being made, or of the lens in a run.
        budget: Budget of side effects, for the strengths in the log.
    """
    return PartFiles("Strengths", str(directory), STRENGTHS, ".json", _encoded, _decoded, partial(_described, budget))


def answers_of(
    tasks: Sequence[StrengthTask],
    settings: StrengthSettings,
    files: PartFiles[StrengthAnswer],
    pool: WorkerPool,
) -> dict[str, StrengthAnswer]:
    """Return the answer to each task by its id; stored answers are not computed again.

    Raises:
        DissectionError: If a task failed.
    """
    try:
        make_parts(StrengthWorker, settings, tasks, files, pool)
    except PreparationError as error:
        raise DissectionError(f"the dissection: {error}") from error
    return {task.id: files.read(task) for task in tasks}


def _encoded(answer: StrengthAnswer) -> bytes:
    return json.dumps(answer.as_data()).encode()


def _decoded(data: bytes) -> StrengthAnswer:
    return StrengthAnswer.of_data(json.loads(data))


def _described(budget: float, answer: StrengthAnswer) -> str:
    found = answer.strengths(budget)
    words = (f"{group} {one.strength:g}{' not controllable' * (one.control == 'none')}" for group, one in found.items())
    return ": " + ", ".join(words) if found else ""
