"""The actor that makes whole shards: a plain class, made remote by ``do_shards`` and tested without a cluster."""

from __future__ import annotations

import io
import logging
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray

from audit.config.sections import ReportConfig
from audit.config.slices import MeasurementRequest
from audit.records.work import Shard, ShardReceipt
from audit.storage.files import storage_of
from audit.storage.folder_copy import folder_on_disk
from audit.storage.place import place_of
from audit.storage.run_directory import RunDirectory, image_name
from ray_jobs.cluster.connection import this_node, work_in
from ray_jobs.run.inputs import compute_record, energy_file
from ray_jobs.run.progress.metrics import WorkerMetrics
from ray_jobs.run.progress.worker_log import log_as_json

if TYPE_CHECKING:
    from torch import Tensor

    from audit.generation.baselines import BaselineCache
    from audit.generation.shard import ShardYield

LOG = logging.getLogger(__name__)

INSTRUMENTS = "instruments.json"
"""Signatures of the networks that measured, in the run directory; the driver loads none of these networks."""

SAMPLING = "sampling.json"
"""How the images were sampled, in the run directory; missing if nothing is sampled."""

WEBP_QUALITY = 85


@dataclass(frozen=True)
class WorkerSettings:
    """What a worker needs; it travels to every node, so it holds no array and no open file.

    Attributes:
        request: How the images are made and measured.
        report: Which images are kept.
        run_path: Run directory, as an absolute path or an address that every node can use.
        lens_path: Lens of the model, None if the audit needs none.
        working_directory: Directory that relative paths in the config start from.
        fits: Directory of the fit, by the name of the mitigation.
        threads: Threads of torch.
        baselines: Path or address of the directory with kept baseline images.
        baseline_cache_gb: Size limit of this directory; 0 keeps none.
        samples: Prompt id → indices of the random samples, which are kept too.
        watts_per_core: Assumed power of a busy core, for energy without a counter.
        gpus_per_worker: GPUs that the worker reserves; a fraction gets this part of the energy of its GPU.
    """

    request: MeasurementRequest
    report: ReportConfig
    run_path: str
    lens_path: str | None
    working_directory: str
    fits: Mapping[str, str] = field(default_factory=dict)
    threads: int = 1
    baselines: str = ""
    baseline_cache_gb: float = 0.0
    samples: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    watts_per_core: float = 10.0
    gpus_per_worker: float = 1.0


