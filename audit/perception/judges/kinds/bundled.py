"""The bundled judge of drawings: it was trained with the calibration model and sees whether there is a face."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from audit.calibration.bundle import NETWORK_CONFIG, NETWORK_FILES, bundle_of, missing_weights
from audit.config.fields import GENERATED_HERE
from audit.config.judges import JudgeKeys
from audit.config.problems import MODEL_KEYS, Problem
from audit.config.sections import ModelConfig
from audit.models.files.untrusted_model import UnfitModelError
from audit.perception.judges.answers import Answers, audited_columns
from audit.perception.judges.interface import Asked, Audited, Judge
from audit.perception.judges.perceived import Perceived, perceived
from audit.records.work import Status
from audit.storage.outside.json_object import read_json_object
from audit.storage.provenance import short_fingerprint

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from audit.perception.embedders.clip import ClipEmbedder

_NO_ATTRIBUTES = ("face", "occupation")
"""Questions of the judge that are about the picture and not about perceived presentation."""

_NAME = "the bundled judge"


def calibration_answers(judge: Path) -> Answers:
    """Return the attributes and groups of a calibration judge, from the config next to its weights.

    Raises:
        ValueError: There is no such config, or it does not name answers.
    """
    answers = read_json_object(judge / NETWORK_CONFIG, "the answers of a judge").get("answers")
    if not isinstance(answers, dict) or not all(isinstance(groups, list) for groups in answers.values()):
        raise ValueError(f"{judge / NETWORK_CONFIG}: expected the answers of each question, found none")
    return {name: tuple(map(str, groups)) for name, groups in answers.items() if name not in _NO_ATTRIBUTES}


class CalibrationJudge:
    """The bundled classifier of drawings: attributes, occupation, and whether there is a face."""

    def __init__(
        self, directory: Path, attributes: Audited, min_confidence: float, device: torch.device | str = "cpu"
    ) -> None:
        from audit.calibration.networks import DrawingNetwork

        self._audited = audited_columns(_NAME, calibration_answers(directory), attributes)
        self._network = DrawingNetwork.load(directory).to(device)
        self._device = device
        self._min_confidence = min_confidence
        weights = short_fingerprint(directory, NETWORK_FILES)
        self.signature = f"judge:calibration:{weights}|min_confidence:{min_confidence}"

    def perceive(self, images: Tensor, occupation: str) -> Perceived:
        """Judge drawings or generated pictures."""
        import torch

        from audit.calibration.networks import to_unit_range

        with torch.inference_mode():
            answers = self._network(to_unit_range(images.to(self._device)))
        shares = {question: values.cpu().softmax(1).numpy() for question, values in answers.items()}
        known = self._network.answers["occupation"]
        shown = shares["occupation"][:, known.index(occupation)] if occupation in known else None
        seen = perceived(shares, self._audited, self._min_confidence, shown)
        present = shares["face"][:, 1] >= 0.5
        statuses = [status if here else Status.NO_FACE for here, status in zip(present, seen.statuses, strict=True)]
        return replace(seen, statuses=statuses)

    def with_gradients(self, pictures: Tensor, attribute: str) -> Tensor:
        """Return log-probabilities of the audited groups, see ``GradientJudge``."""
        answers: Tensor = self._network(pictures.to(self._device) * 2 - 1)[attribute]
        return answers.log_softmax(1)[:, self._audited[attribute]]


class Bundled:
    """The judge in the bundle of a calibration model."""

    name = _NAME
    word = "bundled"
    has_gradients = True

    def is_named_by(self, judge: JudgeKeys) -> bool:
        """Return whether the source is ``bundled``."""
        return judge.source == "bundled"

    def answers(self, asked: Asked) -> Answers | None:
        """Return what the config beside the weights names; None if the model has no bundle."""
        bundle = bundle_of(asked.model)
        return None if bundle is None else calibration_answers(bundle.judge)

    def problems(self, asked: Asked) -> Iterator[Problem]:
        """Find a model whose images it cannot judge, and missing weights."""
        at = (*asked.at, "source")
        if asked.model.source not in GENERATED_HERE and not asked.model.drawings:
            found = "found 'bundled', which judges drawings; give a file, or zero-shot"
            message = f"expected another judge for {asked.model.source!r}, {found}"
            yield Problem(at, message, reads=MODEL_KEYS)
            return
        missing = missing_weights(asked.model, "judge")
        if missing is not None:
            yield Problem(at, missing, reads=MODEL_KEYS)

    def fingerprint(self, judge: JudgeKeys, model: ModelConfig) -> str:
        """Return the word and the fingerprint of the weights."""
        bundle = bundle_of(model)
        if bundle is None:
            raise UnfitModelError(_without_bundle(model))
        return f"{judge.source}:{short_fingerprint(bundle.judge, NETWORK_FILES)}"

    def notes(self, judge: JudgeKeys, attributes: Audited) -> Iterator[str]:
        """State what it was trained for."""
        yield "It was trained on drawings of the calibration model's renderer and judges nothing else."

    def load(self, judge: JudgeKeys, model: ModelConfig, attributes: Audited, clip: ClipEmbedder | None) -> Judge:
        """Load the judge of the model's bundle."""
        from audit.models.device import device_here

        bundle = bundle_of(model)
        if bundle is None:
            raise UnfitModelError(_without_bundle(model))
        return CalibrationJudge(bundle.judge, attributes, judge.min_confidence, device_here())


def _without_bundle(model: ModelConfig) -> str:
    return (
        f"model {model.source!r} has no bundled judge; set judge.source to another judge, such as zero-shot or the "
        "file of a FairFace checkpoint"
    )
