"""Checks the judges of a config against what their files hold and what they can answer.

Only the headers of weight files are read. A judge that passes here loads, and can judge the attributes of the config.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from audit.calibration.bundle import bundle_of
from audit.config.fields import ZERO_SHOT
from audit.config.problems import MODEL_KEYS, Location, Problem, listing, suggestion
from audit.config.sections import JudgeConfig, ModelConfig, SecondOpinionConfig
from audit.config.slices import Attributes
from audit.perception.judges.answers import FAIRFACE_HEAD, FAIRFACE_KIND, Answers, answers_of, left_out, races_problem
from audit.preflight.networks import missing_bundled_weights


@dataclass(frozen=True)
class JudgesRequest:
    """The judges of an audit and what they are asked.

    Attributes:
        judge: Judge that decides.
        second_opinions: Further judges.
        attributes: Audited attributes.
        model: Model whose images are judged.
        default_attributes: Whether the config leaves ``attributes`` out.
    """

    judge: JudgeConfig
    second_opinions: tuple[SecondOpinionConfig, ...]
    attributes: Attributes
    model: ModelConfig
    default_attributes: bool = False


@dataclass(frozen=True)
class _Asked:
    """One judge and what it is asked.

    Attributes:
        at: Its place in the config.
        name: Its name in a message.
        source: ``bundled``, ``zero-shot`` or a file.
        races: Races of a FairFace checkpoint, None if the config does not say.
        attributes: Names of the attributes that it judges.
    """

    at: Location
    name: str
    source: str
    races: int | None
    attributes: tuple[str, ...]

    def answers(self, model: ModelConfig) -> Answers | None:
        """Return the attributes and groups that it can judge, None if they are not known."""
        return answers_of(self.source, self.races, model)


def _judges(request: JudgesRequest) -> Iterator[_Asked]:
    judge = request.judge
    yield _Asked(("judge",), "the judge", judge.source, judge.races, tuple(request.attributes))
    for index, opinion in enumerate(request.second_opinions):
        asked = tuple(name for name in request.attributes if name in (opinion.attributes or request.attributes))
        at = ("second_opinions", index)
        yield _Asked(at, f"the second opinion {opinion.name!r}", opinion.source, opinion.races, asked)


def check_judges(request: JudgesRequest) -> Iterator[Problem]:
    """Find judges that are missing, whose file holds something else, or that cannot judge the attributes."""
    for judge in _judges(request):
        if judge.source == "bundled":
            yield from _bundled_judge(request, judge)
        elif judge.source != ZERO_SHOT:
            yield from _fairface(request, judge)
    yield from _confusion(request)


def left_out_groups(judge: JudgeConfig, model: ModelConfig, attributes: Attributes) -> dict[str, tuple[str, ...]]:
    """Return by attribute the groups that the deciding judge can name and that are not audited."""
    try:
        answers = answers_of(judge.source, judge.races, model) or {}
    except ValueError:  # reported by check_judges
        return {}
    found = {name: left_out(answers, name, groups) for name, groups in attributes.items()}
    return {name: groups for name, groups in found.items() if groups}


def warnings_of(judge: JudgeConfig, model: ModelConfig, attributes: Attributes) -> Iterator[str]:
    """Return a warning for each attribute that leaves out groups which the judge can name."""
    for name, groups in left_out_groups(judge, model, attributes).items():
        yield (
            f"attributes.{name} leaves out {listing(groups)}, which the judge can name too: an image that it sees as "
            "one of them counts as outside the audited groups, not as one of those that remain, and figures of "
            f"{name} are not corrected for the judge's errors"
        )


def _bundled_judge(request: JudgesRequest, judge: _Asked) -> Iterator[Problem]:
    at = (*judge.at, "source")
    if bundle_of(request.model) is None:
        message = f"expected a FairFace checkpoint for {request.model.source!r}, found 'bundled', which judges drawings"
        yield Problem(at, message + "; give a file", reads=(*MODEL_KEYS, ("model", "drawings")))
        return
    missing = tuple(missing_bundled_weights(request.model, "judge", at))
    yield from missing
    if not missing:
        yield from _unanswerable(request, judge, "the bundled judge")


def _fairface(request: JudgesRequest, judge: _Asked) -> Iterator[Problem]:
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
    yield from _unanswerable(request, judge, "FairFace")


def _unanswerable(request: JudgesRequest, judge: _Asked, name: str) -> Iterator[Problem]:
    """Find attributes and groups that a judge cannot name."""
    try:
        answers = judge.answers(request.model)
    except ValueError as error:
        yield Problem((*judge.at, "source"), str(error), reads=MODEL_KEYS)
        return
    reads = ((*judge.at, "source"), (*judge.at, "races"), *MODEL_KEYS)
    for attribute in judge.attributes if answers is not None else ():
        known = (answers or {}).get(attribute)
        if known is None:
            remedy = "name the attributes to audit" if request.default_attributes else "remove it"
            message = f"expected what {name} can judge ({listing(answers or ())}), found {attribute!r}; {remedy}"
            yield Problem(("attributes", attribute), message + suggestion(attribute, answers or ()), reads)
            continue
        for index, group in enumerate(request.attributes[attribute]):
            if group not in known:
                message = f"expected groups of {attribute} that {name} knows ({listing(known)}), found {group!r}"
                yield Problem(("attributes", attribute, index), message + suggestion(group, known), reads)


def _confusion(request: JudgesRequest) -> Iterator[Problem]:
    if request.judge.confusion is None:
        return
    from audit.perception.judges.confusion_file import judge_confusions

    try:
        judge_confusions(request.judge, request.model, request.attributes)
    except ValueError as error:
        yield Problem(("judge", "confusion"), f"{error}; make one with `difflens-audit calibrate LABELS`")
