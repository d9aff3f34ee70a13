"""Builds lenses on workers, without their strengths: all workers record, then one builds each lens from the recording.

The recording is stored beside the lenses, part by part, so an interrupted dissection continues with the missing parts.
It is deleted when its lenses are built.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from audit.config.slices import DissectionRequest
from audit.dissect.recording.plan import Part, RecordingPlan
from audit.dissect.recording.stored_parts import PART_FILE, missing_parts
from audit.dissect.settings import (
    LENS_FILE,
    dissected_groups,
    dissected_prompts,
    dissection_of,
    lens_settings,
    recording_name,
)
from audit.models.source import model_fingerprint
from audit.preflight.prompt_lengths import lens_texts
from audit.storage.files import storage_of
from audit.storage.folder_copy import folder_to_fill, folders_on_disk
from audit.storage.place import Place, place_of
from ray_jobs.cluster.connection import threads_of_a_whole_node
from ray_jobs.run.network import NetworkSettings
from ray_jobs.run.parts import PreparationError, WorkerPool, results_of
from ray_jobs.run.prepare.strengths import DissectionError

LOG = logging.getLogger(__name__)
LOG_SECONDS = 30.0


@dataclass(frozen=True)
class RecordStep:
    """The step that records one part.

    Attributes:
        part: The part.
        recording: Path or address of the recording.
        left: Trajectories that were not recorded when the pool was started.
    """

    part: Part
    recording: str
    left: int

    @property
    def id(self) -> str:
        """Name in messages."""
        return f"trajectory {self.part.first + 1} to {self.part.last}"


@dataclass(frozen=True)
class BuildStep:
    """The step that builds one lens.

    Attributes:
        request: What it is made from.
        recording: Path or address of the recording.
        place: Path or address of the directory that the lens is written to.
    """

    request: DissectionRequest
    recording: str
    place: str

    @property
    def id(self) -> str:
        """Name in messages."""
        return f"build of the lens at {self.request.lens.hookpoint}"


class PartRecorder:
    """Records parts; a plain class, run by ``results_of``."""

    def __init__(self, requests: Sequence[DissectionRequest]) -> None:
        """Load the model and its judge, and check that the model reads every prompt to its end."""
        from audit.dissect.recording.recorder import Recorder
        from audit.models.liveness import require_live
        from audit.perception.judges.registry import load_judge

        request, plan = requests[0], plan_of(requests)
        groups, prompts = dissected_groups(request.lens, request.attributes), dissected_prompts(request)
        generator = NetworkSettings(request.model, request.sampling, request.lens.hookpoint).load()
        if generator.reader is not None:
            generator.reader.check(lens_texts(request.prompts.template, groups, prompts, generator.reader))
        require_live(generator, plan.hookpoints, prompts[0].text)
        judge = load_judge(request.judge, request.model, groups)
        self._recorder = Recorder(generator, judge, groups, plan)

    def do(self, step: RecordStep) -> None:
        """Sample and store one part."""
        with folder_to_fill(place_of(step.recording) / step.part.id, last=PART_FILE) as directory:
            self._recorder.record(step.part, directory, step.left)


class LensBuilder:
    """Builds lenses without their strengths; a plain class, run by ``results_of``."""

    def __init__(self, requests: Sequence[DissectionRequest]) -> None:
        """Plan what was recorded for all of the lenses."""
        self._plan = plan_of(requests)

    def do(self, step: BuildStep) -> None:
        """Build a lens and store it; an interrupted training of its autoencoder continues."""
        from audit.dissect.build import build_lens
        from audit.dissect.examples import write_examples
        from audit.dissect.recording.recording import Recording

        request, recorded = step.request, place_of(step.recording)
        groups, settings = dissected_groups(request.lens, request.attributes), dissection_of(request)
        place, fingerprint = place_of(step.place), model_fingerprint(request.model)
        scratch = recorded if isinstance(recorded, Path) else Path(tempfile.gettempdir())
        checkpoint = scratch / f"{place.name}-training.safetensors"
        with folders_on_disk(recorded, [part.id for part in self._plan.parts]) as directory:
            recording = Recording.open(directory, self._plan, settings)
            lens = build_lens(recording, groups, settings, lens_settings(request), fingerprint, checkpoint)
            with folder_to_fill(place, last=LENS_FILE) as filled:
                write_examples(lens, recording, filled)
                lens.save(filled)
        checkpoint.unlink(missing_ok=True)


def plan_of(requests: Sequence[DissectionRequest]) -> RecordingPlan:
    """Plan the recording that the lenses of some requests are made from, which differ only in their lenses."""
    request = requests[0]
    groups = dissected_groups(request.lens, request.attributes)
    lenses = [dissection_of(one) for one in requests]
    return RecordingPlan.of(dissected_prompts(request), groups, request.prompts.template, lenses)


def build_lenses(requests: Sequence[DissectionRequest], places: Sequence[Place], pool: WorkerPool) -> None:
    """Build the lenses that are not there yet from one recording.

    Args:
        requests: What the lenses are made from, which differ only in their lenses.
        places: Directories that they are written to.
        pool: Where they are made. All its workers record; one worker with all threads of a node builds.

    Raises:
        DissectionError: If a step failed.
    """
    missing = [
        (request, place)
        for request, place in zip(requests, places, strict=True)
        if not storage_of(place).has(LENS_FILE)
    ]
    if not missing:
        return
    wanted = [request for request, _ in missing]
    recording = missing[0][1].parent / recording_name(model_fingerprint(wanted[0].model), lens_settings(wanted[0]))
    LOG.info("Dissecting the model into %s", ", ".join(place.name for _, place in missing))
    try:
        record(wanted, recording, pool)
        _build(missing, recording, pool)
    except PreparationError as error:
        raise DissectionError.during("the dissection", error) from error
    delete_recording(plan_of(wanted), recording)


def record(requests: Sequence[DissectionRequest], recording: Place, pool: WorkerPool) -> None:
    """Record the parts that are missing, on all workers.

    Args:
        requests: Of the lenses that are made from it, which differ only in their lenses.
        recording: Its directory or address.
        pool: Where parts are recorded.

    Raises:
        PreparationError: If a step failed.
    """
    plan = plan_of(requests)
    parts = missing_parts(plan, recording)
    left = sum(part.last - part.first for part in parts)
    if len(parts) < len(plan.parts):
        LOG.info("resuming the recording: %d of %d trajectories are left", left, len(plan.trajectories))
    steps = [RecordStep(part, str(recording), left) for part in parts]
    started = logged = time.monotonic()
    done = 0
    for step, _ in results_of(PartRecorder, tuple(requests), steps, pool):
        done += step.part.last - step.part.first
        if time.monotonic() - logged >= LOG_SECONDS or done == left:
            logged = time.monotonic()
            LOG.info("recorded %d of %d trajectories, %.2f per second", done, left, done / (logged - started))


def _build(missing: Sequence[tuple[DissectionRequest, Place]], recording: Place, pool: WorkerPool) -> None:
    steps = [BuildStep(request, str(recording), str(place)) for request, place in missing]
    for step, _ in results_of(LensBuilder, tuple(request for request, _ in missing), steps, whole_node(pool)):
        LOG.info("built %s", place_of(step.place).name)


def whole_node(pool: WorkerPool) -> WorkerPool:
    """Return the pool with one worker that has all threads of a node."""
    threads = threads_of_a_whole_node(pool.workers, pool.cluster)
    return replace(pool, workers=pool.workers.model_copy(update={"count": 1, "threads": threads}))


def delete_recording(plan: RecordingPlan, recording: Place) -> None:
    """Delete a recording."""
    if isinstance(recording, Path):
        shutil.rmtree(recording, ignore_errors=True)
        return
    storage = storage_of(recording)
    for part in plan.parts:
        for name in storage.names(part.id):
            storage.delete(f"{part.id}/{name}")
