"""Makes a finished run again from its run directory, and compares the rows."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from audit.config.document.tree import Node
from audit.config.fields import IMAGES
from audit.config.file import Findings, audit_of_tree, read_tree
from audit.config.sections import LensConfig, ModelConfig, PromptsConfig
from audit.config.settings import AuditConfig
from audit.config.slices import FilesRequest
from audit.planning.plan import prompts_of_model
from audit.preflight.readiness import check_ready
from audit.results.replay.facts import Facts, Origin, changed_facts
from audit.results.replay.outcome import REPLAY, REPLAY_ROWS, Replayed, replayed
from audit.results.replay.recorded import NotReplayableError, RecordedRun, read_recorded
from audit.storage.place import Place, place_of
from audit.storage.run_directory import CONFIG, RunDirectory
from ray_jobs.run.audit import run_audit, stored_config
from ray_jobs.run.inputs import FITTED_ON, inputs_here

LOG = logging.getLogger(__name__)

_KEPT_WORKERS = ("threads", "gpus_per_worker")
"""Keys of ``workers`` that a replay keeps, because they decide how numbers are rounded. The others describe the
machines of the first run."""


@dataclass(frozen=True)
class ReplayRequest:
    """What is made again, and where.

    Attributes:
        run: The finished run.
        output: Directory of the replay and of all that it makes: lens, fits.
        sets: Settings ``a.b=value`` that replace those of the first run.
        workers: Number of workers, None for as many as fit.
        prompts: Number of prompts, the first ones; None for all.
        share: Share of the images of each prompt, the first ones; None for all.
    """

    run: RunDirectory
    output: str
    sets: tuple[str, ...] = ()
    workers: int | None = None
    prompts: int | None = None
    share: float | None = None


@dataclass(frozen=True)
class ReplayOutcome:
    """The outcome of a replay.

    Attributes:
        place: Run directory of the replay.
        found: The comparison; None if shards of the replay are missing, so that it has to be resumed.
    """

    place: Place
    found: Replayed | None


def replay(request: ReplayRequest, *, address: str | None = None) -> ReplayOutcome:
    """Make a run again and compare every row; a replay that was stopped is resumed.

    Nothing is taken from what the first run made: no kept baseline image, no lens and no fit, unless the config names a
    lens by its path.

    Args:
        request: What is made again, and where.
        address: A Ray cluster; None for this machine.

    Raises:
        NotReplayableError: If the run cannot be made again, or the output already holds a finished replay.
        UnreadableRunError: If its rows cannot be read.
        ConfigErrors: If its config is not valid, or this machine lacks a file that it names.
        RuntimeError: In the cases of :func:`ray_jobs.run.audit.run_audit`.
    """
    was = read_recorded(request.run)
    place = _place_of_replay(request)
    root, findings = _tree(request, was.stored)
    whole = audit_of_tree(root, findings)
    _log_facts(_facts_before(was, whole))
    audit_of_tree(root, findings, [check_ready])
    part, words = _part(whole, was, request)
    outcome = run_audit(part, run_id=place.name, address=address, fitted_on=_fitted_on(whole, part, was))
    if not outcome.complete:
        return ReplayOutcome(place, None)
    run, here = RunDirectory(place), read_recorded(RunDirectory(place))
    if part is not whole and FITTED_ON not in was.provenance:  # the part has the fits of the whole
        here = replace(here, provenance={key: value for key, value in here.provenance.items() if key != FITTED_ON})
    found = replayed(was, _expected(was.rows, part, request), here, stored_config(whole), words)
    run.write_bytes(REPLAY_ROWS, found.rows_as_csv().encode())
    run.write_json(REPLAY, found.as_data())
    return ReplayOutcome(place, found)


def _place_of_replay(request: ReplayRequest) -> Place:
    """Return the run directory of the replay.

    Raises:
        NotReplayableError: If it would be beside the first run, whose lens and fits it would find, or is finished.
    """
    output, run = place_of(request.output).absolute(), request.run.path.absolute()
    if isinstance(output, Path) and isinstance(run, Path):
        output, run = output.resolve(), run.resolve()
    if output in (run, run.parent):
        raise NotReplayableError(
            f"--to: expected another directory than that of the first run, found {output}; a replay makes lens and "
            "fits again, and would find those of the first run there"
        )
    place = output / f"{run.name}-replay"
    if RunDirectory(place).has(REPLAY):
        raise NotReplayableError(
            f"{place}: expected no finished replay, found one ({REPLAY}); choose another directory with --to"
        )
    return place


def _tree(request: ReplayRequest, stored: Mapping[str, Any]) -> tuple[Node, Findings]:
    """Read the stored config with the settings of the replay in it."""
    workers = stored.get("workers")
    kept = {name: workers[name] for name in _KEPT_WORKERS if name in workers} if isinstance(workers, dict) else {}
    own: dict[str, Any] = {
        "workers": {**kept, "count": request.workers or "auto", "baseline_cache_gb": 0.0},
        "tracking": {"enabled": False},
    }
    output = json.dumps(request.output, ensure_ascii=False)
    with request.run.on_disk(CONFIG) as file:
        overrides = [f"{name}={json.dumps(value)}" for name, value in own.items()]
        root, findings = read_tree(file, [*overrides, *request.sets, f"output={output}"])
    lens = root.child("lens")
    if lens is not None and lens.plain() == LensConfig().model_dump(mode="json"):
        root.remove(lens)  # a hookpoint that nobody set need not be a module of this model
    return root, findings


def _facts_before(was: RecordedRun, config: AuditConfig) -> Facts | None:
    """Compare what is known before the run; None if files are missing here, which the check of the config reports."""
    fitted = _recorded_prompts(was)
    try:
        here = inputs_here(FilesRequest.of(config), (), fitted)
    except (OSError, ValueError):
        return None
    here.pop("devices")  # only the cluster knows its accelerators
    return changed_facts(Origin(was.config, was.provenance), Origin(stored_config(config), here))


def _log_facts(facts: Facts | None) -> None:
    if facts is None:
        return
    if not facts.changed:
        LOG.info("Before the run: no recorded fact differs here")
    for fact in facts.changed:
        LOG.info("Differs here: %s", fact.words)
    if facts.not_recorded:
        LOG.info("Not recorded by the first run: %s", ", ".join(facts.not_recorded))


def _part(config: AuditConfig, was: RecordedRun, request: ReplayRequest) -> tuple[AuditConfig, str]:
    """Return the config of the part that is made again, and the part in words.

    Raises:
        NotReplayableError: If there is no such part.
    """
    prompts, words = config.prompts, []
    if request.prompts is not None:
        prompts, total = _first_prompts(config.model, prompts, request.prompts)
        words.append(f"the first {request.prompts} of {total} prompts")
    if request.share is not None:
        images = _first_images(config, request.share)
        prompts = prompts.model_copy(update={"images_per_prompt": images, "two_stage": None})
        words.append(f"the first {images} of {config.prompts.images_per_prompt} images of each prompt")
    if not words:
        return config, ""
    # Gates and targets can name prompts that are left out; no row depends on them.
    changed = {"prompts": prompts, "gates": (), "targets": {}}
    return config.model_copy(update=changed), " and ".join(words)


def _first_prompts(model: ModelConfig, section: PromptsConfig, count: int) -> tuple[PromptsConfig, int]:
    every = prompts_of_model(model, section)
    if count >= len(every) or section.occupations == "none":
        raise NotReplayableError(
            f"--prompts: expected fewer than the {len(every)} prompts of the run, found {count}; leave the option "
            "out to replay all of them"
        )
    part = section.model_copy(update={"occupations": tuple(prompt.occupation for prompt in every[:count])})
    if prompts_of_model(model, part) != every[:count]:
        raise NotReplayableError(
            f"--prompts: the first {count} prompts have other names without the rest, because two names differ only in "
            "spelling; choose more prompts, or --sample"
        )
    return part, len(every)


def _first_images(config: AuditConfig, share: float) -> int:
    """Return how many images of each prompt a share is, in whole batches."""
    if config.model.source == IMAGES:
        raise NotReplayableError(
            "--sample: expected a model that makes images, found existing pictures, which are judged together; use "
            "--prompts"
        )
    batch, images = config.sampling.batch, config.prompts.images_per_prompt
    return min(images, batch * math.ceil(share * images / batch))


def _fitted_on(whole: AuditConfig, part: AuditConfig, was: RecordedRun) -> PromptsConfig | None:
    """Return the prompts that methods were fitted with; those of the whole audit if a part of it is made again."""
    return _recorded_prompts(was) or (None if part is whole else whole.prompts)


def _recorded_prompts(was: RecordedRun) -> PromptsConfig | None:
    recorded = was.provenance.get(FITTED_ON)
    try:
        return None if recorded is None else PromptsConfig.model_validate(recorded)
    except ValueError as error:
        raise NotReplayableError(
            f"provenance.{FITTED_ON} of {was.run_id}: expected a section prompts, found {recorded!r:.80}"
        ) from error


def _expected(rows: pa.Table, part: AuditConfig, request: ReplayRequest) -> pa.Table:
    """Return the rows of the first run that are made again."""
    if request.prompts is not None:
        names = [prompt.id for prompt in prompts_of_model(part.model, part.prompts)]
        rows = rows.filter(pc.is_in(rows["prompt_id"], value_set=pa.array(names)))
    if request.share is not None:
        rows = rows.filter(pc.less(rows["index"], part.prompts.images_per_prompt))
    return rows
