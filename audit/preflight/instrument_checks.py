"""Checks what measures against the config and against what its files hold: judges, CLIP, the feature network.

Configs and the headers of weight files are read, no weights. Whatever is accepted here loads, and can be asked what the
config asks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from audit.config.fields import CLIP_SOURCES, GENERATED_HERE, ZERO_SHOT, names_clip_weights
from audit.config.problems import MODEL_KEYS, Location, Problem, listing, suggestion
from audit.config.sections import ModelConfig
from audit.config.settings import AuditConfig
from audit.models.files.untrusted_model import UntrustedModelError, check_clip
from audit.perception.judges.answers import FAIRFACE_HEAD, FAIRFACE_KIND, Answers, answers_of, left_out, races_problem


@dataclass(frozen=True)
class _Asked:
    """A judge of a config, with what it is asked.

    Attributes:
        at: Where the config names it.
        name: What it is called in a sentence.
        source: ``bundled``, ``zero-shot`` or a file.
        races: Races of a FairFace checkpoint, where the config says so.
        attributes: Names of the attributes that it is asked about.
    """

    at: Location
    name: str
    source: str
    races: int | None
    attributes: tuple[str, ...]

    def answers(self, model: ModelConfig) -> Answers | None:
        """Return what it can be asked, None where that is not known."""
        return answers_of(self.source, self.races, model)


def _judges(config: AuditConfig) -> Iterator[_Asked]:
    judge = config.judge
    yield _Asked(("judge",), "the judge", judge.source, judge.races, tuple(config.attributes))
    for index, opinion in enumerate(config.second_opinions):
        asked = tuple(name for name in config.attributes if name in (opinion.attributes or config.attributes))
        at = ("second_opinions", index)
        yield _Asked(at, f"the second opinion {opinion.name!r}", opinion.source, opinion.races, asked)


# ---- judges --------------------------------------------------------------------------------------------------------


def check_judges(config: AuditConfig) -> Iterator[Problem]:
    """Find judges that are not there, whose file holds something else, or that cannot be asked what the config asks."""
    for judge in _judges(config):
        if judge.source == "bundled":
            yield from _bundled_judge(config, judge)
        elif judge.source != ZERO_SHOT:
            yield from _fairface(config, judge)
    yield from _confusion(config)


def left_out_groups(config: AuditConfig) -> dict[str, tuple[str, ...]]:
    """Return the groups that the deciding judge can name and the config does not audit, by attribute."""
    try:
        answers = answers_of(config.judge.source, config.judge.races, config.model) or {}
    except ValueError:  # reported by check_judges
        return {}
    found = {name: left_out(answers, name, groups) for name, groups in config.attributes.items()}
    return {name: groups for name, groups in found.items() if groups}


def warnings_of(config: AuditConfig) -> Iterator[str]:
    """Say in words what a valid config should make its author think twice about."""
    for name, groups in left_out_groups(config).items():
        yield (
            f"attributes.{name} leaves out {listing(groups)}, which the judge can name too: an image that it sees as "
            "one of them counts as outside the audited groups, not as one of those that remain, and figures of "
            f"{name} are not corrected for the judge's errors"
        )


def _bundled_judge(config: AuditConfig, judge: _Asked) -> Iterator[Problem]:
    at = (*judge.at, "source")
    if config.model.source not in GENERATED_HERE:
        message = f"expected a FairFace checkpoint for {config.model.source!r}, found 'bundled', which judges drawings"
        yield Problem(at, message + "; give a file", reads=MODEL_KEYS)
        return
    missing = tuple(_bundled(config.model, "judge", at))
    yield from missing
    if not missing:
        yield from _unanswerable(config, judge, "the bundled judge")


def _fairface(config: AuditConfig, judge: _Asked) -> Iterator[Problem]:
    at, path = (*judge.at, "source"), Path(judge.source)
    if not path.is_file():
        words = ("bundled",) if judge.at[0] == "judge" else ("bundled", ZERO_SHOT)
        expected = ", ".join(map(repr, words))
        message = f"expected {expected} or a FairFace checkpoint, found no file at {judge.source!r}; check the path"
        yield Problem(at, message + suggestion(judge.source, words))
        return
    from audit.models.files.state_file import weights_problem
    from audit.perception.judges.classifiers import fairface_network

    obstacle = weights_problem(path, fairface_network, FAIRFACE_KIND, FAIRFACE_HEAD)
    if obstacle is not None:
        yield Problem(at, obstacle)
        return
    unclear = races_problem(path, judge.races, judge.attributes)
    if unclear is not None:
        yield Problem((*judge.at, "races"), unclear, reads=(at,))
        return
    yield from _unanswerable(config, judge, "FairFace")


def _unanswerable(config: AuditConfig, judge: _Asked, name: str) -> Iterator[Problem]:
    """Find attributes and groups that a judge does not know."""
    try:
        answers = judge.answers(config.model)
    except ValueError as error:
        yield Problem((*judge.at, "source"), str(error), reads=MODEL_KEYS)
        return
    reads = ((*judge.at, "source"), (*judge.at, "races"), *MODEL_KEYS)
    for attribute in judge.attributes if answers is not None else ():
        known = (answers or {}).get(attribute)
        if known is None:
            remedy = "name the attributes to audit" if "attributes" not in config.model_fields_set else "remove it"
            message = f"expected what {name} can judge ({listing(answers or ())}), found {attribute!r}; {remedy}"
            yield Problem(("attributes", attribute), message + suggestion(attribute, answers or ()), reads)
            continue
        for index, group in enumerate(config.attributes[attribute]):
            if group not in known:
                message = f"expected groups of {attribute} that {name} knows ({listing(known)}), found {group!r}"
                yield Problem(("attributes", attribute, index), message + suggestion(group, known), reads)


def _confusion(config: AuditConfig) -> Iterator[Problem]:
    if config.judge.confusion is None:
        return
    from audit.perception.judges.confusion_file import judge_confusions

    try:
        judge_confusions(config.judge, config.model, config.attributes)
    except ValueError as error:
        yield Problem(("judge", "confusion"), f"{error}; make one with `difflens-audit calibrate LABELS`")


# ---- networks ------------------------------------------------------------------------------------------------------


def check_networks(config: AuditConfig) -> Iterator[Problem]:
    """Find a CLIP model or a feature network that is not there, or whose files hold something else."""
    quality = config.quality
    for name, remedy in (("clip", CLIP_SOURCES), ("features", "a file of Inception weights")):
        if getattr(quality, name) != "bundled":
            continue
        yield from _bundled(config.model, name, ("quality", name))
        if config.model.source not in GENERATED_HERE:
            message = f"expected 'none' for {config.model.source!r}, or {remedy}; found 'bundled', made for drawings"
            yield Problem(("quality", name), message, reads=MODEL_KEYS)
    if quality.clip not in ("bundled", "none"):
        yield from _clip(quality.clip, ("quality", "clip"))
    if quality.features not in ("bundled", "none"):
        yield from _features(quality.features, ("quality", "features"))


def _clip(source: str, at: Location) -> Iterator[Problem]:
    """Find out whether a CLIP model of the user's brings weights, as far as this machine knows."""
    if Path(source).is_dir():
        yield from _clip_directory(Path(source), at)
    elif source.startswith((".", "/", "~")):
        yield Problem(at, f"expected a directory, found none at {source}; check the path")
    elif not names_clip_weights(source):
        yield Problem(at, f"expected {CLIP_SOURCES}, found {source!r}, which names no weights; add them")
    elif not source.startswith("hf-hub:"):
        import open_clip  # takes seconds, which are spent where its weights are named and nowhere else

        known = open_clip.list_pretrained(as_str=True)
        if source not in known:
            message = f"expected a model and weights that open_clip knows, found {source!r}"
            yield Problem(at, message + suggestion(source, known))


