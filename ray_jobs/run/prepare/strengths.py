"""Finds strengths of edits on the workers: one task for each prompt and attribute, one answer for each task."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from audit.config.mitigations.edits import DiffLensConfig
from audit.config.mitigations.registry import MitigationConfig
from audit.config.sections import JudgeConfig, LensConfig
from audit.config.slices import Attributes, DissectionRequest
from audit.dissect.strengths import GroupStrength, Tried, choose_strengths
from audit.records.work import Prompt
from audit.storage.folder_copy import folder_on_disk
from audit.storage.place import Place, place_of
from ray_jobs.run.network import NetworkSettings
from ray_jobs.run.parts import PartFiles, PreparationError, WorkerPool, make_parts

if TYPE_CHECKING:
    from audit.dissect.lens import Lens
    from audit.mitigate.method import Intervene

STRENGTHS = "strengths"
"""Folder of the answers, beside a lens that is being made or in the run that asks."""


class DissectionError(PreparationError):
    """A step of the dissection failed."""


@dataclass(frozen=True)
class Effort:
    """How strengths are searched.

    Attributes:
        images: Held-out images of each prompt, group and strength.
        budget: Images that may change otherwise for each that is brought to its group.
    """

    images: int
    budget: float


@dataclass(frozen=True)
class StrengthTask:
    """One prompt and edit whose strengths are wanted.

    Attributes:
        id: Name in messages and of the file of the answer.
        mitigation: The edit; its attribute has the groups.
        prompt: The prompt.
        effort: How edited images are sampled; None samples none and computes the first step of the unedited prompt.
    """

    id: str
    mitigation: MitigationConfig
    prompt: Prompt
    effort: Effort | None

    @classmethod
    def of_lens(cls, prompt: Prompt, attribute: str, lens: LensConfig, *, search: bool = True) -> StrengthTask:
        """Return the task of the edit that a lens has strengths for."""
        mitigation = DiffLensConfig(name="strength-search", attribute=attribute, edit=lens.edit)
        effort = Effort(lens.strength_images, lens.side_effect_budget) if search else None
        return cls(f"{prompt.id}-{attribute}", mitigation, prompt, effort)


@dataclass(frozen=True)
class StrengthAnswer:
    """What a worker found for one prompt and edit.

    Attributes:
        projection: Group → projection of the first denoising step of the prompt; empty without a lens.
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
        network: Network of the model.
        judge: Judge of the trial images.
        groups: Attribute → groups that are judged.
        template: Of the audit's prompts.
        lens: Path or address of the lens, None if the edits need none.
        fits: Name of a mitigation → path or address of its finished fit.
    """

    network: NetworkSettings
    judge: JudgeConfig
    groups: Attributes
    template: str
    lens: str | None = None
    fits: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of_lens(cls, request: DissectionRequest, lens: Place) -> StrengthSettings:
        """Return the settings of a dissection; side effects are looked for in every audited attribute."""
        return cls(
            network=NetworkSettings(request.model, request.sampling, request.lens.hookpoint),
            judge=request.judge,
            groups=request.attributes,
            template=request.prompts.template,
            lens=str(lens),
        )


class StrengthWorker:
    """Finds strengths; a plain class, run by ``make_parts``."""

    def __init__(self, settings: StrengthSettings) -> None:
        """Load the model and its judge."""
        from audit.perception.judges.registry import load_judge

        self._settings = settings
        self._generator = settings.network.load()
        self._judge = load_judge(settings.judge, settings.network.model, settings.groups)
        self._interventions: dict[str, Intervene] = {}

    def do(self, task: StrengthTask) -> StrengthAnswer:
        """Find the strengths of one prompt and edit."""
        from audit.dissect.observer import project

        tried = {} if task.effort is None else self._tried(task, task.effort)
        lens, attribute = self._lens, task.mitigation.attribute
        projection = {} if lens is None else project(self._generator, lens, task.prompt, attribute)
        return StrengthAnswer(projection, {group: tuple(rungs) for group, rungs in tried.items()})

    def _tried(self, task: StrengthTask, effort: Effort) -> dict[str, list[Tried]]:
        from audit.mitigate.strength import StrengthSearch, try_strengths

        settings, attribute = self._settings, task.mitigation.attribute
        search = StrengthSearch(
            prompt=task.prompt,
            template=settings.template,
            attribute=attribute,
            groups=settings.groups[attribute],
            images=effort.images,
            budget=effort.budget,
        )
        return try_strengths(self._generator, self._judge, self._intervention(task.mitigation), search)

    def _intervention(self, mitigation: MitigationConfig) -> Intervene:
        from audit.mitigate.registry import ready_interventions

        key = f"{mitigation.name}-{mitigation.attribute}"
        if key not in self._interventions:
            with ExitStack() as held:
                place = self._settings.fits.get(mitigation.name)
                fits = {} if place is None else {mitigation.name: held.enter_context(folder_on_disk(place_of(place)))}
                self._interventions[key] = ready_interventions([mitigation], self._lens, fits)[mitigation.name]
        return self._interventions[key]

    @cached_property
    def _lens(self) -> Lens | None:
        from audit.dissect.lens import Lens
        from audit.models.device import device_here

        if self._settings.lens is None:
            return None
        with folder_on_disk(place_of(self._settings.lens)) as directory:
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
        raise DissectionError.during("the search for strengths", error) from error
    return {task.id: files.read(task) for task in tasks}


def _encoded(answer: StrengthAnswer) -> bytes:
    return json.dumps(answer.as_data()).encode()


def _decoded(data: bytes) -> StrengthAnswer:
    return StrengthAnswer.of_data(json.loads(data))


def _described(budget: float, answer: StrengthAnswer) -> str:
    found = answer.strengths(budget)
    words = (f"{group} {one.strength:g}{' not controllable' * (one.control == 'none')}" for group, one in found.items())
    return ": " + ", ".join(words) if found else ""
