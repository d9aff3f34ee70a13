"""Fits the methods of an audit before its first shard: one part for each prompt, then one step joins the parts.

A finished fit is named by content, so audits of one model share it. An interrupted fit resumes with the missing parts.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from audit.config.slices import MeasurementRequest
from audit.models.source import model_fingerprint
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
from audit.storage.place import Place, place_of
from ray_jobs.run.network import NetworkSettings
from ray_jobs.run.parts import PartFiles, PreparationError, WorkerPool, make_parts, results_of

if TYPE_CHECKING:
    from torch import Tensor

    from audit.mitigate.method import Fit
    from audit.models.generator import DiffusionGenerator

SUFFIX = ".safetensors"


class FitError(PreparationError):
    """A step of fitting a method failed."""


@dataclass(frozen=True)
class FitSettings:
    """What a worker needs to fit a method.

    Attributes:
        request: The method and what it is fitted with.
        network: Network of the model.
        place: Path or address of the directory of the fit.
    """

    request: FitRequest
    network: NetworkSettings
    place: str

    @property
    def method(self) -> Fit:
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


@dataclass(frozen=True)
class Join:
    """The step that joins the parts of a fit."""

    id: str = "join"


class FitWorker:
    """Computes the parts of a fit; a plain class, run by ``make_parts``."""

    def __init__(self, settings: FitSettings) -> None:
        self._settings = settings

    @cached_property
    def _generator(self) -> DiffusionGenerator:
        return self._settings.network.load()

    def do(self, prompt: Prompt) -> dict[str, Tensor]:
        """Return the sums of one prompt."""
        return self._settings.method.part(self._generator, self._settings.request, prompt)


class JoinWorker:
    """Joins the parts of a fit and stores the result; it needs torch, which the driver does not load."""

    def __init__(self, settings: FitSettings) -> None:
        self._settings = settings

    def do(self, _step: Join) -> str:
        """Join the parts, and return the name of the file that holds the fit."""
        settings = self._settings
        found = settings.method.join(settings.request, _summed(settings.place))
        storage_of(place_of(settings.place)).write(TENSORS_FILE, _encoded(found))
        return TENSORS_FILE


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
    network = NetworkSettings(request.model, request.sampling, request.hookpoint)
    fingerprint = model_fingerprint(request.model)
    fits: dict[str, Place] = {}
    for one in fit_requests(request):
        settings = fit_settings(one, prompts)
        place = place_of(output).absolute() / FITS / fit_name(fingerprint, settings)
        fits[one.mitigation.name] = place
        storage = storage_of(place)
        if not (storage.has(FIT_FILE) and storage.has(TENSORS_FILE)):
            parts = _fit(FitSettings(one, network, str(place)), prompts, pool)
            storage.write(CARD_FILE, card(place.name, fingerprint, settings).encode())
            plain = {"settings": settings, "model_fingerprint": fingerprint}
            storage.write(FIT_FILE, (json.dumps(plain, indent=1) + "\n").encode())  # last: it marks the fit as finished
            parts.delete(prompts)
    return fits


def part_files(settings: FitSettings) -> PartFiles[dict[str, Tensor]]:
    """Return the files of the parts of a fit."""
    title = f"Fit of {settings.request.mitigation.name}"
    return PartFiles(title, settings.place, PARTS, SUFFIX, _encoded, _decoded)


def _fit(settings: FitSettings, prompts: Sequence[Prompt], pool: WorkerPool) -> PartFiles[dict[str, Tensor]]:
    """Compute the missing parts and join all."""
    parts = part_files(settings)
    try:
        make_parts(FitWorker, settings, prompts, parts, pool)
        for _ in results_of(JoinWorker, settings, [Join()], pool):
            pass
    except PreparationError as error:
        raise FitError(f"fitting the method of {settings.request.mitigation.name}: {error}") from error
    return parts


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
