"""Checks the section ``compositions``: the model, the occupations, the judge, the finder of persons and CLIP."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from audit.calibration.bundle import bundle_of
from audit.config.fields import CLIP_SOURCES, CLOSED
from audit.config.judges import JudgeKeys
from audit.config.optional.compositions import CompositionsConfig
from audit.config.problems import MODEL_KEYS, Location, Problem, listing, suggestion
from audit.config.sections import ModelConfig, QualityConfig
from audit.config.slices import Attributes
from audit.models.files.text_reader import TextReader
from audit.perception.faces.finder import finder_problems
from audit.perception.judges.kinds.hand_labels import Labels
from audit.perception.judges.registry import kind_of
from audit.perception.persons.finder import faces_of
from audit.planning.compositions import alone_prompts, matching_texts, pair_prompts
from audit.planning.plan import known_occupations

_PAIRS: Location = ("compositions", "pairs")


@dataclass(frozen=True)
class ComposedRequest:
    """What is checked.

    Attributes:
        section: Section ``compositions``.
        model: Section ``model``.
        judge: The judge.
        quality: Section ``quality``, which names the CLIP model.
        attributes: Audited attributes and their groups, which texts for CLIP name.
        reader: Tokenizer of the model; None if it is not here or has no limit.
        clip: Tokenizer of the CLIP model; None if it is not here.
    """

    section: CompositionsConfig
    model: ModelConfig
    judge: JudgeKeys
    quality: QualityConfig
    attributes: Attributes
    reader: TextReader | None
    clip: TextReader | None


def check_compositions(request: ComposedRequest) -> Iterator[Problem]:
    """Find what stops ``compose``; nothing is checked without pairs.

    Yields:
        Problems, each with its place in the config.
    """
    if not request.section.pairs:
        return
    yield from _model(request.model)
    yield from _occupations(request)
    yield from _judge(request)
    if request.quality.clip == "none":
        sources = CLIP_SOURCES if bundle_of(request.model) is None else f"bundled, {CLIP_SOURCES}"
        message = (
            f"expected a CLIP model ({sources}), which matches persons with their occupations, found 'none'; name one, "
            "or remove compositions"
        )
        yield Problem(("quality", "clip"), message, reads=(_PAIRS,))
    yield from _long_texts(request)


def _model(model: ModelConfig) -> Iterator[Problem]:
    from audit.models.families.registry import reads_text

    if model.source in CLOSED:
        message = (
            f"expected a model that can be sampled here, found {model.source!r} ({CLOSED[model.source]}); remove "
            "compositions, or name another model"
        )
        yield Problem(_PAIRS, message, reads=(("model", "source"),))
    elif reads_text(model) is False:
        message = f"expected a model that takes text, found {model.source!r}; remove compositions"
        yield Problem(_PAIRS, message, reads=(("model", "source"),))


def _occupations(request: ComposedRequest) -> Iterator[Problem]:
    """Find occupations that the world of the model does not know."""
    if bundle_of(request.model) is None or request.model.source in CLOSED:
        return
    try:
        known = known_occupations(request.model)
    except ValueError:  # reported by the check of prompts
        return
    for number, pair in enumerate(request.section.pairs):
        for place, name in enumerate(pair):
            if known is not None and name not in known:
                message = f"expected an occupation of the calibration world ({listing(known)}), found {name!r}"
                yield Problem((*_PAIRS, number, place), message + suggestion(name, known), reads=MODEL_KEYS)


def _judge(request: ComposedRequest) -> Iterator[Problem]:
    """Find a judge that cannot look at one person, and what would stop persons from being found."""
    reads = (_PAIRS, ("judge", "source"), *MODEL_KEYS)
    if isinstance(kind_of(request.judge), Labels):
        message = (
            "expected a judge of any picture, because each person is cut out and judged, found a table of labels by "
            "hand; name another judge, or remove compositions"
        )
        yield Problem(("judge", "source"), message, reads=reads)
    elif bundle_of(request.model) is None and request.model.source not in CLOSED:
        yield from _faces(request, reads)


def _faces(request: ComposedRequest, reads: tuple[Location, ...]) -> Iterator[Problem]:
    """Find the first obstacle to finding faces that is not one of the judge's own."""
    landmarks, of_judge = request.section.landmarks, request.judge.face_settings is not None
    for key, obstacle in finder_problems(faces_of(request.judge, landmarks)):
        named = key == "landmarks" and landmarks is not None
        if named or not of_judge:
            at: Location = ("compositions", "landmarks") if named else _PAIRS
            yield Problem(at, f"persons are found by their faces: {obstacle}", reads=reads)
            return


def _long_texts(request: ComposedRequest) -> Iterator[Problem]:
    """Find a template that the model would cut off, or whose texts for CLIP one of both would."""
    section, reader = request.section, request.reader
    for key, prompts in (("template", pair_prompts(section)), ("alone", alone_prompts(section))):
        refused = [refusal for prompt in prompts if reader is not None and (refusal := reader.refusal(prompt.text))]
        if refused:
            yield Problem(("compositions", key), refused[0], reads=(_PAIRS, *MODEL_KEYS))
            return
    names = [prompt.occupation for prompt in alone_prompts(section)]
    texts = [text for name in names for text in matching_texts(section, name, request.attributes)]
    for one in (request.clip, reader):
        cut = None if one is None else next(filter(None, map(one.refusal, texts)), None)
        if cut is not None:
            message = f"{cut}; CLIP matches persons with their occupations by this text"
            yield Problem(("compositions", "alone"), message, reads=(_PAIRS, ("quality", "clip"), *MODEL_KEYS))
            return
