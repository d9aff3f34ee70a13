"""Runs an analysis that samples images of its own: its parts on the workers, then the result."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from numpy.typing import NDArray

from audit.analyses.registry import ANALYSES, PICTURED, SAMPLING
from audit.analyses.stored_maps import ANALYSES_DIRECTORY
from audit.config.sections import JudgeConfig
from audit.config.slices import Attributes
from audit.models.source import model_fingerprint
from audit.perception.judges.registry import judge_name
from audit.storage.files import storage_of
from audit.storage.place import Place, place_of
from audit.storage.provenance import content_name
from ray_jobs.run.network import NetworkSettings
from ray_jobs.run.parts import PartFiles, PreparationError, WorkerPool, make_parts

FORMAT, REQUEST_FILE, PARTS = 1, "request.json", "parts"


class AnalysisError(PreparationError):
    """A task of an analysis failed."""


class Request(Protocol):
    """Request of an analysis."""

    def as_data(self) -> dict[str, Any]:
        """Return everything that determines a part, as plain data."""
        ...


@dataclass(frozen=True)
class AnalysisSettings:
    """What a worker needs for an analysis.

    Attributes:
        name: Name of the analysis in the registry.
        request: Its request.
        network: Network of the model.
        judge: Judge of the images.
        attributes: Attributes that are judged.
    """

    name: str
    request: Request
    network: NetworkSettings
    judge: JudgeConfig
    attributes: Attributes

    @property
    def decisive(self) -> dict[str, Any]:
        """Everything besides the model that determines a part, as plain data."""
        sections = {"sampling": self.network.sampling, "judge": self.judge}
        return {
            "request": self.request.as_data(),
            "judge_weights": judge_name(self.judge, self.network.model),
            "dtype": self.network.model.dtype,
            **({"compile": True} if self.network.model.compile else {}),
            "attributes": {name: list(groups) for name, groups in self.attributes.items()},
            **{name: section.model_dump(mode="json") for name, section in sections.items()},
        }


class AnalysisWorker:
    """Computes parts of an analysis; a plain class, run by ``make_parts``."""

    def __init__(self, settings: AnalysisSettings) -> None:
        """Load the model and its judge."""
        from audit.analyses.analysis import Instruments, PictureInstruments
        from audit.perception.judges.registry import load_judge

        network, name = settings.network, settings.name
        judge = load_judge(settings.judge, network.model, settings.attributes)
        self._request = settings.request
        self._part: Callable[[object, object], dict[str, NDArray[Any]]]
        if name in PICTURED:
            self._part = partial(PICTURED[name].part, PictureInstruments(network.load_any(), judge))
        else:
            self._part = partial(SAMPLING[name].part, Instruments(network.load(), judge))

    def do(self, task: object) -> dict[str, NDArray[Any]]:
        """Return the part of a task."""
        return self._part(self._request, task)


def run_analysis(settings: AnalysisSettings, output: str, pool: WorkerPool) -> Any:  # noqa: ANN401 - each has its own
    """Run an analysis, or resume it with the parts that are missing, and return its result.

    Args:
        settings: The analysis and what its workers need.
        output: Path or address of the directory that holds parts.
        pool: Where the tasks run.

    Raises:
        AnalysisError: If a task failed.
    """
    analysis = ANALYSES[settings.name]
    place = place_of_parts(settings, output)
    files: PartFiles[Mapping[str, NDArray[Any]]] = PartFiles(
        settings.name.capitalize(), str(place), PARTS, ".safetensors", _encoded, _decoded
    )
    tasks = analysis.tasks(settings.request)
    text = json.dumps({"analysis": settings.name, **settings.decisive}, indent=1)
    storage_of(place).write(REQUEST_FILE, f"{text}\n".encode())
    try:
        make_parts(AnalysisWorker, settings, tasks, files, pool)
        return analysis.combine(settings.request, (files.read(task) for task in tasks))  # one part in memory at a time
    except PreparationError as error:
        raise AnalysisError.during(f"analysis {settings.name}", error) from error


def place_of_parts(settings: AnalysisSettings, output: str) -> Place:
    """Return the directory of the parts, named by model, request, sampling and judge."""
    name = content_name(settings.name, FORMAT, model_fingerprint(settings.network.model), settings.decisive)
    return place_of(output).absolute() / ANALYSES_DIRECTORY / name


def _encoded(part: Mapping[str, NDArray[Any]]) -> bytes:
    import numpy as np
    from safetensors.numpy import save

    data: bytes = save({name: np.ascontiguousarray(array) for name, array in part.items()})
    return data


def _decoded(data: bytes) -> dict[str, NDArray[Any]]:
    from safetensors.numpy import load

    arrays: dict[str, NDArray[Any]] = load(data)
    return arrays
