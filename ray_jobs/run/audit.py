"""The straight line of an audit, from a config to a report."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit.calibration.bundle import bundle_of, world_table
from audit.calibration.world import World
from audit.config.settings import AuditConfig
from audit.dissect.settings import LENS_FILE
from audit.models.source import model_fingerprint
from audit.perception.judges.confusion_file import judge_confusions
from audit.planning.plan import arms_of, opinions_of, plan_shards, prompts_of
from audit.planning.targets import AuditTargets, audit_targets
from audit.preflight.instrument_checks import left_out_groups
from audit.records.attributes import Attribute
from audit.records.result import AuditResult
from audit.records.work import Shard, Status
from audit.results.comparison.slots import Journal, series_of, slot_of
from audit.results.comparison.trend import earlier_points, write_trend
from audit.results.lens_evidence import keep_evidence, lens_evidence
from audit.results.summary import SummaryPlan, summarise
from audit.results.two_stages import Stages, second_stage
from audit.storage.outside.safe_text import redact_tree
from audit.storage.place import Place, place_of
from audit.storage.provenance import collect_provenance
from audit.storage.run_directory import CHANGES_NO_RESULT, LENS, CorruptShardError, RunDirectory
from ray_jobs.cluster.connection import Cluster, connect
from ray_jobs.run.fits import ensure_fits
from ray_jobs.run.lens import ensure_lens
from ray_jobs.run.reference import reference_features
from ray_jobs.run.shards import NoImagesError, Prepared, discard_corrupt, do_shards
from ray_jobs.run.steering import find_strengths
from ray_jobs.run.track import track, warn_of_outage
from ray_jobs.run.worker import INSTRUMENTS, SAMPLING
from reports.export.files import write_exports
from reports.html import write_report
from reports.words.outside_groups import LEFT_OUT

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class AuditOutcome:
    """What an audit left behind.

    Attributes:
        run_path: The run directory.
        report: The HTML report.
        result: What was found, over the finished shards.
        incomplete: Ids of the shards that are missing; running again tries them again.
        unmade: Share of the images that could not be made, where it is beyond the error budget; None within it.
        tracking_url: Where MLflow has it, None if tracking is switched off or could not be reached.
        seconds: Wall time of this try.
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
        """Whether every shard was finished, with images in it."""
        return not self.incomplete and self.unmade is None


def run_audit(config: AuditConfig, *, run_id: str | None = None, address: str | None = None) -> AuditOutcome:
    """Run an audit, or go on with it where an earlier try stopped.

    Args:
        config: The audit.
        run_id: Name of the run directory under ``config.output``. Nothing means ``<name>-<hash of config and
            weights>``: the same audit finds its own directory again, what would change a result begins a new one.
        address: A Ray cluster; None for this machine.

    Raises:
        ConfigErrors: If a file with targets is mistaken.
        RunConflictError: If the run directory holds another audit.
        ClusterError: If the cluster cannot be reached.
        FitError: If a method cannot be fitted.
        DissectionError: If the model's lens is missing and cannot be made, or a prompt's strengths cannot be found.
        PoolError: If no worker can be started, or not one shard could be finished.
        CorruptShardError: If a shard's file cannot be read, and neither when it was written again.
        NoImagesError: If no image at all could be made.
        StorageError: If the object store that holds the results does not do its part.
    """
    started = time.monotonic()
    warn_of_outage(config)
    shards = plan(config)
    targets = targets_of(config, shards)
    with connect(address, config.workers) as cluster:
        run = open_run(config, run_id or default_run_id(config), cluster)
        lens = ensure_lens(config, cluster)
        if lens is not None:
            keep_evidence(lens, run.file(LENS))
            find_strengths(config, lens, run, tuple(dict.fromkeys(shard.prompt for shard in shards)), cluster)
        fits = ensure_fits(config, tuple(dict.fromkeys(shard.prompt for shard in shards)), cluster)
        reference = reference_features(config, cluster)
        shards, finished, summary = do_and_summarise(
            partial(do_stages, config, shards, run, Prepared(lens, fits), cluster),
            lambda finished: summarise_run(config, finished, run, targets, reference),
            run,
        )
    unmade = unmade_images(summary)
    missing = tuple(shard.id for shard in shards if shard not in finished)
    result = with_provenance(summary, run, missing)
    write_exports(run, result)
    note_trend(config, result, run)
    report = write_report(run.path)
    url = track(config, run)
    beyond = unmade if unmade > config.workers.error_budget else None
    return AuditOutcome(run.path, report, result, missing, beyond, url, time.monotonic() - started)


def plan(config: AuditConfig) -> tuple[Shard, ...]:
    """Return all shards of an audit; of two-stage sampling those of the pilot, which decide the others."""
    occupations = World.load(world_table(config.model)).occupations if bundle_of(config.model) else ()
    prompts = prompts_of(config, occupations)
    return plan_shards(prompts, config.prompts.images_per_prompt, config.sampling.batch)


def targets_of(config: AuditConfig, shards: Sequence[Shard]) -> AuditTargets:
    """Return what counts as fair for the prompts of the shards.

    Raises:
        ConfigErrors: If a file with targets is mistaken.
    """
    attributes = [Attribute(name, groups) for name, groups in config.attributes.items()]
    return audit_targets(config.targets, list(dict.fromkeys(shard.prompt.id for shard in shards)), attributes)


