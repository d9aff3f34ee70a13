"""Checks prompts, and the gates and targets that refer to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from audit.config.errors import ConfigErrors
from audit.config.fields import IMAGES
from audit.config.problems import MODEL_KEYS, Problem, listing, suggestion
from audit.config.sections import GateConfig, ModelConfig, PromptsConfig, TargetChoice, TargetFileConfig
from audit.planning.pictures import PictureErrors
from audit.planning.plan import known_occupations, prompts_of_model
from audit.records.attributes import Attribute


def check_occupations(model: ModelConfig, prompts: PromptsConfig) -> Iterator[Problem]:
    """Find occupations that the world of the model does not know, and a world that cannot be read.

    Yields:
        Problems, each with its place in the config.
    """
    named = prompts.occupations
    yield from _with_or_without_text(model, prompts)
    if named == "none":
        return
    try:
        known = known_occupations(model)
    except PictureErrors as mistakes:
        at = ("model", "folder" if model.folder is not None else "manifest")
        yield from (Problem(at, str(error), reads=(("model", "source"),)) for error in mistakes.errors)
        return
    except ValueError as error:
        message = f"expected a trained world or a table of planted shares, found none in {model.world} ({error})"
        yield Problem(("model", "world"), message + "; check the path", reads=MODEL_KEYS)
        return
    if known is None and named == "all":
        message = f"expected a list of occupations for {model.source!r}, found 'all', which only a world knows"
        yield Problem(("prompts", "occupations"), message, reads=MODEL_KEYS)
    if known is None or named == "all":
        return
    for index, occupation in enumerate(named):
        if occupation not in known:
            world = "pictures" if model.source == IMAGES else "calibration world"
            message = f"expected an occupation of the {world} ({listing(known)}), found {occupation!r}"
            yield Problem(("prompts", "occupations", index), message + suggestion(occupation, known), reads=MODEL_KEYS)


def _with_or_without_text(model: ModelConfig, prompts: PromptsConfig) -> Iterator[Problem]:
    """Find prompts for a model that reads none, and a model that needs prompts and is given none."""
    from audit.models.families.registry import reads_text

    source, without = model.source, prompts.occupations == "none"
    if reads_text(model) is not without:
        return
    if without:
        message = f"expected occupations, since {source!r} draws what a prompt says, found 'none'; name some"
    else:
        message = f"expected 'none', since {source!r} reads no prompt, found occupations; set prompts: none"
    yield Problem(("prompts", "occupations"), message, reads=MODEL_KEYS)


def check_gates(gates: Sequence[GateConfig], model: ModelConfig, prompts: PromptsConfig) -> Iterator[Problem]:
    """Find gates on prompts that the audit does not have, and on the mean over prompts of an audit without prompts.

    Yields:
        Problems, each with its place in the config; none if the prompts themselves are not known.
    """
    if not gates:
        return
    try:
        known = tuple(prompt.id for prompt in prompts_of_model(model, prompts))
    except (ValueError, PictureErrors):  # reported by check_occupations
        return
    reads = (("prompts", "occupations"), *MODEL_KEYS)
    for index, gate in enumerate(gates):
        at = ("gates", index, "prompt")
        if gate.prompt not in ("each", "overall", *known):
            message = f"expected 'each', 'overall' or the id of a prompt ({listing(known)}), found {gate.prompt!r}"
            yield Problem(at, message + suggestion(gate.prompt, known), reads)
        elif gate.prompt == "overall" and gate.measure == "fairness_discrepancy" and prompts.occupations == "none":
            message = f"expected {known[0]!r} for a model that reads no prompt, found 'overall', a mean over prompts"
            yield Problem(at, f"{message}; set prompt: {known[0]}", reads)


def check_targets(
    targets: Mapping[str, TargetChoice],
    attributes: Mapping[str, Sequence[str]],
    model: ModelConfig,
    prompts: PromptsConfig,
) -> Iterator[Problem]:
    """Find mistakes in the files that targets come from, each with its line in that file.

    Args:
        targets: Section ``targets`` of the config.
        attributes: Audited attributes with their groups.
        model: Section ``model``.
        prompts: Section ``prompts``.

    Yields:
        Problems, each with its place in the config; none if the prompts themselves are not known.
    """
    files: dict[str, list[str]] = {}
    for name, choice in targets.items():
        if isinstance(choice, TargetFileConfig):
            files.setdefault(choice.csv, []).append(name)
    if not files:
        return
    from audit.planning.targets import audit_targets

    try:
        prompt_ids = [prompt.id for prompt in prompts_of_model(model, prompts)]
    except (ValueError, PictureErrors):  # reported by check_occupations
        return
    for names in files.values():
        own = [Attribute(name, tuple(attributes[name])) for name in names]
        try:
            audit_targets(targets, prompt_ids, own)
        except ConfigErrors as mistakes:
            reads = (("attributes",), ("prompts", "occupations"), *MODEL_KEYS)
            for error in mistakes.errors:
                yield Problem(("targets", names[0], "csv"), str(error), reads)
