"""Finds the lens that fits a config, or makes it on the workers."""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from audit.calibration.bundle import bundle_of
from audit.config.sections import WorkersConfig
from audit.config.slices import DissectionRequest
from audit.dissect.card import card
from audit.dissect.prediction import fit_lines
from audit.dissect.settings import (
    CARD_FILE,
    EXAMPLES,
    LENS_FILE,
    RECORDING,
    SHAPE_FILE,
    dissected_groups,
    dissected_prompts,
    dissection_of,
    lens_name,
    lens_settings,
)
from audit.dissect.strengths import Strengths, strengths_as_data
from audit.models.source import model_fingerprint
from audit.preflight.prompt_lengths import lens_texts
from audit.storage.files import storage_of
from audit.storage.folder_copy import folder_to_fill, move_folder
from audit.storage.place import Place, place_of
from ray_jobs.cluster.connection import connect, threads_of_a_whole_node
from ray_jobs.run.network import NetworkSettings
from ray_jobs.run.parts import PreparationError, WorkerPool, results_of
from ray_jobs.run.prepare.strengths import (
    DissectionError,
    StrengthAnswer,
    StrengthSettings,
    StrengthTask,
    answer_files,
    answers_of,
)

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Build:
    """The step that builds a lens.

    Attributes:
        place: Path or address of the directory that the lens is written to.
    """

    place: str
    id: str = "build"


class LensBuilder:
    """Builds a lens without its strengths; a plain class, run by ``results_of``."""

    def __init__(self, request: DissectionRequest) -> None:
        """Load the model and its judge, and check that the model reads every prompt to its end."""
        from audit.models.liveness import require_live
        from audit.perception.judges.registry import load_judge

        lens = request.lens
        self._request, self._groups = request, dissected_groups(lens, request.attributes)
        self._prompts = dissected_prompts(request)
        self._generator = NetworkSettings(request.model, request.sampling, lens.hookpoint).load()
        reader = self._generator.reader
        if reader is not None:
            reader.check(lens_texts(request.prompts.template, self._groups, self._prompts, reader))
        require_live(self._generator, [lens.hookpoint], self._prompts[0].text)
        self._judge = load_judge(request.judge, request.model, self._groups)

    def do(self, step: Build) -> None:
        """Build the lens and store it; an interrupted build continues from its recording."""
        from audit.dissect.build import build_lens
        from audit.dissect.examples import write_examples
        from audit.dissect.recording.recorder import Recorder
        from audit.dissect.recording.trajectories import plan_trajectories

        request, groups, settings = self._request, self._groups, dissection_of(self._request)
        trajectories = plan_trajectories(self._prompts, groups, request.prompts.template, settings)
        place = place_of(step.place)
        recorder = Recorder(self._generator, self._judge, groups, trajectories, settings, recording_directory(place))
        lens, recording = build_lens(recorder, groups, settings, lens_settings(request), self._generator.fingerprint)
        with folder_to_fill(place, last=LENS_FILE) as directory:
            write_examples(lens, recording, directory)
            lens.save(directory)
        recorder.delete()


def recording_directory(place: Place) -> Path:
    """Return the local directory in which a lens that is being made records maps.

    It is beside the lens, so that any worker that shares the directory can continue. For a lens in an object store it
    is in this machine's directory for temporary files, where only this machine continues.
    """
    return (place if isinstance(place, Path) else Path(tempfile.gettempdir()) / place.name) / RECORDING


def dissect(
    request: DissectionRequest,
    output: str,
    workers: WorkersConfig,
    *,
    address: str | None = None,
    fresh: bool = False,
) -> Place:
    """Make the lens of a request and return its directory; an existing lens is kept unless ``fresh``.

    Args:
        request: What the lens is made from.
        output: Path or address of the directory that holds lenses.
        workers: Workers that make it.
        address: A Ray cluster; None for this machine.
        fresh: Make the lens again.
    """
    found = None if fresh else find_lens(request, output)
    if found is not None:
        return found
    with connect(address, workers) as cluster:
        return make_lens(request, output, WorkerPool(workers, cluster))


def ensure_lens(request: DissectionRequest, output: str, pool: WorkerPool) -> Place:
    """Return the lens of a request; it is made first if there is none.

    Raises:
        DissectionError: If a step failed.
    """
    return find_lens(request, output) or make_lens(request, output, pool)


