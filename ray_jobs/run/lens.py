"""Dissecting a model before its audit: the lens that fits a config, made on the workers where there is none yet."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audit.calibration.bundle import bundle_of
from audit.config.sections import WorkersConfig
from audit.config.settings import AuditConfig
from audit.dissect.card import card
from audit.dissect.prediction import fit_lines
from audit.dissect.settings import (
    CARD_FILE,
    EXAMPLES,
    LENS_FILE,
    SHAPE_FILE,
    dissected_groups,
    dissected_prompts,
    dissection_of,
    lens_name,
    lens_settings,
    needs_lens,
)
from audit.dissect.strengths import GroupStrength, Strengths, Tried, choose_strengths, strengths_as_data
from audit.models.source import model_fingerprint
from audit.preflight.prompt_lengths import lens_texts
from audit.records.work import Prompt
from audit.storage.files import storage_of
from audit.storage.folder_copy import folder_on_disk, folder_to_fill, move_folder
from audit.storage.place import Place, place_of
from ray_jobs.cluster.connection import Cluster, connect, threads_of_a_whole_node
from ray_jobs.run.preparation import PreparationError, network_of, results_of

if TYPE_CHECKING:
    from audit.dissect.lens import Lens

LOG = logging.getLogger(__name__)
STRENGTHS = "strengths"


class DissectionError(PreparationError):
    """A step of the dissection failed."""


@dataclass(frozen=True)
class LensTask:
    """One step of making a lens, or of finding the strengths of a prompt that it was not made from.

    Attributes:
        id: Name in messages and of the file that keeps the answer.
        attribute: None builds the lens; an attribute looks at ``prompt`` for its strengths.
        prompt: The prompt whose strengths are wanted.
        search: Whether edits are drawn; otherwise only the first step of the unedited prompt is looked at.
    """

    id: str
    attribute: str | None = None
    prompt: Prompt | None = None
    search: bool = True


@dataclass(frozen=True)
class LensAnswer:
    """What a worker found out about one prompt and attribute.

    Attributes:
        projection: Group → projection of the prompt's first denoising step.
        tried: Group → edits that were drawn, from weak to strong; empty where none was.
    """

    projection: dict[str, float]
    tried: dict[str, tuple[Tried, ...]]

    def as_data(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)

    @classmethod
    def of_data(cls, data: Mapping[str, Any]) -> LensAnswer:
        """Read plain data back."""
        tried = {group: tuple(Tried(**rung) for rung in rungs) for group, rungs in data["tried"].items()}
        return cls(data["projection"], tried)

    def strengths(self, budget: float) -> dict[str, GroupStrength]:
        """Choose each group's strength among those that were drawn."""
        return choose_strengths(self.tried, budget)


class LensWorker:
    """Builds a lens, or finds strengths with it; a plain class, made remote by ``results_of``."""

    def __init__(self, config: AuditConfig, directory: str, threads: int, working_directory: str) -> None:
        """Load the model and its judge; relative paths in the config start from ``working_directory``."""
        from audit.perception.judges.classifiers import load_judge

        generator = network_of(config, threads, working_directory)
        if generator.reader is not None and config.lens.path is None:  # it may have to be made
            generator.reader.check(lens_texts(config, dissected_prompts(config), generator.reader))
        self._config, self._place, self._generator = config, place_of(directory), generator
        self._judge = load_judge(config.judge, config.model, dissected_groups(config))

    def do(self, task: LensTask) -> LensAnswer | None:
        """Do one step; the building itself has no answer."""
        if task.attribute is None or task.prompt is None:
            self._build()
            return None
        from audit.dissect.observer import project
        from audit.mitigate.strength import StrengthSearch, try_strengths

        settings, lens = self._config.lens, self._lens
        tried = {}
        if task.search:
            search = StrengthSearch(task.prompt, task.attribute, settings.strength_images, settings.side_effect_budget)
            tried = try_strengths(self._generator, self._judge, lens, search)
        projection = project(self._generator, lens, task.prompt, task.attribute)
        return LensAnswer(projection, {group: tuple(rungs) for group, rungs in tried.items()})

    @cached_property
    def _lens(self) -> Lens:
        from audit.dissect.lens import Lens
        from audit.models.device import device_here

        with folder_on_disk(self._place) as directory:
            return Lens.load(directory).to(device_here())

    def _build(self) -> None:
        from audit.dissect.build import Recorder, build_lens, plan_trajectories
        from audit.dissect.examples import write_examples

        config, settings, groups = self._config, dissection_of(self._config), dissected_groups(self._config)
        trajectories = plan_trajectories(dissected_prompts(config), groups, config.prompts.template, settings)
        recorder = Recorder(self._generator, self._judge, groups, trajectories, settings)
        lens = build_lens(recorder, groups, settings, lens_settings(config), self._generator.fingerprint)
        with folder_to_fill(self._place, last=LENS_FILE) as directory:
            write_examples(lens, recorder.recording(), directory)
            lens.save(directory)


def dissect(config: AuditConfig, *, address: str | None = None, fresh: bool = False) -> Place:
    """Make the lens that a config asks for and return its directory; an existing one is kept unless ``fresh``."""
    found = None if fresh else find_lens(config)
    if found is not None:
        return found
    with connect(address, config.workers) as cluster:
        return make_lens(config, cluster)


def ensure_lens(config: AuditConfig, cluster: Cluster) -> Place | None:
    """Return the lens that an audit needs, made first where there is none; None where it needs none.

    Raises:
        DissectionError: A step of the dissection failed.
    """
    if not needs_lens(config):
        return None
    return find_lens(config) or make_lens(config, cluster)


