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
    """

    lens: LensConfig
    place: Place

    @property
    def card(self) -> dict[str, Any]:
        """Its settings and quality, as ``lens.json`` holds them."""
        found: dict[str, Any] = json.loads(storage_of(self.place).read(LENS_FILE))
        return found

    @property
    def searched(self) -> bool:
        """Whether its strengths were searched."""
        return bool(self.card["strengths"])

    @property
    def lacks_strengths(self) -> bool:
        """Whether strengths are missing that may be added: not to a lens that the config names."""
        return self.lens.path is None and not self.searched


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
    places = [None if fresh else find_lens(one, output) for one in requests]
    missing = [one for one, place in zip(requests, places, strict=True) if not place]
    lenses = tuple(
        Dissected(one.lens, place or _made_lens(one, output)) for one, place in zip(requests, places, strict=True)
    )
    if missing or lenses[0].lacks_strengths:
        with connect(address, workers) as cluster:
            pool = WorkerPool(workers, cluster)
            _make_lenses(missing, output, pool, fresh=fresh)
            _add_strengths(requests[0], lenses[0], pool)
    return lenses


def ensure_lens(request: DissectionRequest, output: str, pool: WorkerPool, *, steers: bool) -> Place:
    """Return the lens of a request. If no lens exists, it is made first.

    Interrupted work resumes: parts of the recording and answers of the search are stored.

    Args:
        request: What it is made from.
        output: Path or address of the directory that holds lenses.
        pool: Where it is made.
        steers: Whether edits take their strengths from it. They are searched if it has none, unless the config names
            the lens: what another dissection made is not changed, and an audit keeps its own strengths.

    Raises:
        DissectionError: If a step failed.
    """
    place = find_lens(request, output)
    if not place:
        [place] = _make_lenses([request], output, pool)
    lens = Dissected(request.lens, place)
    if steers:
        _add_strengths(request, lens, pool)
    return lens.place


def find_lens(request: DissectionRequest, output: str) -> Place | None:
    """Return the lens that the config names, that is bundled with the model, or that was made before; None if none."""
    if request.lens.path is not None:
        return Path(request.lens.path)
    made, bundle = _made_lens(request, output), bundle_of(request.model)
    places: list[Place] = [bundle.lenses / made.name, made] if bundle else [made]
    return next((place for place in places if storage_of(place).has(LENS_FILE)), None)


def _made_lens(request: DissectionRequest, output: str) -> Place:
    name = lens_name(model_fingerprint(request.model), lens_settings(request))
    return place_of(output).absolute() / "lenses" / name


def _make_lenses(
    requests: Sequence[DissectionRequest], output: str, pool: WorkerPool, *, fresh: bool = False
) -> list[Place]:
    """Dissect the model: workers record, one of them builds each lens, without strengths. Return the lenses' places.

    An interrupted dissection resumes; what is finished of a lens is in ``<name>.partial``.
    """
    places = [_made_lens(one, output) for one in requests]
    partial = [place.parent / f"{place.name}.partial" for place in places]
    if fresh:
        for one in partial:
            storage_of(one).delete(LENS_FILE)
    build_lenses(requests, partial, pool)
    for built, place in zip(partial, places, strict=True):
        _put_in_place(built, place)
    return places


def _put_in_place(partial_directory: Place, directory: Place) -> None:
    if isinstance(partial_directory, Path) and isinstance(directory, Path):
        shutil.rmtree(directory, ignore_errors=True)
        os.replace(partial_directory, directory)
    else:
        move_folder(partial_directory, directory, folders=(EXAMPLES,), last=LENS_FILE)


def _add_strengths(request: DissectionRequest, lens: Dissected, pool: WorkerPool) -> None:
    """Search the strengths that are not stored yet and write all strengths into the lens, if it lacks them."""
    if not lens.lacks_strengths:
        return
    directory = lens.place
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
