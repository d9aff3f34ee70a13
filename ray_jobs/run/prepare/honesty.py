"""Measures the features of a lens that has no such figures yet, from trajectories that are sampled again."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from audit.config.sections import WorkersConfig
from audit.config.slices import DissectionRequest
from audit.dissect.card import card, with_honesty
from audit.dissect.settings import (
    CARD_FILE,
    HONESTY_FILE,
    LENS_FILE,
    SHAPE_FILE,
    dissection_of,
    lens_name,
    lens_settings,
)
from audit.models.source import model_fingerprint
from audit.storage.files import storage_of
from audit.storage.folder_copy import folder_on_disk
from audit.storage.place import Place, place_of
from ray_jobs.cluster.connection import connect, threads_of_a_whole_node
from ray_jobs.run.parts import PreparationError, WorkerPool, results_of
from ray_jobs.run.prepare.lens import LensBuilder
from ray_jobs.run.prepare.strengths import DissectionError

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Measurement:
    """The step that measures the features of a lens.

    Attributes:
        place: Path or address of the lens.
    """

    place: str
    id: str = "honesty"


class HonestyMeter(LensBuilder):
    """Samples the trajectories of a lens again and measures its features; the lens stays as it is."""

    def do(self, step: Measurement) -> None:  # type: ignore[override]
        """Write ``honesty.json`` and the card of the lens."""
        from audit.dissect.honesty.files import honesty_bytes
        from audit.dissect.honesty.measure import measure_honesty
        from audit.dissect.lens import Lens
        from audit.dissect.recording.recorder import Recorder
        from audit.dissect.recording.trajectories import plan_trajectories
        from audit.models.device import device_here

        place, settings = place_of(step.place), dissection_of(self._request)
        with folder_on_disk(place) as directory:
            lens = Lens.load(directory)
        trajectories = plan_trajectories(self._prompts, self._groups, self._request.prompts.template, settings)
        with TemporaryDirectory() as scratch:
            recorder = Recorder(
                self._generator, self._judge, self._groups, trajectories, settings, Path(scratch) / "recording"
            )
            found = measure_honesty(lens.to(device_here()), recorder.record(), settings)
        storage = storage_of(place)
        plain = json.loads(storage.read(LENS_FILE))
        name = lens_name(plain["model_fingerprint"], plain["settings"])
        shape = json.loads(storage.read(SHAPE_FILE))
        storage.write(CARD_FILE, card(name, with_honesty(plain, found), shape).encode())
        storage.write(HONESTY_FILE, honesty_bytes(found))


def add_honesty(request: DissectionRequest, lens: Place, workers: WorkersConfig, *, address: str | None = None) -> None:
    """Measure the features of a lens on a cluster; nothing is done if its figures are stored already.

    Args:
        request: What the lens was made from.
        lens: Directory of the lens.
        workers: Workers; one of them measures, with all threads of a node.
        address: A Ray cluster; None for this machine.

    Raises:
        DissectionError: If the measurement failed.
        LensMismatch: See ``ensure_honesty``.
    """
    if not storage_of(lens).has(HONESTY_FILE):
        with connect(address, workers) as cluster:
            ensure_honesty(request, lens, WorkerPool(workers, cluster))


def ensure_honesty(request: DissectionRequest, lens: Place, pool: WorkerPool) -> None:
    """Measure the features of a lens; nothing is done if its figures are stored already.

    Raises:
        DissectionError: If the measurement failed.
        LensMismatch: The config names a lens that it would not make: its trajectories cannot be sampled again.
    """
    storage = storage_of(lens)
    if storage.has(HONESTY_FILE):
        return
    _require_own(request, lens, json.loads(storage.read(LENS_FILE)))
    LOG.info("Measuring the features of %s", lens)
    threads = threads_of_a_whole_node(pool.workers, pool.cluster)
    one = replace(pool, workers=pool.workers.model_copy(update={"count": 1, "threads": threads}))
    try:
        for _ in results_of(HonestyMeter, request, [Measurement(str(lens))], one):
            pass
    except PreparationError as error:
        raise DissectionError(f"the features of the lens: {error}") from error


def _require_own(request: DissectionRequest, lens: Place, plain: Mapping[str, Any]) -> None:
    expected = lens_name(model_fingerprint(request.model), lens_settings(request))
    found = lens_name(plain["model_fingerprint"], plain["settings"])
    if found != expected:
        from audit.dissect.lens import LensMismatch

        raise LensMismatch(
            f"{lens}: expected {expected}, which this config makes, found {found}. Its features can be measured only "
            "with the model and settings that it was made with: use that config"
        )
