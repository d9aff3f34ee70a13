"""Judges that classify images into perceived groups, with a status for each image.

Groups are always *perceived presentation* according to one named classifier.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from audit.calibration.bundle import NETWORK_FILES, bundle_of
from audit.calibration.networks import DrawingNetwork, to_unit_range
from audit.config.sections import JudgeConfig, ModelConfig
from audit.models.device import device_here
from audit.models.files.state_file import load_weights
from audit.models.files.untrusted_model import UnfitModelError
from audit.perception.judges.answers import (
    FAIRFACE_HEAD,
    FAIRFACE_KIND,
    FAIRFACE_OUTPUTS,
    Answers,
    calibration_answers,
    cannot_answer,
    fairface_layout,
    races_problem,
)
from audit.perception.judges.perceived import FloatArray, Perceived, perceived
from audit.records.work import Status
from audit.storage.provenance import short_fingerprint


class Judge(Protocol):
    """Classifies images into perceived groups."""

    @property
    def signature(self) -> str:
        """Name and fingerprint of the classifier."""
        ...

    def perceive(self, images: Tensor, occupation: str) -> Perceived:
        """Judge uint8 images ``(n, 3, H, W)`` of a prompt that names ``occupation``."""
        ...


class CalibrationJudge:
    """The bundled classifier of drawings: attributes, occupation, and whether there is a face."""

    def __init__(
        self,
        directory: Path,
        attributes: Mapping[str, Sequence[str]],
        min_confidence: float,
        device: torch.device | str = "cpu",
    ) -> None:
        answers = calibration_answers(directory)
        self._audited = {n: _columns("the bundled judge", answers, n, groups) for n, groups in attributes.items()}
        self._network = DrawingNetwork.load(directory).to(device)
        self._device = device
        self._min_confidence = min_confidence
        weights = short_fingerprint(directory, NETWORK_FILES)
        self.signature = f"judge:calibration:{weights}|min_confidence:{min_confidence}"

    @torch.inference_mode()
    def perceive(self, images: Tensor, occupation: str) -> Perceived:
        """Judge drawings or generated pictures."""
        answers = self._network(to_unit_range(images.to(self._device)))
        shares = {question: values.cpu().softmax(1).numpy() for question, values in answers.items()}
        known = self._network.answers["occupation"]
        shown = shares["occupation"][:, known.index(occupation)] if occupation in known else None
        seen = perceived(shares, self._audited, self._min_confidence, shown)
        present = shares["face"][:, 1] >= 0.5
        statuses = [status if here else Status.NO_FACE for here, status in zip(present, seen.statuses, strict=True)]
        return replace(seen, statuses=statuses)


def fairface_network() -> nn.Module:
    """Return the network with random weights; torchvision is imported here, because that takes seconds."""
    from torchvision.models import resnet34

    network: nn.Module = resnet34(num_classes=FAIRFACE_OUTPUTS)
    return network


class FairFaceJudge:
    """FairFace's ResNet-34 with 18 logits, on the whole image at 224 pixels with ImageNet normalisation.

    FairFace's script reads only race from the four-race checkpoint. This judge reads gender and age from the same
    columns as in the seven-race checkpoint.

    It does not detect faces: every image is classified, and only low confidence is reported. If the model draws more
    than faces, crop the faces before the audit.
    """

    def __init__(
        self,
        checkpoint: Path,
        attributes: Mapping[str, Sequence[str]],
        min_confidence: float,
        device: torch.device | str = "cpu",
        races: int | None = None,
    ) -> None:
        obstacle = races_problem(checkpoint, races, attributes)
        if obstacle is not None:
            raise UnfitModelError(obstacle)
        layout = fairface_layout(checkpoint, races)
        self._layout = layout
        self._audited = {n: _columns("FairFace", layout.answers, n, groups) for n, groups in attributes.items()}
        self._network = fairface_network()
        load_weights(self._network, checkpoint, FAIRFACE_KIND, FAIRFACE_HEAD)
        self._network.eval().to(device)
        self._mean = torch.tensor([0.485, 0.456, 0.406], device=device).view(1, 3, 1, 1)
        self._std = torch.tensor([0.229, 0.224, 0.225], device=device).view(1, 3, 1, 1)
        self._min_confidence = min_confidence
        named = f"{checkpoint.name}:{short_fingerprint(checkpoint)}|races:{layout.races}"
        self.signature = f"judge:fairface:{named}|resize:bilinear-aa-224|min_confidence:{min_confidence}"

    @torch.inference_mode()
    def perceive(self, images: Tensor, occupation: str) -> Perceived:
        """Judge photographs or generated images of faces; FairFace knows no occupations."""
        pixels = images.to(self._mean.device).float() / 255
        x = functional.interpolate(pixels, size=(224, 224), mode="bilinear", antialias=True)
        logits = self._network((x - self._mean) / self._std).cpu()
        shares = {name: _group_shares(logits, self._layout.columns[name]) for name in self._audited}
        return perceived(shares, self._audited, self._min_confidence)


def _group_shares(logits: Tensor, groups: Mapping[str, tuple[int, ...]]) -> FloatArray:
    """Return the softmax over the columns of one attribute, summed by group: ``(n, groups)``."""
    columns = [column for group in groups.values() for column in group]
    owners = torch.tensor([place for place, group in enumerate(groups.values()) for _ in group])
    shares = logits[:, columns].softmax(1)
    summed: FloatArray = torch.zeros(len(shares), len(groups)).index_add_(1, owners, shares).numpy()
    return summed


def _columns(judge: str, answers: Answers, attribute: str, groups: Sequence[str]) -> list[int]:
    obstacle = cannot_answer(judge, answers, attribute, groups)
    if obstacle is not None:
        raise UnfitModelError(f"{obstacle}; correct attributes, or name another judge")
    return [answers[attribute].index(group) for group in groups]


def load_judge(judge: JudgeConfig, model: ModelConfig, attributes: Mapping[str, Sequence[str]]) -> Judge:
    """Load the judge of a config onto this process's device; ``bundled`` is the calibration model's judge.

    Raises:
        UnfitModelError: The judge does not know an attribute or a group, its file has other contents, or this model has
            no bundled judge.
    """
    if judge.source != "bundled":
        return FairFaceJudge(Path(judge.source), attributes, judge.min_confidence, device_here(), judge.races)
    bundle = bundle_of(model)
    if bundle is None:
        raise UnfitModelError(
            f"model {model.source!r} has no bundled judge; set judge.source to a FairFace checkpoint (ResNet-34)"
        )
    return CalibrationJudge(bundle.judge, attributes, judge.min_confidence, device_here())
