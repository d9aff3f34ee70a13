"""Dissecting a model before its audit: the lens that fits a config, made on the workers where there is none yet."""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import ray

from audit.calibration.bundle import bundle_of
from audit.config.sections import WorkersConfig
from audit.config.settings import AuditConfig
from audit.dissect.files import EXAMPLES, LENS_FILE
from audit.dissect.settings import dissected_groups, dissected_prompts, dissection_of, lens_name, lens_settings
from audit.folder_copy import folder_on_disk, folder_to_fill, move_folder
from audit.models.source import model_fingerprint
from audit.place import Place, place_of
from audit.prompt_lengths import lens_texts
from audit.records import Prompt
from audit.storage import storage_of
from ray_jobs.cluster import (
    Cluster,
    asked_resources,
    connect,
    threads_of_a_whole_node,
    work_in,
    worker_count,
    worker_resources,
)
from ray_jobs.limits import Deadline, ErrorBudget, PoolLimits
from ray_jobs.pool import Failed, Fault, run_on_pool

LOG = logging.getLogger(__name__)
STRENGTHS = "strengths"
UNHURRIED = Deadline(first_seconds=math.inf)
"""Nobody knows how long the first steps of a dissection take."""


class DissectionError(RuntimeError):
    """A step of the dissection failed."""


@dataclass(frozen=True)
class LensTask:
    """One step of making a lens.

    Attributes:
        id: Name in messages and of the file that keeps the answer.
        attribute: None builds the lens; an attribute searches its strengths for ``prompt``.
        prompt: The prompt whose strengths are searched.
    """

    id: str
    attribute: str | None = None
    prompt: Prompt | None = None


class LensWorker:
    """Builds a lens, or searches its strengths; a plain class, made remote by ``make_lens``."""

    def __init__(self, config: AuditConfig, directory: str, threads: int, working_directory: str) -> None:
        """Load the model and its judge; relative paths in the config start from ``working_directory``."""
        import torch

        from audit.measure.judges import load_judge
        from audit.models.generator import DiffusionGenerator, load_generator

        work_in(working_directory)
        torch.set_num_threads(threads)
        generator = load_generator(config.model, config.sampling, config.lens.hookpoint)
        if not isinstance(generator, DiffusionGenerator):
            raise ValueError(f"model {config.model.source!r} has no network to dissect; remove the mitigations")
        if generator.reader is not None:
            generator.reader.check(lens_texts(config, dissected_prompts(config), generator.reader))
        self._config, self._place, self._generator = config, place_of(directory), generator
        self._judge = load_judge(config.judge, config.model, dissected_groups(config))

    def do(self, task: LensTask) -> dict[str, float]:
        """Do one step and return the strengths by group; nothing for the building itself."""
        if task.attribute is None or task.prompt is None:
            self._build()
            return {}
        from audit.device import device_here
        from audit.dissect.lens import Lens
        from audit.mitigate.strength import search_strengths

        images = self._config.lens.strength_images
        with folder_on_disk(self._place) as directory:
            lens = Lens.load(directory).to(device_here())
        return search_strengths(self._generator, self._judge, lens, task.prompt, task.attribute, images)

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
    """Return the lens that an audit needs, made first where there is none; None where nothing is steered or named.

    Raises:
        DissectionError: A step of the dissection failed.
    """
    if not config.mitigations and config.lens.path is None:
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
        _run_tasks([LensTask("build")], config, partial_directory, whole_node, cluster)
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
    storage = storage_of(directory)
    kept = storage.names(STRENGTHS)
    tasks = [
        LensTask(f"{prompt.id}-{attribute}", attribute, prompt)
        for prompt in dissected_prompts(config)
        for attribute in config.lens.attributes
    ]
    todo = [task for task in tasks if f"{task.id}.json" not in kept]
    LOG.info("searching strengths for %d prompts and attributes", len(todo))
    _run_tasks(todo, config, directory, config.workers, cluster)
    strengths: dict[str, dict[str, Any]] = {attribute: {} for attribute in config.lens.attributes}
    for task in tasks:
        if task.attribute and task.prompt:
            strengths[task.attribute][task.prompt.id] = json.loads(storage.read(_answer(task)))
    plain = json.loads(storage.read(LENS_FILE))
    storage.write(LENS_FILE, (json.dumps(plain | {"strengths": strengths}, indent=1) + "\n").encode())
    if isinstance(directory, Path):
        shutil.rmtree(directory / STRENGTHS)
    else:
        for task in tasks:
            storage.delete(_answer(task))


def _answer(task: LensTask) -> str:
    return f"{STRENGTHS}/{task.id}.json"


def _run_tasks(
    tasks: Sequence[LensTask], config: AuditConfig, directory: Place, workers: WorkersConfig, cluster: Cluster
) -> None:
    if not tasks:
        return
    remote = ray.remote(LensWorker).options(**worker_resources(workers, cluster.gpus))
    make_actor = partial(_start, remote, config, str(directory), workers.threads)
    outcomes = run_on_pool(
        make_actor,
        tasks,
        size=worker_count(workers, cluster),
        submit=lambda actor, task, _attempt: actor.do.remote(task),
        error_budget=ErrorBudget(0),
        limits=PoolLimits(deadline=UNHURRIED, resources=asked_resources(workers, cluster.gpus)),
    )
    number = 0
    with closing(outcomes):
        for outcome in outcomes:
            if isinstance(outcome, Failed):
                raise DissectionError(f"step {outcome.task.id} of the dissection failed: {outcome.reason}")
            if isinstance(outcome, Fault):
                LOG.warning("%s: %s", outcome.kind, outcome.reason)
            elif outcome.task.attribute:
                number += 1
                storage_of(directory).write(_answer(outcome.task), json.dumps(outcome.value).encode())
                LOG.info("strengths %d of %d: %s %s", number, len(tasks), outcome.task.id, outcome.value)


def _start(remote: Any, config: AuditConfig, directory: str, threads: int, _number: int) -> Any:  # noqa: ANN401 - Ray's handles
    return remote.remote(config, directory, threads, str(Path.cwd()))