class ShardWorker:
    """Loads its models once and then makes shards, one after the other.

    Models load in the constructor, so weights that cannot be read fail the start and not every shard. Torch and
    everything that needs it are imported here and not at the top, because the driver also imports this module.

    Args:
        settings: What to make and where to store it.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        """Load the models."""
        import torch

        from audit.generation.energy import EnergyMeter, PackageCounters
        from audit.generation.parts import load_parts
        from audit.generation.settings import ShardSettings
        from audit.models.device import compute_here
        from audit.results.run_strengths import searched_of, steering_of

        if ray.is_initialized() and ray.get_runtime_context().get_actor_id():  # a process of its own
            log_as_json(logging.getLogger(__package__))
        work_in(settings.working_directory)
        torch.set_num_threads(settings.threads)
        self._run = RunDirectory(place_of(settings.run_path))
        self._report, self._samples = settings.report, settings.samples
        self._shard_settings = ShardSettings.of(settings.request)
        self._batch = self._shard_settings.batch
        with ExitStack() as held:
            lens = None if settings.lens_path is None else held.enter_context(_on_disk(settings.lens_path))
            fits = {name: held.enter_context(_on_disk(place)) for name, place in settings.fits.items()}
            self._parts = load_parts(settings.request, lens, steering_of(self._run), fits, self._run.storage)
        self._parts = replace(self._parts, baselines=self._kept_baselines(settings), searched=searched_of(self._run))
        self._sign(self._parts.signatures)
        self._run.write_json(*compute_record(compute_here()))
        if self._parts.generator.sampling and not self._run.has(SAMPLING):
            self._run.write_json(SAMPLING, self._parts.generator.sampling)
        self._node = this_node() if ray.is_initialized() else ""
        self._metrics = WorkerMetrics()
        self._energy = EnergyMeter(settings.watts_per_core, settings.gpus_per_worker, PackageCounters.here())
        self._energy_file = energy_file()
        self._free_since = time.monotonic()

    def do(self, shard: Shard, attempt: int = 1) -> ShardReceipt:
        """Make a shard and store it: images first, rows last, since the rows mark it finished.

        A shard that is finished already is not made again: the answer of an earlier attempt may have been lost.

        Args:
            shard: The shard.
            attempt: Number of the attempt, for the log.
        """
        told: dict[str, Any] = {"shard": shard.id, "attempt": attempt, "node": self._node}
        if self._run.is_finished(shard.id):
            LOG.info("shard was finished before", extra=told)
            return ShardReceipt(shard.id, images=0, seconds=0.0, statuses={}, node=self._node)
        started = time.monotonic()
        self._metrics.begun(started - self._free_since)
        LOG.info("shard started", extra=told)
        with self._energy.measured():
            done, too_large = self._make(shard)
            self._run.write_images(self._kept_images(shard, done.images))
        self._run.write_shard(shard.id, done.table, done.parts)
        self._keep_energy(done.table.num_rows)
        self._free_since = time.monotonic()
        seconds = self._free_since - started
        arms, statuses = (done.table[name].to_pylist() for name in ("arm", "status"))
        self._metrics.finished(seconds, Counter(zip(arms, statuses, strict=True)))
        LOG.info("shard finished", extra=told | {"images": done.table.num_rows, "seconds": round(seconds, 3)})
        return ShardReceipt(
            shard_id=shard.id,
            images=done.table.num_rows,
            seconds=seconds,
            statuses=dict(Counter(statuses)),
            too_large=too_large,
            node=self._node,
        )

    def _keep_energy(self, images: int) -> None:
        """Store the energy so far, with the images of a shard that is stored; before, a retry would count them twice.

        A failure is only logged, since it must not make a finished shard again.
        """
        self._energy.count(images)
        try:
            self._run.write_json(self._energy_file, self._energy.total.as_data())
        except OSError as error:
            LOG.warning("%s could not be written: %s", self._energy_file, error)

    def _kept_baselines(self, settings: WorkerSettings) -> BaselineCache | None:
        """Return the store of baseline images; None if nothing is kept, or drawing again is cheaper."""
        from audit.generation.baselines import BaselineCache, Origin
        from audit.models.generator import BlackBoxGenerator, DiffusionGenerator

        generator, limit = self._parts.generator, int(settings.baseline_cache_gb * 1e9)
        if not limit or not isinstance(generator, BlackBoxGenerator | DiffusionGenerator):
            return None
        lens = "" if self._parts.lens is None else self._parts.lens.name
        model = settings.request.model
        origin = Origin(generator.fingerprint, generator.sampling, model.dtype, settings.threads, lens)
        return BaselineCache(storage_of(place_of(settings.baselines)), origin, limit)

    def _make(self, shard: Shard) -> tuple[ShardYield, tuple[int, ...]]:
        """Make a shard, in smaller batches if memory is too small, and return the batch sizes that did not fit.

        The batch size that fits is kept for the later shards of this worker.
        """
        import torch

        too_large: list[int] = []
        while (done := self._make_if_it_fits(shard)) is None:  # outside the handler, which keeps the tensors alive
            torch.cuda.empty_cache()
            too_large.append(self._batch)
            self._batch = (self._batch + 1) // 2
            LOG.warning("memory is too small for the batch", extra={"shard": shard.id, "batch": too_large[-1]})
        return done, tuple(too_large)

    def _make_if_it_fits(self, shard: Shard) -> ShardYield | None:
        import torch

        from audit.generation.shard import do_shard_in_parts

        try:
            return do_shard_in_parts(self._parts, self._shard_settings, shard, self._batch)
        except torch.OutOfMemoryError:
            if self._batch == 1:
                raise
            return None

    def _sign(self, instruments: dict[str, str]) -> None:
        """Store the signatures; all workers of a run must measure with the same networks."""
        if not self._run.has(INSTRUMENTS):
            self._run.write_json(INSTRUMENTS, instruments)
        elif (found := self._run.read_json(INSTRUMENTS)) != instruments:
            raise ValueError(f"the run was measured with {found}, this worker has {instruments}; begin another run")

    def _kept_images(self, shard: Shard, images: Mapping[str, Tensor | tuple[Tensor, ...]]) -> dict[str, bytes]:
        """Encode the first images of each prompt, which the report shows, and the random samples; or all of them."""
        every, drawn = self._report.keep == "all", set(self._samples.get(shard.prompt.id, ()))
        return {
            image_name(shard.prompt.id, index, arm): _webp(image)
            for arm, of_arm in images.items()
            for index, image in zip(shard.indices, of_arm, strict=True)
            if every or index < self._report.images_per_prompt or index in drawn
        }


def _on_disk(directory: str) -> AbstractContextManager[Path]:
    return folder_on_disk(place_of(directory))


def _webp(image: Tensor) -> bytes:
    """Encode uint8 (3, H, W)."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(buffer, "WEBP", quality=WEBP_QUALITY)
    return buffer.getvalue()