def _clip_directory(directory: Path, at: Location) -> Iterator[Problem]:
    from audit.perception.embedders.clip_directory import clip_problem

    try:
        check_clip(directory)
    except UntrustedModelError as error:
        yield Problem(at, str(error))
        return
    obstacle = clip_problem(directory)
    if obstacle is not None:
        yield Problem(at, obstacle)


def _features(source: str, at: Location) -> Iterator[Problem]:
    path = Path(source)
    if not path.is_file():
        message = f"expected 'bundled', 'none' or a file of weights, found no file at {source!r}"
        yield Problem(at, message + suggestion(source, ("bundled", "none")))
        return
    from audit.models.files.state_file import weights_problem
    from audit.perception.embedders.features import INCEPTION_HEAD, INCEPTION_KIND, inception_network

    obstacle = weights_problem(path, inception_network, INCEPTION_KIND, INCEPTION_HEAD)
    if obstacle is not None:
        yield Problem(at, obstacle)


def _bundled(model: ModelConfig, part: str, location: Location) -> Iterator[Problem]:
    """Find out whether a network that was trained with the calibration model is there."""
    from audit.calibration.bundle import bundle_of

    bundle = bundle_of(model)
    if bundle and not any((bundle.instruments / part).glob("**/*.safetensors")):
        message = f"expected the weights that 'bundled' stands for, found none in {bundle.instruments / part}"
        yield Problem(location, message + "; train them: make calibration", reads=MODEL_KEYS)
