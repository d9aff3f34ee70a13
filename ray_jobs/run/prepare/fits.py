"""Fits the methods of an audit before its first shard: in each round one part for each prompt, which one step joins.

A method that is trained has one round, whose last step trains on the parts. A finished fit is named by content, so
audits of one model share it. An interrupted fit resumes with the missing parts, a training from its last checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from audit.config.sections import JudgeConfig, ModelConfig
from audit.config.slices import MeasurementRequest
from audit.dissect.settings import LENS_FILE
from audit.models.source import model_fingerprint
from audit.perception.judges.registry import judge_name
from audit.planning.fits import (
    CARD_FILE,
    FIT_FILE,
    FITS,
    PARTS,
    TENSORS_FILE,
    TRAINING_FILE,
    FitRequest,
    card,
    cost_of_fit,
    fit_name,
    fit_requests,
    fit_settings,
    steps_of_fits,
)
from audit.records.work import Prompt
from audit.storage.files import storage_of
from audit.storage.place import Place, place_of
from audit.storage.provenance import short_fingerprint
from audit.storage.run_directory import FIT_COSTS, RunDirectory
from ray_jobs.cluster.connection import threads_of_a_whole_node
from ray_jobs.run.network import NetworkSettings
from ray_jobs.run.parts import PartFiles, PreparationError, WorkerPool, make_parts, results_of
from ray_jobs.run.prepare.training_progress import reported

if TYPE_CHECKING:
    from torch import Tensor

    from audit.mitigate.method import RoundsFit, TrainedFit
    from audit.mitigate.tools import FitTools

SUFFIX = ".safetensors"


class FitError(PreparationError):
    """A step of fitting a method failed."""


@dataclass(frozen=True)
class FitSettings:
    """What a worker needs to fit a method.

    Attributes:
        request: The method and what it is fitted with.
        measured: The model, and how the audit measures.
        place: Path or address of the directory of the fit.
        lens: Path or address of the lens; None if the audit has none.
    """

    request: FitRequest
    measured: MeasurementRequest
    place: str
    lens: str | None = None

    @property
    def method(self) -> RoundsFit | TrainedFit:
        """How the method is fitted.

        Raises:
            ValueError: If the method is not fitted.
        """
        from audit.mitigate.method import TrainedFit, in_rounds
        from audit.mitigate.registry import METHODS

        name = self.request.mitigation.method
        fit = METHODS[name].fit
        if fit is None:
            raise ValueError(f"method {name!r} has nothing to fit")
        return fit if isinstance(fit, TrainedFit) else in_rounds(fit)

    @property
    def training_steps(self) -> int:
        """Steps of the training; 0 if the method takes none."""
        return steps_of_fits([self.request])

    def tools(self) -> FitTools:
        """Load the model; everything else is loaded when it is used."""
        from audit.mitigate.tools import fit_tools

        measured, request = self.measured, self.request
        network = NetworkSettings(measured.model, measured.sampling, measured.hookpoint)
        attributes = {request.mitigation.attribute: request.groups}
        return fit_tools(network.load(), measured, attributes, None if self.lens is None else place_of(self.lens))

    def found_in(self, round_number: int) -> dict[str, Tensor]:
        """Return what a round found; empty before the first."""
        return {} if round_number < 0 else _decoded(storage_of(place_of(self.place)).read(found_file(round_number)))


@dataclass(frozen=True)
class FitTask:
    """One prompt in one round."""

    prompt: Prompt
    round_number: int

    @property
    def id(self) -> str:
        """Id of the prompt."""
        return self.prompt.id


@dataclass(frozen=True)
class Join:
    """The step that joins the parts of a round, or trains on them.

    Attributes:
        prompts: Prompts of the parts.
        round_number: The round.
        id: Name in messages.
    """

    prompts: tuple[Prompt, ...] = ()
    round_number: int = 0
    id: str = "join"


@dataclass(frozen=True)
class Joined:
    """What a step that joins tells the driver.

    Attributes:
        finished: Whether the fit is stored; else another round follows.
        report: Figures of the training for the card.
    """

    finished: bool
    report: dict[str, float] = field(default_factory=dict)


class FitWorker:
    """Computes the parts of a fit; a plain class, run by ``make_parts``."""

    def __init__(self, settings: FitSettings) -> None:
        self._settings = settings

    @cached_property
    def _tools(self) -> FitTools:
        return self._settings.tools()

    def do(self, task: FitTask) -> dict[str, Tensor]:
        """Return the sums, or the examples, of one prompt."""
        from audit.mitigate.method import TrainedFit

        settings, method = self._settings, self._settings.method
        if isinstance(method, TrainedFit):
            return method.examples(self._tools, settings.request, task.prompt)
        before = settings.found_in(task.round_number - 1)
        return method.part(self._tools, settings.request, task.prompt, before)


class JoinWorker:
    """Joins the parts of a round, or trains on them, and stores the result; the driver loads no torch."""

    def __init__(self, settings: FitSettings) -> None:
        self._settings = settings

    def do(self, step: Join) -> Joined:
        """Store what was found, and return whether it is the fit."""
        from audit.mitigate.method import TrainedFit

        method = self._settings.method
        if isinstance(method, TrainedFit):
            return self._trained(method, step)
        return self._joined(method, step.round_number)

    def _joined(self, method: RoundsFit, number: int) -> Joined:
        settings, storage = self._settings, storage_of(place_of(self._settings.place))
        if not storage.has(found_file(number)):
            sums = _summed(settings.place, parts_folder(number))
            found = method.join(settings.request, sums, settings.found_in(number - 1))
            storage.write(found_file(number), _encoded(found))
        found = settings.found_in(number)
        finished = number + 1 == method.rounds(settings.request) or method.is_finished(settings.request, found)
        if finished:
            storage.write(TENSORS_FILE, _encoded(found))
        return Joined(finished)

    def _trained(self, method: TrainedFit, step: Join) -> Joined:
        from audit.mitigate.training import StoredCheckpoint

        settings, files = self._settings, part_files(self._settings, step.round_number)
        storage = storage_of(place_of(settings.place))
        examples = [(prompt, files.read(FitTask(prompt, step.round_number))) for prompt in step.prompts]
        checkpoint = StoredCheckpoint(storage, TRAINING_FILE)
        found = method.train(settings.tools(), settings.request, examples, checkpoint)
        storage.write(TENSORS_FILE, _encoded(found.tensors))
        return Joined(True, dict(found.report))


def ensure_fits(
    request: MeasurementRequest, output: str, prompts: Sequence[Prompt], pool: WorkerPool, lens: Place | None = None
) -> dict[str, Place]:
    """Return the directory of the fit of every mitigation that is fitted; missing fits are made first.

    Args:
        request: How the images are made and measured.
        output: Path or address of the directory that holds the fits.
        prompts: Prompts of the audit.
        pool: Where the fits are made.
        lens: Directory of the lens; None if the audit needs none.

    Raises:
        FitError: If a step failed.
    """
    fingerprint = model_fingerprint(request.model)
    path = None if lens is None else str(lens.absolute())
    fits: dict[str, Place] = {}
    for one in fit_requests(request):
        settings = fit_settings(one, prompts, dict(used_by(request, one, lens)))
        place = place_of(output).absolute() / FITS / fit_name(fingerprint, settings)
        fits[one.mitigation.name] = place
        storage = storage_of(place)
        if not (storage.has(FIT_FILE) and storage.has(TENSORS_FILE)):
            started, made = time.monotonic(), FitSettings(one, request, str(place), path)
            rounds, report = _fit(made, prompts, pool)
            cost = cost_of_fit(one, prompts) | {"rounds": rounds, "seconds": round(time.monotonic() - started, 1)}
            storage.write(CARD_FILE, card(place.name, fingerprint, settings, cost | report).encode())
            plain = {"settings": settings, "model_fingerprint": fingerprint, "cost": cost, "report": report}
            storage.write(FIT_FILE, (json.dumps(plain, indent=1) + "\n").encode())  # last: it marks the fit as finished
            for number in range(rounds):
                part_files(made, number).delete(prompts)
                storage.delete(found_file(number))
            storage.delete(TRAINING_FILE)
    return fits


def keep_fit_costs(fits: Mapping[str, Place], run: RunDirectory) -> None:
    """Store in a run what each of its fits cost when it was made.

    Args:
        fits: Name of a mitigation → directory of its fit.
        run: The run.
    """
    cards = {name: json.loads(storage_of(place).read(FIT_FILE)) for name, place in fits.items()}
    if cards:
        run.write_json(FIT_COSTS, {name: card.get("cost", {}) for name, card in cards.items()})


def used_by(request: MeasurementRequest, fit: FitRequest, lens: Place | None) -> Iterator[tuple[str, str]]:
    """Yield what a fit uses besides the model, with its name by content."""
    if "clip" in fit.mitigation.trained_with:
        from audit.perception.embedders.clip_directory import clip_name

        yield "clip", clip_name(request.quality.clip, request.model)
    if "dino" in fit.mitigation.trained_with and request.quality.dino is not None:
        yield "dino", short_fingerprint(Path(request.quality.dino))
    if "outside" in fit.mitigation.trained_with and request.quality.outside is not None:
        from audit.perception.segmenters.outside import outside_name

        yield "outside", outside_name(request.quality.outside, request.model)
    if fit.mitigation.fit_uses_judge:
        yield "judge", judge_name(request.judge, request.model)
        yield from _changed(request.judge, ("min_confidence", "races"))
    yield from _changed(request.model, ("dtype", "compile"))
    if fit.mitigation.uses_lens and lens is not None:
        yield "lens", hashlib.sha256(storage_of(lens).read(LENS_FILE)).hexdigest()[:16]


def _changed(section: JudgeConfig | ModelConfig, keys: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield keys that no fingerprint contains; a default is left out, so that it changes no name of an older fit."""
    for key in keys:
        value = getattr(section, key)
        if value != type(section).model_fields[key].default:
            yield key, str(value)


