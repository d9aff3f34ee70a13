"""Fits the methods of an audit before its first shard: one part for each prompt, then one step joins them or trains.

A finished fit is named by content, so audits of one model share it. An interrupted fit resumes with the missing parts,
and an interrupted training from its last checkpoint.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from audit.config.slices import MeasurementRequest
from audit.models.source import model_fingerprint
from audit.perception.embedders.clip_directory import clip_name
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
from ray_jobs.cluster.connection import threads_of_a_whole_node
from ray_jobs.run.network import NetworkSettings
from ray_jobs.run.parts import PartFiles, PreparationError, WorkerPool, make_parts, results_of
from ray_jobs.run.prepare.training_progress import reported

if TYPE_CHECKING:
    from torch import Tensor

    from audit.mitigate.method import Fit, Trained, TrainedFit
    from audit.mitigate.tools import TrainingTools

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
    """

    request: FitRequest
    measured: MeasurementRequest
    place: str

    @property
    def method(self) -> Fit | TrainedFit:
        """How the method is fitted.

        Raises:
            ValueError: If the method is not fitted.
        """
        from audit.mitigate.registry import METHODS

        name = self.request.mitigation.method
        fit = METHODS[name].fit
        if fit is None:
            raise ValueError(f"method {name!r} has nothing to fit")
        return fit

    def tools(self) -> TrainingTools:
        """Load the model; the networks that measure are loaded when they are used."""
        from audit.mitigate.tools import TrainingTools

        measured = self.measured
        network = NetworkSettings(measured.model, measured.sampling, measured.hookpoint)
        return TrainingTools(network.load(), measured)


@dataclass(frozen=True)
class Join:
    """The step that joins the parts of a fit, or trains on them.

    Attributes:
        prompts: Prompts of the parts, for a training.
        id: Name in messages.
    """

    prompts: tuple[Prompt, ...] = ()
    id: str = "join"


class FitWorker:
    """Computes the parts of a fit; a plain class, run by ``make_parts``."""

    def __init__(self, settings: FitSettings) -> None:
        self._settings = settings

    @cached_property
    def _tools(self) -> TrainingTools:
        return self._settings.tools()

    def do(self, prompt: Prompt) -> dict[str, Tensor]:
        """Return the sums, or the examples, of one prompt."""
        from audit.mitigate.method import TrainedFit

        method, request = self._settings.method, self._settings.request
        if isinstance(method, TrainedFit):
            return method.examples(self._tools, request, prompt)
        return method.part(self._tools.generator, request, prompt)


class JoinWorker:
    """Joins the parts of a fit, or trains on them, and stores the result; the driver loads no torch."""

    def __init__(self, settings: FitSettings) -> None:
        self._settings = settings

    def do(self, step: Join) -> dict[str, float]:
        """Store the file that holds the fit, and return figures for its card."""
        from audit.mitigate.method import Trained, TrainedFit

        settings, method = self._settings, self._settings.method
        if isinstance(method, TrainedFit):
            found = self._train(method, step.prompts)
        else:
            found = Trained(method.join(settings.request, _summed(settings.place)))
        storage_of(place_of(settings.place)).write(TENSORS_FILE, _encoded(found.tensors))
        return dict(found.report)

    def _train(self, method: TrainedFit, prompts: Sequence[Prompt]) -> Trained:
        from audit.mitigate.training import StoredCheckpoint

        settings, files = self._settings, part_files(self._settings)
        examples = [(prompt, files.read(prompt)) for prompt in prompts]
        checkpoint = StoredCheckpoint(storage_of(place_of(settings.place)), TRAINING_FILE)
        return method.train(settings.tools(), settings.request, examples, checkpoint)


def ensure_fits(
    request: MeasurementRequest, output: str, prompts: Sequence[Prompt], pool: WorkerPool
) -> dict[str, Place]:
    """Return the directory of the fit of every mitigation that is fitted; missing fits are made first.

    Args:
        request: How the images are made and measured.
        output: Path or address of the directory that holds the fits.
        prompts: Prompts of the audit.
        pool: Where the fits are made.

    Raises:
        FitError: If a step failed.
    """
    fingerprint = model_fingerprint(request.model)
    fits: dict[str, Place] = {}
    for one in fit_requests(request):
        settings = fit_settings(one, prompts) | measured_with(one, request)
        place = place_of(output).absolute() / FITS / fit_name(fingerprint, settings)
        fits[one.mitigation.name] = place
        storage = storage_of(place)
        if not (storage.has(FIT_FILE) and storage.has(TENSORS_FILE)):
            started = time.monotonic()
            parts, report = _fit(FitSettings(one, request, str(place)), prompts, pool)
            cost = cost_of_fit(one, prompts) | {"seconds": round(time.monotonic() - started, 1)}
            storage.write(CARD_FILE, card(place.name, fingerprint, settings, cost | report).encode())
            plain = {"settings": settings, "model_fingerprint": fingerprint, "cost": cost, "report": report}
            storage.write(FIT_FILE, (json.dumps(plain, indent=1) + "\n").encode())  # last: it marks the fit as finished
            parts.delete(prompts)
            storage.delete(TRAINING_FILE)
    return fits


def part_files(settings: FitSettings) -> PartFiles[dict[str, Tensor]]:
    """Return the files of the parts of a fit."""
    title = f"Fit of {settings.request.mitigation.name}"
    return PartFiles(title, settings.place, PARTS, SUFFIX, _encoded, _decoded)


def measured_with(request: FitRequest, measured: MeasurementRequest) -> dict[str, Any]:
    """Return the names of the networks that a training uses beside the model."""
    used = request.mitigation.trained_with
    return {"clip": clip_name(measured.quality.clip, measured.model)} if "clip" in used else {}


def _fit(
    settings: FitSettings, prompts: Sequence[Prompt], pool: WorkerPool
) -> tuple[PartFiles[dict[str, Tensor]], dict[str, float]]:
    """Compute the missing parts, then join them or train; return the files of the parts, and figures for the card."""
    parts, report = part_files(settings), dict[str, float]()
    steps = steps_of_fits([settings.request])
    if steps:
        threads = threads_of_a_whole_node(pool.workers, pool.cluster)
        last = replace(pool, workers=pool.workers.model_copy(update={"count": 1, "threads": threads}))
    else:
        last = pool
    try:
        make_parts(FitWorker, settings, prompts, parts, pool)
        with reported(parts.title, steps, storage_of(place_of(settings.place))):
            for _, found in results_of(JoinWorker, settings, [Join(tuple(prompts))], last):
                report = found
    except PreparationError as error:
        raise FitError(f"fitting the method of {settings.request.mitigation.name}: {error}") from error
    return parts, report


def _encoded(tensors: dict[str, Tensor]) -> bytes:
    from safetensors.torch import save

    data: bytes = save({name: tensor.contiguous() for name, tensor in tensors.items()})
    return data


def _decoded(data: bytes) -> dict[str, Tensor]:
    from safetensors.torch import load

    tensors: dict[str, Tensor] = load(data)
    return tensors


def _summed(place: str) -> dict[str, Tensor]:
    """Add the sums of all prompts."""
    storage, total = storage_of(place_of(place)), dict[str, "Tensor"]()
    for name in sorted(storage.names(PARTS)):
        part = _decoded(storage.read(f"{PARTS}/{name}"))
        total = {key: tensor + total[key] if key in total else tensor for key, tensor in part.items()}
    return total
