"""FairFace checkpoints (Kärkkäinen & Joo 2021, and their predict.py): race, gender and age of photographed faces."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audit.config.judges import JudgeKeys
from audit.config.problems import Problem
from audit.config.sections import ModelConfig
from audit.models.files.untrusted_model import UnfitModelError
from audit.perception.judges.answers import Answers, audited_columns
from audit.perception.judges.interface import Asked, Audited, Judge
from audit.perception.judges.output_labels import Groups, OutputLabels, merged_words
from audit.perception.judges.perceived import Perceived, perceived
from audit.perception.preparation import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Transform,
    normalised,
    prepared,
    resized_with_gradients,
)
from audit.storage.provenance import short_fingerprint

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from audit.perception.embedders.clip import ClipEmbedder


FAIRFACE_OUTPUTS = 18
"""Outputs of both published checkpoints; the four-race one does not use columns 4 to 6."""

FAIRFACE_KIND = "FairFace (ResNet-34 with 18 outputs: race, gender, age)"
FAIRFACE_HEAD = "fc.weight"
"""The tensor with one row per output."""

_GENDER_AND_AGE = ("Male", "Female", "0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "70+")
"""Names of columns 7 to 17, as in FairFace's predict.py."""
_SEVEN = ("White", "Black", "Latino_Hispanic", "East Asian", "Southeast Asian", "Indian", "Middle Eastern")
_FOUR = ("White", "Black", "Asian", "Indian", None, None, None)

_GROUPS: Groups = {
    "gender": {"male": ("Male",), "female": ("Female",)},
    "age": {
        "young": ("0-2", "3-9", "10-19"),
        "adult": ("20-29", "30-39", "40-49", "50-59"),
        "old": ("60-69", "70+"),
    },
}
_SEVEN_GROUPS = {
    "white": ("White",),
    "black": ("Black",),
    "latino": ("Latino_Hispanic",),
    "asian": ("East Asian", "Southeast Asian"),
    "indian": ("Indian",),
    "middle_eastern": ("Middle Eastern",),
}
_FOUR_GROUPS = {"white": ("White",), "black": ("Black",), "asian": ("Asian",), "indian": ("Indian",)}

FAIRFACE: Mapping[int, OutputLabels] = {
    7: OutputLabels((*_SEVEN, *_GENDER_AND_AGE), {**_GROUPS, "race": _SEVEN_GROUPS}),
    4: OutputLabels((*_FOUR, *_GENDER_AND_AGE), {**_GROUPS, "race": _FOUR_GROUPS}),
}
"""Number of races of a checkpoint → its outputs. The weights do not show which of the two a checkpoint has."""


def races_in_name(checkpoint: Path) -> int | None:
    """Return the number of races in a published file name: ``res34_fair_align_multi_4_20190809.pt`` has four."""
    found = re.search(r"(?:multi|race|races)[_-]?([47])(?![0-9])|(?<![0-9])([47])[_-]?race", checkpoint.stem, re.I)
    return int(found[1] or found[2]) if found else None


def fairface_races(checkpoint: Path, races: int | None) -> int:
    """Return the number of races given by the config, or else by the file name; seven if neither gives it."""
    return races or races_in_name(checkpoint) or 7


def races_problem(checkpoint: Path, races: int | None, asked: Collection[str]) -> str | None:
    """Return why the outputs of a FairFace checkpoint are unknown; None if they are known.

    Args:
        checkpoint: The file.
        races: Number of races in the config, None if it is not set.
        asked: Attributes that the judge must classify.
    """
    named = races_in_name(checkpoint)
    if races is not None and named is not None and races != named:
        return f"expected races: {named} for {checkpoint.name}, as in its file name, found {races}; correct it"
    if races is None and named is None and "race" in asked:
        return (
            f"expected races: 7 or 4 for {checkpoint.name}, found none; set races, because FairFace published a "
            "checkpoint of each, both have 18 outputs, and the wrong setting gives wrong races"
        )
    return None


def fairface_network() -> Any:  # noqa: ANN401 - torchvision has no types
    """Return the network with random weights; torchvision is imported here, because that takes seconds."""
    from torchvision.models import resnet34

    return resnet34(num_classes=FAIRFACE_OUTPUTS)


def fairface_transform() -> Transform:
    """Return the transform of FairFace's predict.py: the whole picture at 224 × 224, with ImageNet's normalisation."""
    from torchvision.transforms import Compose, Normalize, Resize, ToTensor

    transform: Transform = Compose([Resize((224, 224)), ToTensor(), Normalize(IMAGENET_MEAN, IMAGENET_STD)])
    return transform


