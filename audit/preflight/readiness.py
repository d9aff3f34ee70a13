"""Checks a config against this machine, before any work: files, the calibration world, shapes, the tracking server.

No network is loaded and no GPU is used. The checks take slices of the config; the functions here make the slices. Each
check yields :class:`Problem` records, so that a caller can show them at their lines in the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from audit.config.fields import API
from audit.config.mitigations.arms import sections_of
from audit.config.problems import Problem
from audit.config.sections import LensConfig, with_clip
from audit.config.settings import AuditConfig
from audit.config.slices import CommandsRequest, DissectionRequest, FilesRequest, MeasurementRequest
from audit.dissect.settings import dissected_groups, images_of_dissection, needs_lens, searched_attributes
from audit.planning.plan import prompts_of_model
from audit.preflight import prompts
from audit.preflight.judges import JudgesRequest, check_judges
from audit.preflight.lens import check_lens, hookpoints_of, in_known_blocks, unreadable
from audit.preflight.lens_memory import lens_forecast
from audit.preflight.model import Hookpoints, check_methods, check_model, check_reverse_steps
from audit.preflight.networks import check_quality
from audit.preflight.optional.command_work import CommandWork, command_works
from audit.preflight.output import check_output
from audit.preflight.tracking import check_tracking
from audit.preflight.weights.manifest import check_bundles
from audit.preflight.weights.missing import missing_files
from audit.preflight.weights.needs import Need, needed, needed_by_commands
from audit.preflight.work import Work, work_of

Check = Callable[[AuditConfig], Iterator[Problem]]
"""Finds problems of a config on this machine."""


def check_ready(config: AuditConfig) -> Iterator[Problem]:
    """Find what would stop an audit of this config on this machine.

    Yields:
        Problems, each with its place in the config; none if everything is ready.
    """
    damaged = tuple(_checked("model", check_bundle, config))
    yield from damaged
    for section, check in _CHECKS.items():
        # What else is wrong with a damaged file would only say the same in other words.
        if not damaged or section not in WITH_FILES:
            yield from _checked(section, check, config)


def check_located(config: AuditConfig) -> Iterator[Problem]:
    """Find what would stop a location map on this machine; not where edits act, since the map shows where they can.

    Yields:
        Problems, each with its place in the config.
    """
    return check_ready(config.model_copy(update={"mitigations": (), "lens": LensConfig()}))


def check_files(config: AuditConfig) -> Iterator[Problem]:
    """Find what is wrong with the files that a config names, whatever else this machine has.

    Yields:
        Problems, each with its place in the config.
    """
    return (problem for section in WITH_FILES for problem in _checked(section, _CHECKS[section], config))


def check_present_files(config: AuditConfig) -> Iterator[Problem]:
    """Find what is wrong with a config and the files that are here, before those that are missing are downloaded."""
    absent = {missing.need.location for missing in missing_files(needs_of(config))}
    return (problem for problem in check_files(config) if problem.location not in absent)


def needs_of(config: AuditConfig) -> tuple[Need, ...]:
    """List every file and model that a config names, for an audit and for the commands that it has sections for."""
    return (*needed(FilesRequest.of(config)), *needed_by_commands(CommandsRequest.of(config)))


def check_bundle(config: AuditConfig) -> Iterator[Problem]:
    """Find files of an offline bundle that are not as they were when it was made."""
    return check_bundles(needs_of(config))


def _checked(section: str, check: Check, config: AuditConfig) -> Iterator[Problem]:
    try:
        yield from check(config)
    except OSError as error:  # a name too long for the file system, or a directory without permission
        message = f"expected a file or directory that can be looked at, found {str(error.filename)[:80]!r}"
        yield Problem((section,), f"{message} ({error.strerror}); check the path")


def check_prompts(config: AuditConfig) -> Iterator[Problem]:
    """Find unknown occupations, and texts that the model or CLIP would cut off.

    Yields:
        Problems, each with its place in the config.
    """
    unknown = tuple(prompts.check_occupations(config.model, config.prompts))
    yield from unknown
    if not unknown:
        from audit.preflight.pictures import check_budget
        from audit.preflight.prompt_lengths import cut_texts

        made = needs_lens(config.lens, config.prompts, config.mitigations) and config.lens.path is None
        dissected = dissected_groups(config.lens, config.attributes) if made else {}
        named = prompts_of_model(config.model, config.prompts)
        yield from cut_texts(MeasurementRequest.of(config), dissected, named)
        if config.model.source == API:
            yield from check_budget(config.model, len(named) * config.prompts.images_per_prompt)


def check_gates(config: AuditConfig) -> Iterator[Problem]:
    """Find gates on prompts that the audit does not have."""
    return prompts.check_gates(config.gates, config.model, config.prompts)


def check_targets(config: AuditConfig) -> Iterator[Problem]:
    """Find mistakes in the files that targets come from."""
    return prompts.check_targets(config.targets, config.attributes, config.model, config.prompts)


def check_judge(config: AuditConfig) -> Iterator[Problem]:
    """Find what would stop the deciding judge from loading on this machine, whatever it judges."""
    judge = with_clip(config.judge, config.quality)
    default = "attributes" not in config.model_fields_set
    return check_judges(JudgesRequest(judge, (), config.attributes, config.model, default))


def planned_work(config: AuditConfig) -> Work:
    """Count the work of an audit, including the lens that may have to be made."""
    request = MeasurementRequest.of(config)
    if not needs_lens(config.lens, config.prompts, config.mitigations):
        return work_of(request, 0)
    dissection = DissectionRequest.of(config)
    searched = bool(searched_attributes(config.mitigations))
    work = work_of(request, images_of_dissection(dissection, searched=searched))
    found = None if config.lens.path is not None else lens_forecast(dissection)
    return work if found is None else replace(work, lens_disk=found.disk, lens_memory=found.memory)


def planned_commands(config: AuditConfig) -> tuple[CommandWork, ...]:
    """Count what other commands sample for the sections that the config has for them."""
    return command_works(CommandsRequest.of(config))


def _check_judges(config: AuditConfig) -> Iterator[Problem]:
    default = "attributes" not in config.model_fields_set
    judge, opinions = with_clip(config.judge, config.quality), config.second_opinions
    lens = needs_lens(config.lens, config.prompts, config.mitigations)
    searched = any(section.searches_strength for section in sections_of(config.mitigations))
    further = lens and (config.lens.path is None or searched)
    trained = tuple(one.name for one in sections_of(config.mitigations) if one.judge_gradients)
    return check_judges(JudgesRequest(judge, opinions, config.attributes, config.model, default, further, trained))


def _hookpoints(config: AuditConfig) -> Hookpoints:
    """Return the modules that are read or edited; the default of a lens that is not used need not be one."""
    used = needs_lens(config.lens, config.prompts, config.mitigations) or "hookpoint" in config.lens.model_fields_set
    found = hookpoints_of(config.lens if used else None, config.mitigations)
    explored = config.explore.hookpoint
    return found if explored is None else found | {("explore", "hookpoint"): explored}


def check_explored(config: AuditConfig) -> Iterator[Problem]:
    """Find what stops ``explore`` from reading the pictures of its folder; an audit runs without them."""
    return _checked("explore", _check_explored, config)


def _check_explored(config: AuditConfig) -> Iterator[Problem]:
    from audit.preflight.pictures import check_read_pictures

    return check_read_pictures(config.explore.pictures, config.model, config.sampling, unreadable(config.model))


def check_composed(config: AuditConfig) -> Iterator[Problem]:
    """Find what stops ``compose`` from sampling, finding and judging two people; an audit runs without it."""
    return _checked("compositions", _check_composed, config)


def _check_composed(config: AuditConfig) -> Iterator[Problem]:
    from audit.preflight.optional.compositions import ComposedRequest, check_compositions
    from audit.preflight.prompt_lengths import clip_reader_of, model_reader

    section, model, quality = config.compositions, config.model, config.quality
    if not section.pairs:
        return iter(())
    judge, reader, clip = with_clip(config.judge, quality), model_reader(model), clip_reader_of(quality, model)
    return check_compositions(ComposedRequest(section, model, judge, quality, config.attributes, reader, clip))


def _check_model(config: AuditConfig) -> Iterator[Problem]:
    known = in_known_blocks(config.model, _hookpoints(config))
    yield from check_model(config.model, config.sampling, known)
    yield from check_reverse_steps(config.model, config.sampling, config.mitigations)
    yield from check_methods(config.model, config.sampling, config.mitigations)


WITH_FILES = ("model", "prompts", "quality", "judge", "lens", "targets")
"""Sections whose checks read the files of models, judges and networks."""

_CHECKS: Mapping[str, Check] = {
    "model": _check_model,
    "prompts": check_prompts,
    "quality": lambda config: check_quality(config.quality, config.model),
    "judge": _check_judges,
    "lens": lambda config: check_lens(config.lens, config.model, config.sampling, _hookpoints(config)),
    "targets": check_targets,
    "gates": check_gates,
    "output": lambda config: check_output(config.output),
    "tracking": lambda config: check_tracking(config.tracking, config.tracking_uri),
}
"""Section of the config → check of what this machine must have for it."""