def default_run_id(config: AuditConfig) -> str:
    """Name a run by what decides its results."""
    decisive = {name: value for name, value in _plain(config).items() if name not in CHANGES_NO_RESULT}
    text = json.dumps([decisive, model_fingerprint(config.model)], sort_keys=True)
    return f"{config.name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def open_run(config: AuditConfig, run_id: str, cluster: Cluster) -> RunDirectory:
    """Make the run directory, or open it where the same audit of the same weights goes on.

    Raises:
        RunConflictError: If it holds another config, or shards of other weights.
    """
    run = RunDirectory(place_of(config.output).absolute() / run_id)
    provenance = collect_provenance(model_fingerprint(config.model), cluster.accelerators)
    left_out = left_out_groups(config)
    if left_out:
        provenance[LEFT_OUT] = {attribute: list(groups) for attribute, groups in left_out.items()}
    run.create(redact_tree(_plain(config)), redact_tree(provenance))
    return run


def do_stages(
    config: AuditConfig, shards: Sequence[Shard], run: RunDirectory, prepared: Prepared, cluster: Cluster
) -> tuple[tuple[Shard, ...], tuple[Shard, ...]]:
    """Do the planned shards and, where the config samples in two stages, those that their results ask for.

    Returns:
        All shards, and those that are finished, both in plan order.

    Raises:
        PoolError: If no worker can be started, or nothing could be finished.
    """
    stages = Stages.of(config)
    if stages is None:
        return tuple(shards), do_shards(config, shards, run, prepared, cluster, whole=len(shards))
    pilot = do_shards(config, shards, run, prepared, cluster, whole=None)
    further = second_stage(stages, run, pilot, config.sampling.batch)
    place = {prompt_id: number for number, prompt_id in enumerate(dict.fromkeys(s.prompt.id for s in shards))}
    every = tuple(sorted([*shards, *further], key=lambda shard: (place[shard.prompt.id], shard.number)))
    # A pilot that failed is for the next try: done now, it would leave its prompt without the stage that it asks for.
    possible = {shard.id for shard in (*pilot, *further)}
    ready = [shard for shard in every if shard.id in possible]
    return every, do_shards(config, ready, run, prepared, cluster, whole=len(every))


def do_and_summarise(
    do: Callable[[], tuple[tuple[Shard, ...], tuple[Shard, ...]]],
    summed_up: Callable[[tuple[Shard, ...]], AuditResult],
    run: RunDirectory,
) -> tuple[tuple[Shard, ...], tuple[Shard, ...], AuditResult]:
    """Do what is to do and sum up all that is finished; a shard whose file turns out broken is done once more.

    Returns:
        All shards, those that are finished, and what they say.

    Raises:
        CorruptShardError: If one is broken again: then it is the storage that cannot be trusted.
    """
    try:
        every, finished = do()
        return every, finished, summed_up(finished)
    except CorruptShardError:
        discard_corrupt(run)
    every, finished = do()
    return every, finished, summed_up(finished)


def summarise_run(
    config: AuditConfig,
    shards: tuple[Shard, ...],
    run: RunDirectory,
    targets: AuditTargets,
    reference: NDArray[np.float32] | None,
) -> AuditResult:
    """Summarise finished shards; everything is read from the run directory."""
    instruments = run.read_json(INSTRUMENTS)
    summary_plan = SummaryPlan(
        run_id=run.path.name,
        attributes=tuple(Attribute(name, groups) for name, groups in config.attributes.items()),
        shards=shards,
        arms=arms_of(config),
        targets=targets,
        clip_signature=instruments["clip"],
        feature_signature=instruments["features"],
        confusions=judge_confusions(config.judge, config.model, config.attributes),
        gates=config.gates,
        opinions=opinions_of(config),
        stages=Stages.of(config),
    )
    lens = lens_evidence(run.file(LENS)) if run.has(f"{LENS}/{LENS_FILE}") else None
    return summarise(run, summary_plan, lens, reference)


def unmade_images(result: AuditResult) -> float:
    """Return the share of all images, over the arms, that could not be made.

    Raises:
        NoImagesError: If it is all of them.
    """
    by_arm = {row.arm: row.statuses for row in result.overall}
    unmade = sum(statuses.get(Status.FAILED, 0) for statuses in by_arm.values())
    images = sum(sum(statuses.values()) for statuses in by_arm.values())
    if unmade == images:
        raise NoImagesError(
            f"none of {images} images could be made: each holds one single value, as NaN in the latents or a safety "
            "filter leave it. Try another model.dtype, or look at what the model gives for these prompts; to begin "
            "anew, choose another output"
        )
    return unmade / images


def with_provenance(result: AuditResult, run: RunDirectory, missing: Sequence[str]) -> AuditResult:
    """Add what was not known when the run began: instruments, the sampler, and the shards that are missing."""
    added: dict[str, Any] = {"instruments": run.read_json(INSTRUMENTS), "unfinished_shards": list(missing)}
    if run.has(SAMPLING):
        added["sampling"] = run.read_json(SAMPLING)
    return replace(result, provenance={**result.provenance, **added})


def note_trend(config: AuditConfig, result: AuditResult, run: RunDirectory) -> None:
    """Hold a scheduled run against the earlier ones of its series; of any other run there is nothing to note."""
    slot, series = slot_of(run.path.name), series_of(config)
    if slot is not None and slot.series == series:
        gaps = Journal.of(run.path.parent, config.name).gaps(series, slot.time)
        write_trend(run, result, earlier_points(run.path.parent, slot), gaps)


def _plain(config: AuditConfig) -> dict[str, Any]:
    """Return the config as the run directory keeps it: not who is told, since a webhook's path can be a secret."""
    return config.model_dump(mode="json", exclude={"alerts"})