class FairFaceJudge:
    """FairFace's ResNet-34 with 18 logits, on the whole image at 224 pixels with ImageNet normalisation.

    FairFace's script reads only race from the four-race checkpoint. This judge reads gender and age from the same
    columns as in the seven-race checkpoint.

    It does not detect faces: every image is classified, and only low confidence is reported. FairFace was trained on
    aligned faces; ``judge.faces`` shows it such faces instead of whole pictures.
    """

    def __init__(
        self,
        checkpoint: Path,
        attributes: Audited,
        min_confidence: float,
        device: torch.device | str = "cpu",
        races: int | None = None,
    ) -> None:
        from audit.models.files.state_file import load_weights

        obstacle = races_problem(checkpoint, races, attributes)
        if obstacle is not None:
            raise UnfitModelError(obstacle)
        races = fairface_races(checkpoint, races)
        self._labels = FAIRFACE[races]
        self._audited = audited_columns("FairFace", self._labels.answers, attributes)
        self._network = fairface_network()
        load_weights(self._network, checkpoint, FAIRFACE_KIND, FAIRFACE_HEAD)
        self._network.eval().to(device)
        self._device = device
        self._transform = fairface_transform()
        self._min_confidence = min_confidence
        named = f"{checkpoint.name}:{short_fingerprint(checkpoint)}|races:{races}"
        self.signature = f"judge:fairface:{named}|resize:pil-bilinear-224|min_confidence:{min_confidence}"

    def perceive(self, images: Tensor, occupation: str) -> Perceived:
        """Judge photographs or generated images of faces; FairFace knows no occupations."""
        import torch

        with torch.inference_mode():
            logits = self._network(prepared(images, self._transform).to(self._device)).cpu()
        shares = {name: self._labels.shares(logits, name) for name in self._audited}
        return perceived(shares, self._audited, self._min_confidence)

    def with_gradients(self, pictures: Tensor, attribute: str) -> Tensor:
        """Return log-probabilities of the audited groups, see ``GradientJudge``."""
        x = resized_with_gradients(pictures.to(self._device), (224, 224))
        logits = self._network(normalised(x, IMAGENET_MEAN, IMAGENET_STD))
        return self._labels.log_shares(logits, attribute)[:, self._audited[attribute]]


class FairFace:
    """A file with one of the two published checkpoints."""

    name = "FairFace"
    word = None
    has_gradients = True

    def is_named_by(self, judge: JudgeKeys) -> bool:
        """Return True: a source that no other kind takes is the file of a FairFace checkpoint."""
        return True

    def answers(self, asked: Asked) -> Answers | None:
        """Return the groups of the checkpoint."""
        return FAIRFACE[fairface_races(Path(asked.judge.source), asked.judge.races)].answers

    def problems(self, asked: Asked) -> Iterator[Problem]:
        """Find a file that holds other weights, and an unknown layout."""
        from audit.models.files.state_file import weights_problem

        at, path = (*asked.at, "source"), Path(asked.judge.source)
        obstacle = weights_problem(path, fairface_network, FAIRFACE_KIND, FAIRFACE_HEAD)
        if obstacle is not None:
            yield Problem(at, obstacle)
            return
        unclear = races_problem(path, asked.judge.races, asked.attributes)
        if unclear is not None:
            yield Problem((*asked.at, "races"), unclear, reads=(at,))

    def fingerprint(self, judge: JudgeKeys, model: ModelConfig) -> str:
        """Return the name of the file and the fingerprint of its weights."""
        source = Path(judge.source)
        return f"{source.name}:{short_fingerprint(source)}"

    def notes(self, judge: JudgeKeys, attributes: Audited) -> Iterator[str]:
        """State which outputs a group sums up, and whether it sees faces or whole pictures."""
        races = fairface_races(Path(judge.source), judge.races)
        yield from merged_words(FAIRFACE[races].groups, attributes)
        if judge.faces is None:
            yield "It is FairFace's network on the whole picture at 224 × 224 pixels; no face is detected or aligned."
        else:
            yield "It is FairFace's network on aligned faces at 224 × 224 pixels."

    def load(self, judge: JudgeKeys, model: ModelConfig, attributes: Audited, clip: ClipEmbedder | None) -> Judge:
        """Load the checkpoint."""
        from audit.models.device import device_here

        return FairFaceJudge(Path(judge.source), attributes, judge.min_confidence, device_here(), judge.races)