def parts_folder(round_number: int) -> str:
    """Name the folder of the parts of a round."""
    return f"{PARTS}-{round_number}"


def found_file(round_number: int) -> str:
    """Name the file with what a round found."""
    return f"found-{round_number}{SUFFIX}"


def part_files(settings: FitSettings, round_number: int) -> PartFiles[dict[str, Tensor]]:
    """Return the files of the parts of a round."""
    title = f"Fit of {settings.request.mitigation.name}, round {round_number + 1}"
    return PartFiles(title, settings.place, parts_folder(round_number), SUFFIX, _encoded, _decoded)


def _fit(settings: FitSettings, prompts: Sequence[Prompt], pool: WorkerPool) -> tuple[int, dict[str, float]]:
    """Do the rounds that are missing; return how many the fit has, and figures for the card."""
    storage, number = storage_of(place_of(settings.place)), 0
    try:
        while True:
            files = part_files(settings, number)
            if not storage.has(found_file(number)):
                make_parts(FitWorker, settings, [FitTask(prompt, number) for prompt in prompts], files, pool)
            with reported(files.title, settings.training_steps, storage):
                step = Join(tuple(prompts), number)
                [(_, joined)] = results_of(JoinWorker, settings, [step], _for_join(settings, pool))
            number += 1
            if joined.finished:
                return number, joined.report
    except PreparationError as error:
        raise FitError.during(f"fitting the method of {settings.request.mitigation.name}", error) from error


def _for_join(settings: FitSettings, pool: WorkerPool) -> WorkerPool:
    """Return the pool of the step that joins; a training has all threads of a node."""
    if not settings.training_steps:
        return pool
    threads = threads_of_a_whole_node(pool.workers, pool.cluster)
    return replace(pool, workers=pool.workers.model_copy(update={"count": 1, "threads": threads}))


def _encoded(tensors: dict[str, Tensor]) -> bytes:
    from safetensors.torch import save

    data: bytes = save({name: tensor.contiguous() for name, tensor in tensors.items()})
    return data


def _decoded(data: bytes) -> dict[str, Tensor]:
    from safetensors.torch import load

    tensors: dict[str, Tensor] = load(data)
    return tensors


def _summed(place: str, folder: str) -> dict[str, Tensor]:
    """Add the sums of all prompts, key by key."""
    storage, total = storage_of(place_of(place)), dict[str, "Tensor"]()
    for name in sorted(storage.names(folder)):
        for key, tensor in _decoded(storage.read(f"{folder}/{name}")).items():
            total[key] = total[key] + tensor if key in total else tensor
    return total
