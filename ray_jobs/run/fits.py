"""Fitting the methods of an audit before its first shard: a part per prompt on the workers, then one step joins them.

A finished fit is named by content, so audits of one model share it. Interrupted, fitting continues with the parts that
are missing.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from audit.config.mitigations import MitigationConfig
from audit.config.settings import AuditConfig
from audit.models.source import model_fingerprint
from audit.planning.fits import (
    CARD_FILE,
    FIT_FILE,
    FITS,
    PARTS,
    TENSORS_FILE,
    card,
    fit_name,
    fit_settings,
    fitted_mitigations,
)
from audit.records.work import Prompt
from audit.storage.files import storage_of
from audit.storage.place import Place, place_of
from ray_jobs.cluster.connection import Cluster
from ray_jobs.run.preparation import PreparationError, network_of, results_of

if TYPE_CHECKING:
    from torch import Tensor

    from audit.models.generator import DiffusionGenerator

LOG = logging.getLogger(__name__)


class FitError(PreparationError):
    """A step of fitting a method failed."""


@dataclass(frozen=True)
class FitTask:
    """One step of fitting a method.

    Attributes:
        id: Name in messages, and of the file that a part is kept in.
        mitigation: Whose method is fitted.
        place: Directory of the fit.
        prompt: The prompt whose part is wanted; None joins the parts.
    """

    id: str
    mitigation: MitigationConfig
    place: str
    prompt: Prompt | None


class FitWorker:
    """Does steps of fitting; a plain class, made remote by ``ensure_fits``."""

    def __init__(self, config: AuditConfig, working_directory: str) -> None:
        """Take the audit; relative paths in its config start from ``working_directory``."""
        self._config, self._working_directory = config, working_directory

    @cached_property
    def _generator(self) -> DiffusionGenerator:
        """The model, which joining parts does without."""
        return network_of(self._config, self._config.workers.threads, self._working_directory)

    def do(self, task: FitTask) -> str:
        """Do one step and return the name of the file that holds what came of it."""
        from safetensors.torch import save

        from audit.mitigate.registry import METHODS

        fit, storage = METHODS[task.mitigation.method].fit, storage_of(place_of(task.place))
        if fit is None:
            raise ValueError(f"method {task.mitigation.method!r} has nothing to fit")
        if task.prompt is not None:
            found = fit.part(self._generator, self._config, task.mitigation, task.prompt)
            file = _part_file(task.prompt)
        else:
            groups = self._config.attributes[task.mitigation.attribute]
            found, file = fit.join(task.mitigation, _summed(task.place), groups), TENSORS_FILE
        storage.write(file, save({name: tensor.contiguous() for name, tensor in found.items()}))
        return file


def ensure_fits(config: AuditConfig, prompts: Sequence[Prompt], cluster: Cluster) -> dict[str, Place]:
    """Return the directory of the fit of every mitigation that has one, fitted first where it is not at hand.

    Args:
        config: The audit.
        prompts: Its prompts.
        cluster: Who works.

    Raises:
        FitError: A step failed.
    """
    fits: dict[str, Place] = {}
    fingerprint = model_fingerprint(config.model)
    for mitigation in fitted_mitigations(config):
        settings = fit_settings(config, mitigation, prompts)
        name = fit_name(fingerprint, settings)
        place = place_of(config.output).absolute() / FITS / name
        fits[mitigation.name] = place
        storage = storage_of(place)
        if storage.has(FIT_FILE) and storage.has(TENSORS_FILE):
            continue
        kept = storage.names(PARTS)
        todo = [prompt for prompt in prompts if Path(_part_file(prompt)).name not in kept]
        LOG.info("Fitting %s for arm %s: %d of %d prompts to do", name, mitigation.name, len(todo), len(prompts))
        task = partial(FitTask, mitigation=mitigation, place=str(place))
        _run([task(id=prompt.id, prompt=prompt) for prompt in todo], config, cluster)
        _run([task(id="join", prompt=None)], config, cluster)
        storage.write(CARD_FILE, card(name, fingerprint, settings).encode())
        plain = {"settings": settings, "model_fingerprint": fingerprint}
        storage.write(FIT_FILE, (json.dumps(plain, indent=1) + "\n").encode())  # last: it marks the fit as finished
        for prompt in prompts:
            storage.delete(_part_file(prompt))
    return fits


def _part_file(prompt: Prompt) -> str:
    return f"{PARTS}/{prompt.id}.safetensors"


def _summed(place: str) -> dict[str, Tensor]:
    """Add the sums of all prompts."""
    from safetensors.torch import load

    storage, total = storage_of(place_of(place)), dict[str, "Tensor"]()
    for name in sorted(storage.names(PARTS)):
        part = load(storage.read(f"{PARTS}/{name}"))
        total = {key: tensor + total[key] if key in total else tensor for key, tensor in part.items()}
    return total


def _run(tasks: Sequence[FitTask], config: AuditConfig, cluster: Cluster) -> None:
    try:
        for task, file in results_of(FitWorker, (config,), tasks, config.workers, cluster):
            LOG.info("Fitted %s: %s", task.id, file)
    except PreparationError as error:
        raise FitError(f"fitting the method of {tasks[0].mitigation.name}: {error}") from error
