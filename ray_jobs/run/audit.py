"""The whole audit: from a config to a report."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audit.analyses.stored_maps import map_as_bytes
from audit.config.kinds.closed import foreign_keys
from audit.config.sections import PromptsConfig
from audit.config.settings import AuditConfig
from audit.config.slices import DissectionRequest, FilesRequest, MeasurementRequest
from audit.dissect.settings import needs_lens, searched_attributes
from audit.evidence.adherence import keep_protocol, with_adherence
from audit.evidence.protocol import file_digests
from audit.evidence.samples import draw_samples
from audit.models.source import model_fingerprint
from audit.perception.judges.kinds.hand_labels import Labels
from audit.perception.judges.registry import judge_name, kind_of
from audit.planning.plan import images_of_prompts, prompts_of_model, shards_of_model
from audit.planning.targets import audit_targets
from audit.preflight.judges import left_out_groups
from audit.preflight.weights.needs import needed
from audit.records.attributes import Attribute
from audit.records.result import AuditResult
from audit.records.work import Shard
from audit.results.comparison.slots import Journal, series_of, slot_of
from audit.results.comparison.trend import earlier_points, write_trend
from audit.results.lens_evidence import keep_evidence
from audit.results.two_stages import Stages
from audit.storage.outside.safe_text import redact_tree
from audit.storage.place import Place, place_of
from audit.storage.run_directory import LENS, LOCATION, CorruptShardError, RunDirectory, decisive
from ray_jobs.cluster.connection import Cluster, connect
from ray_jobs.run.inputs import inputs_here, keep_prepared
from ray_jobs.run.inside.locate import ensure_map
from ray_jobs.run.parts import WorkerPool
from ray_jobs.run.prepare.fits import ensure_fits, keep_fit_costs
from ray_jobs.run.prepare.lens import ensure_lens
from ray_jobs.run.prepare.reference import reference_features
from ray_jobs.run.prepare.searches import search_strengths
from ray_jobs.run.prepare.steering import find_strengths
from ray_jobs.run.shards import ShardWork, discard_corrupt, do_stages
from ray_jobs.run.summary import Comparison, summarise_run, unmade_images, with_provenance
from ray_jobs.run.track import track, warn_of_outage
from ray_jobs.run.worker import WorkerSettings
from reports.export.files import write_exports
from reports.html import write_report
from reports.words.outside_groups import LEFT_OUT

BASELINES = "baselines"
"""Directory beside the runs with kept baseline images."""


@dataclass(frozen=True)
class AuditOutcome:
    """The outcome of an audit.

    Attributes:
        run_path: Run directory.
        report: The HTML report.
        result: The result over the finished shards.
        incomplete: Ids of the missing shards; running the audit again tries them again.
        unmade: Share of the images that could not be made, if it exceeds the error budget; None otherwise.
        tracking_url: Address of the run in MLflow, None if tracking is switched off or failed.
        seconds: Wall time of this attempt.
    """

    run_path: Place
    report: Place
    result: AuditResult
    incomplete: tuple[str, ...]
    unmade: float | None
    tracking_url: str | None
    seconds: float

    @property
    def complete(self) -> bool:
        """Whether every shard is finished and holds images."""
        return not self.incomplete and self.unmade is None


def run_audit(
    config: AuditConfig,
    *,
    run_id: str | None = None,
    address: str | None = None,
    fitted_on: PromptsConfig | None = None,
    protocol: bytes | None = None,
) -> AuditOutcome:
    """Run an audit, or resume it where an earlier attempt stopped.

    Args:
        config: The audit.
        run_id: Name of the run directory under ``config.output``. None means ``<name>-<hash of config and weights>``:
            the same audit finds its own directory again, and any change that affects a result begins a new one.
        address: A Ray cluster; None for this machine.
        fitted_on: Prompts that methods are fitted with and a lens is made from; None for those of the audit.
        protocol: Content of the protocol that was registered for this audit; None if there is none, and for a run that
            has kept its protocol.

    Raises:
        ConfigErrors: If a file with targets has mistakes.
        ProtocolError: If the run has kept another protocol.
        RunConflictError: If the run directory holds another audit.
        ClusterError: If the cluster cannot be reached.
        FitError: If a method cannot be fitted.
        DissectionError: If the lens cannot be made, or the strengths of a prompt cannot be found.
        PoolError: If no worker can be started, or no shard could be finished.
        CorruptShardError: If the file of a shard cannot be read, even after the shard was made again.
        NoImagesError: If no image could be made or classified.
        StorageError: If the object store that holds the results fails.
    """
    started = time.monotonic()
    warn_of_outage(config.tracking, config.tracking_uri)
    fitted = config if fitted_on is None else config.model_copy(update={"prompts": fitted_on})
    request, dissection = MeasurementRequest.of(config), DissectionRequest.of(fitted)
    prompts = prompts_of_model(config.model, config.prompts)
    attributes = tuple(Attribute(name, groups) for name, groups in config.attributes.items())
    targets = audit_targets(config.targets, [prompt.id for prompt in prompts], attributes)
    with connect(address, config.workers) as cluster:
        pool = WorkerPool(config.workers, cluster)
        run = open_run(config, run_id or default_run_id(config, fitted_on), cluster, fitted_on, protocol)
        lens = prepare_lens(config, dissection, run, pool)
        fit_prompts = prompts_of_model(fitted.model, fitted.prompts)
        fits = ensure_fits(MeasurementRequest.of(fitted), config.output, fit_prompts, pool, lens)
        keep_preparation(run, lens, fits)
        search_strengths(request, fits, run, prompts, pool)
        compared = Comparison(targets, config.gates, reference_features(config.quality, config.model, pool))
        work = ShardWork(run, _worker_settings(config, run, lens, fits), pool)
        summary, missing = sample_and_summarise(work, plan(config), compared)
    unmade = unmade_images(summary)
    result = with_adherence(run, with_provenance(summary, run, missing))
    write_exports(run, result)
    note_trend(result, run, config.name, series_of(config))
    report = write_report(run.path)
    url = track(config.tracking, run)
    beyond = unmade if unmade > config.workers.error_budget else None
    return AuditOutcome(run.path, report, result, missing, beyond, url, time.monotonic() - started)


def prepare_lens(
    config: AuditConfig, dissection: DissectionRequest, run: RunDirectory, pool: WorkerPool
) -> Place | None:
    """Make or find the lens that an audit needs, with the strengths that its edits take from it; None if it needs none.

    Raises:
        DissectionError: If the lens cannot be made, or the strengths of a prompt cannot be found.
    """
    if not needs_lens(config.lens, config.prompts, config.mitigations):
        return None
    keep_map(dissection, config.output, run, pool)
    searched = searched_attributes(config.mitigations)
    lens = ensure_lens(dissection, config.output, pool, steers=bool(searched))
    keep_evidence(lens, run.file(LENS))
    prompts = prompts_of_model(config.model, config.prompts)
    find_strengths(dissection, searched, lens, run, prompts, pool)
    return lens


def keep_preparation(run: RunDirectory, lens: Place | None, fits: Mapping[str, Place]) -> None:
    """Store in a run which lens and fits it uses, and what the fits cost."""
    keep_prepared(run, lens, fits)
    keep_fit_costs(fits, run)


def keep_map(request: DissectionRequest, output: str, run: RunDirectory, pool: WorkerPool) -> None:
    """Copy the location map of the model into the run, if there is one."""
    found = ensure_map(request, output, pool)
    if found is not None:
        run.write_bytes(LOCATION, map_as_bytes(found))


def plan(config: AuditConfig) -> tuple[Shard, ...]:
    """Return all shards of an audit; with two-stage sampling those of the pilot."""
    return shards_of_model(config.model, config.prompts, config.sampling.batch)


def sample_and_summarise(
    work: ShardWork, planned: Sequence[Shard], compared: Comparison
) -> tuple[AuditResult, tuple[str, ...]]:
    """Make all shards and summarise them; shards whose file cannot be read are made a second time.

    Args:
        work: Where and how shards are made.
        planned: The planned shards.
        compared: What the images are compared with.

    Returns:
        The summary of the finished shards, and the ids of the missing ones.

    Raises:
        CorruptShardError: If a file cannot be read a second time: the storage is not reliable.
    """
    try:
        return _sample_and_summarise(work, planned, compared)
    except CorruptShardError:
        discard_corrupt(work.run)
    return _sample_and_summarise(work, planned, compared)


def _sample_and_summarise(
    work: ShardWork, planned: Sequence[Shard], compared: Comparison
) -> tuple[AuditResult, tuple[str, ...]]:
    request = work.settings.request
    shards, finished = do_stages(work, planned, Stages.of(request.prompts, request.attributes))
    missing = tuple(shard.id for shard in shards if shard not in finished)
    return summarise_run(request, finished, work.run, compared), missing


def default_run_id(config: AuditConfig, fitted_on: PromptsConfig | None = None) -> str:
    """Name a run by everything that determines its results."""
    others = [] if fitted_on is None else [fitted_on.model_dump(mode="json")]
    text = json.dumps(
        [decisive(stored_config(config)), model_fingerprint(config.model), *_labels_by_hand(config), *others],
        sort_keys=True,
    )
    return f"{config.name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _labels_by_hand(config: AuditConfig) -> list[str]:
    """Return the checksums of tables of labels, which people correct and complete under the same file name."""
    judges = (config.judge, *config.second_opinions)
    return [judge_name(judge, config.model) for judge in judges if isinstance(kind_of(judge), Labels)]


def open_run(
    config: AuditConfig,
    run_id: str,
    cluster: Cluster,
    fitted_on: PromptsConfig | None = None,
    protocol: bytes | None = None,
) -> RunDirectory:
    """Create the run directory, or open it if it holds the same audit of the same weights; keep the protocol in it.

    Raises:
        RunConflictError: If it holds another config, or shards of other weights.
        ProtocolError: If it has kept another protocol.
    """
    run = RunDirectory(place_of(config.output).absolute() / run_id)
    provenance = inputs_here(FilesRequest.of(config), cluster.accelerators, fitted_on)
    left_out = left_out_groups(config.judge, config.model, config.attributes)
    if left_out:
        provenance[LEFT_OUT] = {attribute: list(groups) for attribute, groups in left_out.items()}
    run.create(redact_tree(stored_config(config)), redact_tree(provenance))
    if protocol is not None:
        keep_protocol(run, protocol, file_digests(needed(FilesRequest.of(config))))
    return run


def note_trend(result: AuditResult, run: RunDirectory, name: str, series: str) -> None:
    """Compare a scheduled run with the earlier runs of its series; do nothing for any other run.

    Args:
        result: Result of the run.
        run: Run directory.
        name: Name of the audit.
        series: Series that its config belongs to.
    """
    slot = slot_of(run.path.name)
    if slot is not None and slot.series == series:
        gaps = Journal.of(run.path.parent, name).gaps(series, slot.time)
        write_trend(run, result, earlier_points(run.path.parent, slot), gaps)


def _worker_settings(
    config: AuditConfig, run: RunDirectory, lens: Place | None, fits: dict[str, Place]
) -> WorkerSettings:
    prompts = prompts_of_model(config.model, config.prompts)
    images = images_of_prompts(config.model, config.prompts, prompts)
    return WorkerSettings(
        request=MeasurementRequest.of(config),
        report=config.report,
        run_path=str(run.path),
        lens_path=None if lens is None else str(lens.absolute()),
        working_directory=str(Path.cwd()),
        fits={name: str(place) for name, place in fits.items()},
        threads=config.workers.threads,
        baselines=str(place_of(config.output).absolute() / BASELINES),
        baseline_cache_gb=config.workers.baseline_cache_gb,
        samples=draw_samples(run, images, config.report.random_samples),
        watts_per_core=config.workers.watts_per_core,
        gpus_per_worker=config.workers.gpus_per_worker,
    )


def stored_config(config: AuditConfig) -> dict[str, Any]:
    """Return the config as the run directory stores it.

    Alerts are left out, since the path of a webhook can be a secret, and so are keys of the model of other sources.
    """
    return config.model_dump(mode="json", exclude={"alerts": True, "model": foreign_keys(config.model.source)})