def find_lens(config: AuditConfig) -> Place | None:
    """Look for the lens: the one that the config names, one that ships with the model, or one made before."""
    if config.lens.path is not None:
        return Path(config.lens.path)
    name = lens_name(model_fingerprint(config.model), lens_settings(config))
    bundle = bundle_of(config.model)
    places: list[Place] = [bundle.lenses / name] if bundle else []
    return next((p for p in [*places, _made_lens(config, name)] if storage_of(p).has(LENS_FILE)), None)


def _made_lens(config: AuditConfig, name: str) -> Place:
    return place_of(config.output) / "lenses" / name


def make_lens(config: AuditConfig, cluster: Cluster) -> Place:
    """Dissect the model: one worker with a node's threads builds, then all search strengths prompt by prompt.

    Interrupted, it goes on: the built lens and each finished search stand in ``<name>.partial``.

    Raises:
        DissectionError: A step failed.
    """
    directory = _made_lens(config, lens_name(model_fingerprint(config.model), lens_settings(config))).absolute()
    partial_directory = directory.parent / f"{directory.name}.partial"
    if not storage_of(partial_directory).has(LENS_FILE):
        LOG.info("dissecting the model into %s", directory)
        threads = threads_of_a_whole_node(config.workers, cluster)
        whole_node = config.workers.model_copy(update={"count": 1, "threads": threads})
        _run_tasks([LensTask("build")], config, partial_directory, whole_node, cluster, partial_directory)
    _search_all(config, partial_directory, cluster)
    _put_in_place(partial_directory, directory)
    return directory


def _put_in_place(partial_directory: Place, directory: Place) -> None:
    if isinstance(partial_directory, Path) and isinstance(directory, Path):
        shutil.rmtree(directory, ignore_errors=True)
        os.replace(partial_directory, directory)
    else:
        move_folder(partial_directory, directory, folders=(EXAMPLES,), last=LENS_FILE)


def _search_all(config: AuditConfig, directory: Place, cluster: Cluster) -> None:
    """Search the strengths that are not on file yet, then write them all into the lens."""
    tasks = [
        LensTask(f"{prompt.id}-{attribute}", attribute, prompt)
        for prompt in dissected_prompts(config)
        for attribute in config.lens.attributes
    ]
    storage = storage_of(directory)
    answers = answers_of(tasks, config, directory, directory, cluster)
    plain = json.loads(storage.read(LENS_FILE))
    plain |= _strengths_and_lines(tasks, answers, config.lens.side_effect_budget)
    name = lens_name(plain["model_fingerprint"], plain["settings"])
    storage.write(CARD_FILE, card(name, plain, json.loads(storage.read(SHAPE_FILE))).encode())
    storage.write(LENS_FILE, (json.dumps(plain, indent=1) + "\n").encode())
    forget_answers(tasks, directory)


def _strengths_and_lines(tasks: Sequence[LensTask], answers: Mapping[str, LensAnswer], budget: float) -> dict[str, Any]:
    """What the searches add to a lens: the strengths, and what predicts those of other prompts."""
    strengths: Strengths = {}
    projections: dict[str, dict[str, dict[str, float]]] = {}
    for task in tasks:
        if task.attribute and task.prompt:
            answer = answers[task.id]
            strengths.setdefault(task.attribute, {})[task.prompt.id] = answer.strengths(budget)
            projections.setdefault(task.attribute, {})[task.prompt.id] = answer.projection
    lines = {attribute: fit_lines(projections[attribute], found) for attribute, found in strengths.items()}
    return {
        "strengths": strengths_as_data(strengths),
        "prediction": {
            attribute: {group: line.as_data() for group, line in by_group.items()}
            for attribute, by_group in lines.items()
        },
    }


def answers_of(
    tasks: Sequence[LensTask], config: AuditConfig, lens: Place, kept_in: Place, cluster: Cluster
) -> dict[str, LensAnswer]:
    """Return the answer to each task by its id; those on file under ``kept_in`` are not asked for again.

    Raises:
        DissectionError: A step failed.
    """
    storage = storage_of(kept_in)
    on_file = storage.names(STRENGTHS)
    todo = [task for task in tasks if f"{task.id}.json" not in on_file]
    if todo:
        LOG.info("looking for the strengths of %d prompts and attributes", len(todo))
    _run_tasks(todo, config, lens, config.workers, cluster, kept_in)
    return {task.id: LensAnswer.of_data(json.loads(storage.read(_answer(task)))) for task in tasks}


def forget_answers(tasks: Sequence[LensTask], kept_in: Place) -> None:
    """Delete answers that are on file, once what follows from them is."""
    for task in tasks:
        storage_of(kept_in).delete(_answer(task))
    if isinstance(kept_in, Path):
        shutil.rmtree(kept_in / STRENGTHS, ignore_errors=True)


def _answer(task: LensTask) -> str:
    return f"{STRENGTHS}/{task.id}.json"


def _run_tasks(
    tasks: Sequence[LensTask],
    config: AuditConfig,
    directory: Place,
    workers: WorkersConfig,
    cluster: Cluster,
    kept_in: Place,
) -> None:
    arguments, number = (config, str(directory), workers.threads), 0
    try:
        for task, value in results_of(LensWorker, arguments, tasks, workers, cluster):
            if value is not None:
                number += 1
                answer: LensAnswer = value
                storage_of(kept_in).write(_answer(task), json.dumps(answer.as_data()).encode())
                LOG.info("strengths %d of %d: %s%s", number, len(tasks), task.id, _told(answer, config))
    except PreparationError as error:
        raise DissectionError(f"the dissection: {error}") from error


def _told(answer: LensAnswer, config: AuditConfig) -> str:
    found = answer.strengths(config.lens.side_effect_budget)
    told = (f"{group} {one.strength:g}{' not controllable' * (one.control == 'none')}" for group, one in found.items())
    return ": " + ", ".join(told) if found else ""
