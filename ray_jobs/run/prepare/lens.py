"""Finds the lens that fits a config, or makes it on the workers."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audit.calibration.bundle import bundle_of
from audit.config.sections import LensConfig, WorkersConfig
from audit.config.slices import DissectionRequest
from audit.dissect.card import card
from audit.dissect.prediction import fit_lines
from audit.dissect.settings import (
    CARD_FILE,
    EXAMPLES,
    LENS_FILE,
    SHAPE_FILE,
    dissected_prompts,
    lens_name,
    lens_settings,
)
from audit.dissect.strengths import Strengths, strengths_as_data
from audit.models.source import model_fingerprint
from audit.storage.files import storage_of
from audit.storage.folder_copy import move_folder
from audit.storage.place import Place, place_of
from ray_jobs.cluster.connection import connect
from ray_jobs.run.parts import WorkerPool
from ray_jobs.run.prepare.building import build_lenses
from ray_jobs.run.prepare.strengths import (
    StrengthAnswer,
    StrengthSettings,
    StrengthTask,
    answer_files,
    answers_of,
)


@dataclass(frozen=True)
class Dissected:
    """A lens that a dissection found or made.

    Attributes:
        lens: Its section of the config.
        place: Its directory.
        searched: Whether it has strengths.
    """

    lens: LensConfig
    place: Place
    searched: bool

    @property
    def card(self) -> dict[str, Any]:
        """Its settings and quality, as ``lens.json`` holds them."""
        found: dict[str, Any] = json.loads(storage_of(self.place).read(LENS_FILE))
        return found


def dissect(
    request: DissectionRequest,
    output: str,
    workers: WorkersConfig,
    *,
    address: str | None = None,
    fresh: bool = False,
) -> tuple[Dissected, ...]:
    """Make the lens of a request and its variants from the same images; lenses that exist are kept unless ``fresh``.

    Strengths are searched for the first. Those of a variant are searched when an audit first needs them.

    Args:
        request: What the lenses are made from.
        output: Path or address of the directory that holds lenses.
        workers: Workers that make them.
        address: A Ray cluster; None for this machine.
        fresh: Make the lenses again.
    """
    requests = request.of_each_lens()
    if fresh:
        for one in requests:
            storage_of(_partial(one, output)).delete(LENS_FILE)
    missing = [one for one in requests if fresh or find_lens(one, output) is None]
    if missing:
        with connect(address, workers) as cluster:
            pool = WorkerPool(workers, cluster)
            build_lenses(missing, [_partial(one, output) for one in missing], pool)
            if missing[0] == requests[0]:
                make_lens(requests[0], output, pool)
    return tuple(_dissected(one, output) for one in requests)


def _dissected(request: DissectionRequest, output: str) -> Dissected:
    found = find_lens(request, output)
    return Dissected(request.lens, found or _partial(request, output), searched=found is not None)


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


def _partial(request: DissectionRequest, output: str) -> Place:
    """Return the directory of a lens whose strengths are not all searched."""
    directory = _made_lens(output, lens_name(model_fingerprint(request.model), lens_settings(request))).absolute()
    return directory.parent / f"{directory.name}.partial"


def make_lens(request: DissectionRequest, output: str, pool: WorkerPool) -> Place:
    """Dissect the model: workers record, one of them builds the lens, then all of them search strengths.

    An interrupted dissection resumes: the lens and each answer are stored in ``<name>.partial``.

    Raises:
        DissectionError: If a step failed.
    """
    partial_directory = _partial(request, output)
    directory = partial_directory.parent / partial_directory.name.removesuffix(".partial")
    build_lenses([request], [partial_directory], pool)
    _search_all(request, partial_directory, pool)
    _put_in_place(partial_directory, directory)
    return directory


def _put_in_place(partial_directory: Place, directory: Place) -> None:
    if isinstance(partial_directory, Path) and isinstance(directory, Path):
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