def find_lens(request: DissectionRequest, output: str) -> Place | None:
    """Return the lens that the config names, that is bundled with the model, or that was made before; None if none."""
    if request.lens.path is not None:
        return Path(request.lens.path)
    name = lens_name(model_fingerprint(request.model), lens_settings(request))
    bundle = bundle_of(request.model)
    places: list[Place] = [bundle.lenses / name] if bundle else []
    return next((p for p in [*places, _made_lens(output, name)] if storage_of(p).has(LENS_FILE)), None)


def _made_lens(output: str, name: str) -> Place:
    return place_of(output) / "lenses" / name


def make_lens(request: DissectionRequest, output: str, pool: WorkerPool) -> Place:
    """Dissect the model: one worker with all threads of a node builds the lens, then all workers search strengths.

    An interrupted dissection resumes: the lens and each answer are stored in ``<name>.partial``.

    Raises:
        DissectionError: If a step failed.
    """
    directory = _made_lens(output, lens_name(model_fingerprint(request.model), lens_settings(request))).absolute()
    partial_directory = directory.parent / f"{directory.name}.partial"
    if not storage_of(partial_directory).has(LENS_FILE):
        LOG.info("Dissecting the model into %s", directory)
        _build(request, partial_directory, pool)
    _search_all(request, partial_directory, pool)
    _put_in_place(partial_directory, directory)
    return directory


def _build(request: DissectionRequest, directory: Place, pool: WorkerPool) -> None:
    threads = threads_of_a_whole_node(pool.workers, pool.cluster)
    whole_node = replace(pool, workers=pool.workers.model_copy(update={"count": 1, "threads": threads}))
    try:
        for _ in results_of(LensBuilder, request, [Build(str(directory))], whole_node):
            pass
    except PreparationError as error:
        raise DissectionError(f"the dissection: {error}") from error


def _put_in_place(partial_directory: Place, directory: Place) -> None:
    if isinstance(partial_directory, Path) and isinstance(directory, Path):
        shutil.rmtree(recording_directory(partial_directory), ignore_errors=True)  # left by a worker that was killed
        shutil.rmtree(directory, ignore_errors=True)
        os.replace(partial_directory, directory)
    else:
        move_folder(partial_directory, directory, folders=(EXAMPLES,), last=LENS_FILE)


def _search_all(request: DissectionRequest, directory: Place, pool: WorkerPool) -> None:
    """Search the strengths that are not stored yet, then write all strengths into the lens."""
    tasks = [
        StrengthTask.of_lens(prompt, attribute, request.lens)
        for prompt in dissected_prompts(request)
        for attribute in request.lens.attributes
    ]
    storage, budget = storage_of(directory), request.lens.side_effect_budget
    files = answer_files(directory, budget)
    answers = answers_of(tasks, StrengthSettings.of_lens(request, directory), files, pool)
    plain = json.loads(storage.read(LENS_FILE)) | _strengths_and_lines(tasks, answers, budget)
    name = lens_name(plain["model_fingerprint"], plain["settings"])
    storage.write(CARD_FILE, card(name, plain, json.loads(storage.read(SHAPE_FILE))).encode())
    storage.write(LENS_FILE, (json.dumps(plain, indent=1) + "\n").encode())
    files.delete(tasks)


def _strengths_and_lines(
    tasks: Sequence[StrengthTask], answers: Mapping[str, StrengthAnswer], budget: float
) -> dict[str, Any]:
    """Return what the answers add to a lens: strengths, and the lines that predict those of other prompts."""
    strengths: Strengths = {}
    projections: dict[str, dict[str, dict[str, float]]] = {}
    for task in tasks:
        answer, attribute = answers[task.id], task.mitigation.attribute
        strengths.setdefault(attribute, {})[task.prompt.id] = answer.strengths(budget)
        projections.setdefault(attribute, {})[task.prompt.id] = answer.projection
    lines = {attribute: fit_lines(projections[attribute], found) for attribute, found in strengths.items()}
    return {
        "strengths": strengths_as_data(strengths),
        "prediction": {
            attribute: {group: line.as_data() for group, line in by_group.items()}
            for attribute, by_group in lines.items()
        },
    }
