"""Searches the strengths of fitted edits for the prompts of an audit before the first shard, and stores them.

Strengths of edits through a lens are found in :mod:`ray_jobs.run.prepare.steering`, since a lens holds some already.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from audit.config.mitigations.registry import MitigationConfig, SearchableConfig
from audit.config.mitigations.section import SearchableSection
from audit.config.slices import MeasurementRequest
from audit.records.work import Prompt
from audit.results.run_strengths import keep_searched, searched_of
from audit.storage.place import Place
from audit.storage.run_directory import RunDirectory
from ray_jobs.run.network import NetworkSettings
from ray_jobs.run.parts import WorkerPool
from ray_jobs.run.prepare.strengths import Effort, StrengthSettings, StrengthTask, answer_files, answers_of

SEARCHES = "searches"
"""Folder of the answers in the run, by mitigation; deleted when all strengths are found."""


def search_strengths(
    request: MeasurementRequest,
    fits: Mapping[str, Place],
    run: RunDirectory,
    prompts: Sequence[Prompt],
    pool: WorkerPool,
) -> None:
    """Search the strength of every edit whose section asks for it, prompt by prompt; a resumed run keeps its strengths.

    Args:
        request: How the images are made and measured.
        fits: Name of a mitigation → directory of its fit.
        run: Run of the audit.
        prompts: Prompts of the audit.
        pool: Where strengths are searched.

    Raises:
        DissectionError: If a search failed.
    """
    settings = StrengthSettings(
        network=NetworkSettings(request.model, request.sampling, request.hookpoint),
        judge=request.judge,
        groups=request.attributes,
        template=request.prompts.template,
        fits={name: str(place) for name, place in fits.items()},
    )
    found = searched_of(run)
    for mitigation in _searched(request.sections):
        if mitigation.name in found:
            continue
        effort = Effort(mitigation.trial_images, mitigation.side_effect_budget)
        tasks = [StrengthTask(f"{prompt.id}-{mitigation.name}", mitigation, prompt, effort) for prompt in prompts]
        files = answer_files(run.file(SEARCHES), effort.budget)
        answers = answers_of(tasks, settings, files, pool)
        found[mitigation.name] = {task.prompt.id: answers[task.id].strengths(effort.budget) for task in tasks}
        keep_searched(run, found)
        files.delete(tasks)


def _searched(mitigations: Sequence[MitigationConfig]) -> Iterator[SearchableConfig]:
    for one in mitigations:
        if isinstance(one, SearchableSection) and one.searches_strength:
            yield one
