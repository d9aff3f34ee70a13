"""Judges: from images to perceived groups, with a status for each image.

Groups are always *perceived presentation* as one named classifier sees it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from audit.calibration.bundle import NETWORK_FILES, bundle_of
from audit.calibration.networks import DrawingNetwork, to_unit_range
from audit.config.sections import JudgeConfig, ModelConfig
from audit.device import device_here
from audit.measure.state_file import read_state
from audit.provenance import short_fingerprint
from audit.records import Status

FloatArray = NDArray[np.float32]

FAIRFACE_LOGITS: dict[str, dict[str, tuple[int, ...]]] = {
    "gender": {"male": (7,), "female": (8,)},
    "age": {"young": (9, 10, 11), "adult": (12, 13, 14, 15), "old": (16, 17)},
    "race": {"white": (0,), "black": (1,), "latino": (2,), "asian": (3, 4), "indian": (5,), "middle_eastern": (6,)},
}
"""Columns of FairFace's 18 logits (Kärkkäinen & Joo 2021): 0-6 race, 7-8 gender, 9-17 age; a group's probability is
the sum of its columns, so no column is dropped and none is counted under another group's name. Ages: young 0-19,
adult 20-59, old 60 and above."""
FAIRFACE_BLOCKS = {"race": (0, 7), "gender": (7, 9), "age": (9, 18)}


@dataclass(frozen=True)
class Perceived:
    """What a judge saw in a batch.

    Attributes:
        probabilities: Attribute → ``(n, groups)`` in the config's group order, rows sum to 1.
        statuses: One per image.
        prompt_shown: ``(n,)`` probability that the prompted occupation is shown, None where the judge cannot tell.
    """

    probabilities: dict[str, FloatArray]
    statuses: list[Status]
    prompt_shown: FloatArray | None


class Judge(Protocol):
    """Perceives groups in images."""

    @property
    def signature(self) -> str:
        """Name and fingerprint of the classifier."""
        ...

    def perceive(self, images: Tensor, occupation: str) -> Perceived:
        """Judge uint8 images ``(n, 3, H, W)`` of a prompt that names ``occupation``."""
        ...


class CalibrationJudge:
    """The bundled classifier of drawings: attributes, occupation, and whether there is a face at all."""

    def __init__(
        self,
        directory: Path,
        attributes: Mapping[str, Sequence[str]],
        min_confidence: float,
        device: torch.device | str = "cpu",
    ) -> None:
        self._network = DrawingNetwork.load(directory).to(device)
        self._device = device
        self._columns = {name: _columns(self._network.answers, name, groups) for name, groups in attributes.items()}
        self._min_confidence = min_confidence
        weights = short_fingerprint(directory, NETWORK_FILES)
        self.signature = f"judge:calibration:{weights}|min_confidence:{min_confidence}"

    @torch.inference_mode()
    def perceive(self, images: Tensor, occupation: str) -> Perceived:
        """Judge drawings or generated pictures."""
        answers = self._network(to_unit_range(images.to(self._device)))
        logits = {question: values.cpu() for question, values in answers.items()}
        probabilities = {name: logits[name].softmax(1)[:, columns].numpy() for name, columns in self._columns.items()}
        present = logits["face"].softmax(1)[:, 1].numpy() >= 0.5
        statuses = [
            Status.NO_FACE if not seen else status
            for seen, status in zip(present, confidence_statuses(probabilities, self._min_confidence), strict=True)
        ]
        known = self._network.answers["occupation"]
        shown = logits["occupation"].softmax(1)[:, known.index(occupation)].numpy() if occupation in known else None
        return Perceived(probabilities, statuses, shown)


def _resnet34(classes: int) -> nn.Module:
    """Return the network without weights; torchvision takes seconds to import, and a bundled judge needs none of it."""
    from torchvision.models import resnet34

    network: nn.Module = resnet34(num_classes=classes)
    return network


class FairFaceJudge:
    """FairFace's ResNet-34 with 18 logits, on the whole image at 224 pixels with ImageNet normalisation.

    It detects no faces: every image is judged, and only a low confidence is reported. Crop faces before the audit where
    the model draws more than faces.
    """

    def __init__(
        self,
        checkpoint: Path,
        attributes: Mapping[str, Sequence[str]],
        min_confidence: float,
        device: torch.device | str = "cpu",
    ) -> None:
        self._attributes = {name: _fairface_groups(name, groups) for name, groups in attributes.items()}
        self._network = _resnet34(18)
        self._network.load_state_dict(read_state(checkpoint))
        self._network.eval().to(device)
        self._mean = torch.tensor([0.485, 0.456, 0.406], device=device).view(1, 3, 1, 1)
        self._std = torch.tensor([0.229, 0.224, 0.225], device=device).view(1, 3, 1, 1)
        self._min_confidence = min_confidence
        named = f"{checkpoint.name}:{short_fingerprint(checkpoint)}"
        self.signature = f"judge:fairface:{named}|resize:bilinear-aa-224|min_confidence:{min_confidence}"

    @torch.inference_mode()
    def perceive(self, images: Tensor, occupation: str) -> Perceived:
        """Judge photographs or generated images of faces; FairFace knows no occupations."""
        pixels = images.to(self._mean.device).float() / 255
        x = functional.interpolate(pixels, size=(224, 224), mode="bilinear", antialias=True)
        logits = self._network((x - self._mean) / self._std).cpu()
        probabilities = {}
        for name, groups in self._attributes.items():
            start, stop = FAIRFACE_BLOCKS[name]
            shares = logits[:, start:stop].softmax(1)
            summed = torch.stack([shares[:, [c - start for c in columns]].sum(1) for columns in groups], 1)
            probabilities[name] = (summed / summed.sum(1, keepdim=True)).numpy()
        return Perceived(probabilities, confidence_statuses(probabilities, self._min_confidence), None)


def _columns(answers: Mapping[str, Sequence[str]], attribute: str, groups: Sequence[str]) -> list[int]:
    known = answers.get(attribute)
    if known is None or sorted(known) != sorted(groups):
        raise ValueError(
            f"the bundled judge tells {dict(answers).get(attribute, 'nothing')} for attribute {attribute!r}, the config"
            f" names {list(groups)}; name the same groups"
        )
    return [list(known).index(group) for group in groups]


def _fairface_groups(attribute: str, groups: Sequence[str]) -> list[tuple[int, ...]]:
    known = FAIRFACE_LOGITS.get(attribute, {})
    unknown = [group for group in groups if group not in known]
    if unknown:
        raise ValueError(
            f"FairFace tells {attribute!r} as {sorted(known) or 'nothing'}, the config names {unknown}; "
            f"known attributes: {sorted(FAIRFACE_LOGITS)}"
        )
    return [known[group] for group in groups]


def confidence_statuses(probabilities: Mapping[str, FloatArray], minimum: float) -> list[Status]:
    """Return a status for each image: low confidence where any attribute's best group is less probable than that."""
    least = np.min([p.max(axis=1) for p in probabilities.values()], axis=0)
    return [Status.CLASSIFIED if top >= minimum else Status.LOW_CONFIDENCE for top in least]


def load_judge(judge: JudgeConfig, model: ModelConfig, attributes: Mapping[str, Sequence[str]]) -> Judge:
    """Load the judge that a config names where this process computes; ``bundled`` came with the calibration model.

    Raises:
        ValueError: The judge does not know an attribute or a group, or no judge is bundled with this model.
    """
    if judge.source != "bundled":
        return FairFaceJudge(Path(judge.source), attributes, judge.min_confidence, device_here())
    bundle = bundle_of(model)
    if bundle is None:
        raise ValueError(
            f"model {model.source!r} has no bundled judge; set judge.source to a FairFace checkpoint (ResNet-34)"
        )
    return CalibrationJudge(bundle.judge, attributes, judge.min_confidence, device_here())
