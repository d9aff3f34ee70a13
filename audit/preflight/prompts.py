"""Checks prompts, and the gates and targets that refer to them."""

from __future__ import annotations

from collections.abc import Iterator

from audit.config.errors import ConfigErrors
from audit.config.problems import MODEL_KEYS, Problem, listing, suggestion
from audit.config.sections import TargetFileConfig
from audit.config.settings import AuditConfig
from audit.planning.plan import known_occupations, prompts_of
from audit.records.attributes import Attribute


def check_occupations(config: AuditConfig) -> Iterator[Problem]:
    """Find occupations that the model's world does not know, and a world that cannot be read.

    Yields:
        Problems, each with its place in the config.
    """
    named = config.prompts.occupations
    yield from _with_or_without_text(config)
    if named == "none":
        return
    try:
        known = known_occupations(config.model)
    except ValueError as error:
        message = f"expected a trained world or a table of planted shares, found none in {config.model.world} ({error})"
        yield Problem(("model", "world"), message + "; check the path", reads=MODEL_KEYS)
        return
    if known is None and named == "all":
        message = f"expected a list of occupations for {config.model.source!r}, found 'all', which only a world knows"
        yield Problem(("prompts", "occupations"), message, reads=MODEL_KEYS)
    if known is None or named == "all":
        return
    for index, occupation in enumerate(named):
        if occupation not in known:
            message = f"expected an occupation of the calibration world ({listing(known)}), found {occupation!r}"
            yield Problem(("prompts", "occupations", index), message + suggestion(occupation, known), reads=MODEL_KEYS)


def _with_or_without_text(config: AuditConfig) -> Iterator[Problem]:
    """Find prompts for a model that reads none, and a model that needs prompts and is given none."""
    from audit.models.families.registry import reads_text

    source, without = config.model.source, config.prompts.occupations == "none"
    if reads_text(config.model) is not without:
        return
    if without:
        message = f"expected occupations, since {source!r} draws what a prompt says, found 'none'; name some"
    else:
        message = f"expected 'none', since {source!r} reads no prompt, found occupations; set prompts: none"
    yield Problem(("prompts", "occupations"), message, reads=MODEL_KEYS)


def check_prompts(config: AuditConfig) -> Iterator[Problem]:
    """Find occupations that are unknown, and texts that the model or CLIP would not read to their end.

    Yields:
        Problems, each with its place in the config.
    """
    mistaken = False
    for problem in check_occupations(config):
        mistaken = True
        yield problem
    if not mistaken:
        from audit.preflight.prompt_lengths import cut_texts

        yield from cut_texts(config, prompts_of(config, known_occupations(config.model) or ()))


def check_gates(config: AuditConfig) -> Iterator[Problem]:
    """Find gates on prompts that the audit does not have.

    Yields:
        Problems, each with its place in the config; nothing where the prompts themselves cannot be known.
    """
    named = [(index, gate) for index, gate in enumerate(config.gates) if gate.prompt not in ("each", "overall")]
    if not named:
        return
    try:
        known = tuple(prompt.id for prompt in prompts_of(config, known_occupations(config.model) or ()))
    except ValueError:  # told by check_occupations
        return
    for index, gate in named:
        if gate.prompt not in known:
            message = f"expected 'each', 'overall' or the id of a prompt ({listing(known)}), found {gate.prompt!r}"
            reads = (("prompts", "occupations"), *MODEL_KEYS)
            yield Problem(("gates", index, "prompt"), message + suggestion(gate.prompt, known), reads)


def check_targets(config: AuditConfig) -> Iterator[Problem]:
    """Find what is mistaken in the files that targets come from, each mistake with its line in that file.

    Yields:
        Problems, each with its place in the config; nothing where the prompts themselves cannot be known.
    """
    files: dict[str, list[str]] = {}
    for name, choice in config.targets.items():
        if isinstance(choice, TargetFileConfig):
            files.setdefault(choice.csv, []).append(name)
    if not files:
        return
    from audit.planning.targets import audit_targets

    try:
        prompt_ids = [prompt.id for prompt in prompts_of(config, known_occupations(config.model) or ())]
    except ValueError:  # told by check_occupations
        return
    for names in files.values():
        own = [Attribute(name, tuple(config.attributes[name])) for name in names]
        try:
            audit_targets(config.targets, prompt_ids, own)
        except ConfigErrors as mistakes:
            reads = (("attributes",), ("prompts", "occupations"), *MODEL_KEYS)
            for error in mistakes.errors:
                yield Problem(("targets", names[0], "csv"), str(error), reads)
