"""Measures the features of a lens that has no such figures yet, from trajectories that are sampled again."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
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
    recording_name,
)
from audit.models.source import model_fingerprint
from audit.storage.files import storage_of
from audit.storage.folder_copy import folder_on_disk, folders_on_disk
from audit.storage.place import Place, place_of
from ray_jobs.cluster.connection import connect
from ray_jobs.run.parts import PreparationError, WorkerPool, results_of
from ray_jobs.run.prepare.building import delete_recording, plan_of, record, whole_node
from ray_jobs.run.prepare.strengths import DissectionError

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Measurement:
    """The step that measures the features of a lens.

    Attributes:
        place: Path or address of the lens.
        recording: Path or address of what it is made from.
    """

    place: str
    recording: str
    id: str = "honesty"


class HonestyMeter:
    """Measures the features of a lens that stays as it is; a plain class, run by ``results_of``."""

    def __init__(self, request: DissectionRequest) -> None:
        """Plan what was recorded for the lens."""
        self._settings, self._plan = dissection_of(request), plan_of([request])

    def do(self, step: Measurement) -> None:
        """Write ``honesty.json`` and the card of the lens."""
        from audit.dissect.honesty.files import honesty_bytes
        from audit.dissect.honesty.measure import measure_honesty
        from audit.dissect.lens import Lens
        from audit.dissect.recording.recording import Recording
        from audit.models.device import device_here

        place = place_of(step.place)
        with folder_on_disk(place) as directory:
            lens = Lens.load(directory)
        with folders_on_disk(place_of(step.recording), [part.id for part in self._plan.parts]) as directory:
            recording = Recording.open(directory, self._plan, self._settings)
            found = measure_honesty(lens.to(device_here()), recording, self._settings)
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
    recording = lens.parent / recording_name(model_fingerprint(request.model), lens_settings(request))
    try:
        record([request], recording, pool)
        for _ in results_of(HonestyMeter, request, [Measurement(str(lens), str(recording))], whole_node(pool)):
            pass
    except PreparationError as error:
        raise DissectionError.during("the features of the lens", error) from error
    delete_recording(plan_of([request]), recording)


def _require_own(request: DissectionRequest, lens: Place, plain: Mapping[str, Any]) -> None:
    expected = lens_name(model_fingerprint(request.model), lens_settings(request))
    found = lens_name(plain["model_fingerprint"], plain["settings"])
    if found != expected:
        from audit.dissect.lens import LensMismatch

        raise LensMismatch(
            f"{lens}: expected {expected}, which this config makes, found {found}. Its features can be measured only "
            "with the model and settings that it was made with: use that config"
        )
