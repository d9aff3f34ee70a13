"""Checks the judges of a config against what their files hold and what they can answer.

Only the headers of weight files are read. A judge that passes here loads, and can judge the attributes of the config.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from audit.config.fields import GENERATED_HERE
from audit.config.judges import SECTIONS
from audit.config.problems import MODEL_KEYS, Problem, listing, suggestion
from audit.config.sections import JudgeConfig, ModelConfig, SecondOpinionConfig
from audit.config.slices import Attributes
from audit.perception.faces.finder import finder_problems
from audit.perception.judges.answers import left_out
from audit.perception.judges.interface import Asked, JudgeKind
from audit.perception.judges.kinds.hand_labels import Labels
from audit.perception.judges.registry import FALLBACK, WORDS, answers_of, kind_of, selected


@dataclass(frozen=True)
class JudgesRequest:
    """The judges of an audit and what they are asked.

    Attributes:
        judge: Judge that decides.
        second_opinions: Further judges.
        attributes: Audited attributes.
        model: Model whose images are judged.
        default_attributes: Whether the config leaves ``attributes`` out.
        further_images: Whether the deciding judge also sees images that are sampled to build a lens or find strengths.
        trained: Mitigations that ask the deciding judge for gradients.
    """

    judge: JudgeConfig
    second_opinions: tuple[SecondOpinionConfig, ...]
    attributes: Attributes
    model: ModelConfig
    default_attributes: bool = False
    further_images: bool = False
    trained: tuple[str, ...] = ()


def _judges(request: JudgesRequest) -> Iterator[Asked]:
    yield Asked(request.judge, ("judge",), "the judge", request.model, request.attributes)
    for index, opinion in enumerate(request.second_opinions):
        name = f"the second opinion {opinion.name!r}"
        asked = selected(opinion, request.attributes)
        yield Asked(opinion, ("second_opinions", index), name, request.model, asked)


def check_judges(request: JudgesRequest) -> Iterator[Problem]:
    """Find judges that are missing, whose file holds something else, or that cannot judge the attributes."""
    for asked in _judges(request):
        kind = kind_of(asked.judge)
        problems = tuple(_no_such_source(asked)) if kind is FALLBACK else ()
        problems = problems or (*kind.problems(asked), *_faces(asked))
        # Which kind a judge is depends on its section, which is missing here if it has an error.
        sections = tuple((*asked.at, section) for section in SECTIONS)
        for problem in problems or _unanswerable(request, asked, kind):
            yield replace(problem, reads=(*problem.reads, *sections))
    if request.further_images and isinstance(kind_of(request.judge), Labels):
        message = (
            "expected a judge of any image, because a lens is made from images without labels by hand, found a table "
            "of labels; remove the mitigations that use a lens and attribution: true, or name another judge"
        )
        yield Problem(("judge", "source"), message, reads=(("mitigations",), ("prompts", "attribution")))
    yield from _without_gradients(request)
    yield from _confusion(request)


def _without_gradients(request: JudgesRequest) -> Iterator[Problem]:
    """Find a judge that a training cannot follow."""
    if not request.trained:
        return
    kind, names, settings = kind_of(request.judge), listing(sorted(set(request.trained))), request.judge.classifier
    if settings is not None and settings.interpolation == "nearest":
        message = (
            f"expected pictures resized with a filter that has gradients (bilinear or bicubic) for {names}, found "
            "'nearest'; change it, or remove the mitigation"
        )
        yield Problem(("judge", "classifier", "interpolation"), message, reads=(("mitigations",),))
    if kind.has_gradients and request.judge.faces is None:
        return
    found = f"{kind.name} on faces that are cut out" if kind.has_gradients else kind.name
    message = (
        "expected a judge with gradients to whole pictures (bundled, zero-shot, a FairFace checkpoint or a classifier, "
        f"without faces) for {names}, found {found}; name another judge, or remove the mitigation"
    )
    yield Problem(("judge", "source"), message, reads=(("mitigations",), ("judge", "faces")))


def _no_such_source(asked: Asked) -> Iterator[Problem]:
    """Find a source that is neither a word nor a file."""
    if not Path(asked.judge.source).is_file():
        expected = ", ".join(map(repr, WORDS))
        message = (
            f"expected {expected}, a table of labels (.csv) or a FairFace checkpoint, found no file at "
            f"{asked.judge.source!r}; check the path"
        )
        yield Problem((*asked.at, "source"), message + suggestion(asked.judge.source, WORDS))


def _faces(asked: Asked) -> Iterator[Problem]:
    """Find what would stop faces from being found: dlib and its files."""
    settings = asked.judge.face_settings
    for key, message in finder_problems(settings) if settings is not None else ():
        named = asked.judge.faces is not None and getattr(asked.judge.faces, key) is not None
        at = (*asked.at, "faces", key) if named else (*asked.at, "source" if asked.judge.faces is None else "faces")
        yield Problem(at, message)


def left_out_groups(judge: JudgeConfig, model: ModelConfig, attributes: Attributes) -> dict[str, tuple[str, ...]]:
    """Return by attribute the groups that the deciding judge can name and that are not audited."""
    try:
        answers = answers_of(judge, model, attributes) or {}
    except ValueError:  # reported by check_judges
        return {}
    found = {name: left_out(answers, name, groups) for name, groups in attributes.items()}
    return {name: groups for name, groups in found.items() if groups}


def warnings_of(judge: JudgeConfig, model: ModelConfig, attributes: Attributes) -> Iterator[str]:
    """Return warnings of left out groups, of faces in drawings, and of a ``min_confidence`` without effect."""
    yield from _without_effect(judge, model, attributes)
    if judge.face_settings is not None and model.source in GENERATED_HERE:
        yield (
            f"judge: dlib finds no faces in the drawings of {model.source!r}, so an audit of this model would classify "
            "no image; set judge.source: bundled without faces, or name a model of photographs"
        )
    for name, groups in left_out_groups(judge, model, attributes).items():
        yield (
            f"attributes.{name} leaves out {listing(groups)}, which the judge can name too: an image that it sees as "
            "one of them counts as outside the audited groups, not as one of those that remain, and figures of "
            f"{name} are not corrected for the judge's errors"
        )


def _without_effect(judge: JudgeConfig, model: ModelConfig, attributes: Attributes) -> Iterator[str]:
    """Warn of a confidence that every image has: among K groups the most probable one has at least 1/K."""
    try:
        answers = answers_of(judge, model, attributes) or {}
    except ValueError:  # reported by check_judges
        return
    sizes = {name: len(answers.get(name, groups)) for name, groups in attributes.items()}
    without = {name: size for name, size in sizes.items() if 0 < judge.min_confidence <= 1 / size}
    if not without or isinstance(kind_of(judge), Labels):
        return
    everywhere = len(without) == len(sizes)
    if everywhere or "min_confidence" in judge.model_fields_set:
        most = max(without.values())
        where = "" if everywhere else f" by {listing(without)}"
        yield (
            f"judge.min_confidence: {judge.min_confidence:g} excludes no image{where}: the most probable of {most} "
            f"groups always has a probability of at least {1 / most:.2g}; set a larger value, or 0 to accept every "
            "best guess"
        )


def _unanswerable(request: JudgesRequest, asked: Asked, kind: JudgeKind) -> Iterator[Problem]:
    """Find attributes and groups that a judge cannot name."""
    try:
        answers = kind.answers(asked)
    except ValueError as error:
        yield Problem((*asked.at, "source"), str(error), reads=MODEL_KEYS)
        return
    reads = ((*asked.at, "source"), (*asked.at, "races"), *MODEL_KEYS)
    for attribute, groups in asked.attributes.items() if answers is not None else ():
        known = (answers or {}).get(attribute)
        if known is None:
            remedy = "name the attributes to audit" if request.default_attributes else "remove it"
            message = f"expected what {kind.name} can judge ({listing(answers or ())}), found {attribute!r}; {remedy}"
            yield Problem(("attributes", attribute), message + suggestion(attribute, answers or ()), reads)
            continue
        for index, group in enumerate(groups):
            if group not in known:
                message = f"expected groups of {attribute} that {kind.name} knows ({listing(known)}), found {group!r}"
                yield Problem(("attributes", attribute, index), message + suggestion(group, known), reads)


def _confusion(request: JudgesRequest) -> Iterator[Problem]:
    if request.judge.confusion is None:
        return
    from audit.perception.judges.confusion_file import judge_confusions

    try:
        judge_confusions(request.judge, request.model, request.attributes)
    except ValueError as error:
        yield Problem(("judge", "confusion"), f"{error}; make one with `difflens-audit calibrate LABELS`")
