"""Fits the methods of an audit before its first shard: in each round one part for each prompt, which one step joins.

A finished fit is named by content, so audits of one model share it. An interrupted fit resumes with the missing parts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from audit.config.sections import JudgeConfig
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
    FitRequest,
    card,
    fit_name,
    fit_requests,
    fit_settings,
)
from audit.records.work import Prompt
from audit.storage.files import storage_of
from audit.storage.folder_copy import folder_on_disk
from audit.storage.place import Place, place_of
from ray_jobs.run.network import NetworkSettings
from ray_jobs.run.parts import PartFiles, PreparationError, WorkerPool, make_parts, results_of

if TYPE_CHECKING:
    from torch import Tensor

    from audit.dissect.lens import Lens
    from audit.mitigate.method import FitTools, RoundsFit
    from audit.perception.judges.interface import Judge

SUFFIX = ".safetensors"


class FitError(PreparationError):
    """A step of fitting a method failed."""


@dataclass(frozen=True)
class FitSettings:
    """What a worker needs to fit a method.

    Attributes:
        request: The method and what it is fitted with.
        network: Network of the model.
        judge: The judge that decides.
        lens: Path or address of the lens; None if the audit has none.
        place: Path or address of the directory of the fit.
    """

    request: FitRequest
    network: NetworkSettings
    judge: JudgeConfig
    lens: str | None
    place: str

    @property
    def method(self) -> RoundsFit:
        """How the method is fitted.

        Raises:
            ValueError: If the method is not fitted.
        """
        from audit.mitigate.method import in_rounds
        from audit.mitigate.registry import METHODS

        name = self.request.mitigation.method
        fit = METHODS[name].fit
        if fit is None:
            raise ValueError(f"method {name!r} has nothing to fit")
        return in_rounds(fit)

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
    """The step that joins the parts of a round."""

    round_number: int = 0
    id: str = "join"


class FitWorker:
    """Computes the parts of a fit; a plain class, run by ``make_parts``."""

    def __init__(self, settings: FitSettings) -> None:
        self._settings = settings

    @cached_property
    def _tools(self) -> FitTools:
        from audit.mitigate.method import FitTools

        return FitTools(self._settings.network.load(), lambda: self._judge, lambda: self._lens)

    @cached_property
    def _judge(self) -> Judge:
        from audit.perception.judges.registry import load_judge

        request = self._settings.request
        attributes = {request.mitigation.attribute: request.groups}
        return load_judge(self._settings.judge, self._settings.network.model, attributes)

    @cached_property
    def _lens(self) -> Lens:
        from audit.dissect.lens import Lens
        from audit.models.device import device_here

        if self._settings.lens is None:
            raise ValueError("expected a lens for this fit, found none; dissect the model first")
        with folder_on_disk(place_of(self._settings.lens)) as directory:
            return Lens.load(directory).to(device_here())

    def do(self, task: FitTask) -> dict[str, Tensor]:
        """Return the sums of one prompt."""
        settings = self._settings
        before = settings.found_in(task.round_number - 1)
        return settings.method.part(self._tools, settings.request, task.prompt, before)


class JoinWorker:
    """Joins the parts of a round and stores the result; it needs torch, which the driver does not load."""

    def __init__(self, settings: FitSettings) -> None:
        self._settings = settings

    def do(self, step: Join) -> bool:
        """Join the parts, store what was found, and return whether it is the fit."""
        settings, storage = self._settings, storage_of(place_of(self._settings.place))
        method, number = settings.method, step.round_number
        if not storage.has(found_file(number)):
            sums = _summed(settings.place, parts_folder(number))
            found = method.join(settings.request, sums, settings.found_in(number - 1))
            storage.write(found_file(number), _encoded(found))
        found = settings.found_in(number)
        finished = number + 1 == method.rounds(settings.request) or method.is_finished(settings.request, found)
        if finished:
            storage.write(TENSORS_FILE, _encoded(found))
        return finished


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
    network = NetworkSettings(request.model, request.sampling, request.hookpoint)
    fingerprint = model_fingerprint(request.model)
    path = None if lens is None else str(lens.absolute())
    fits: dict[str, Place] = {}
    for one in fit_requests(request):
        settings = fit_settings(one, prompts, dict(_used(request, one, lens)))
        place = place_of(output).absolute() / FITS / fit_name(fingerprint, settings)
        fits[one.mitigation.name] = place
        storage = storage_of(place)
        if not (storage.has(FIT_FILE) and storage.has(TENSORS_FILE)):
            made = FitSettings(one, network, request.judge, path, str(place))
            rounds = _fit(made, prompts, pool)
            storage.write(CARD_FILE, card(place.name, fingerprint, settings).encode())
            plain = {"settings": settings, "model_fingerprint": fingerprint, "rounds": rounds}
            storage.write(FIT_FILE, (json.dumps(plain, indent=1) + "\n").encode())  # last: it marks the fit as finished
            for number in range(rounds):
                part_files(made, number).delete(prompts)
                storage.delete(found_file(number))
    return fits


def _used(request: MeasurementRequest, fit: FitRequest, lens: Place | None) -> Iterator[tuple[str, str]]:
    """Yield what a fit uses besides the model, with its name by content."""
    if fit.mitigation.fit_uses_judge:
        yield "judge", judge_name(request.judge, request.model)
    if fit.mitigation.uses_lens and lens is not None:
        yield "lens", hashlib.sha256(storage_of(lens).read(LENS_FILE)).hexdigest()[:16]


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


def _fit(settings: FitSettings, prompts: Sequence[Prompt], pool: WorkerPool) -> int:
    """Do the rounds that are missing, and return how many the fit has."""
    storage, number = storage_of(place_of(settings.place)), 0
    try:
        while True:
            if not storage.has(found_file(number)):
                tasks = [FitTask(prompt, number) for prompt in prompts]
                make_parts(FitWorker, settings, tasks, part_files(settings, number), pool)
            [(_, finished)] = results_of(JoinWorker, settings, [Join(number)], pool)
            number += 1
            if finished:
                return number
    except PreparationError as error:
        raise FitError(f"fitting the method of {settings.request.mitigation.name}: {error}") from error


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
