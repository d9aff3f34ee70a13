"""Any image classifier of torchvision or timm, with weights from a file and a map from its outputs to groups."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audit.config.judges import ClassifierConfig, JudgeKeys
from audit.config.problems import Problem, suggestion
from audit.config.sections import ModelConfig
from audit.models.files.untrusted_model import UnfitModelError, reason_in_short
from audit.perception.judges.answers import Answers, audited_columns
from audit.perception.judges.interface import Asked, Audited, Judge
from audit.perception.judges.output_labels import OutputLabels, merged_words
from audit.perception.judges.perceived import Perceived, perceived
from audit.perception.preparation import Transform, normalised, prepared, resized_with_gradients
from audit.storage.provenance import short_fingerprint

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from audit.perception.embedders.clip import ClipEmbedder

LIBRARIES = ("torchvision", "timm")

_HEADS = ("fc.weight", "head.weight", "head.fc.weight", "classifier.weight", "heads.head.weight")
"""Usual names of the tensor with one row per output, for a message with both numbers of outputs."""


def architecture_problem(architecture: str) -> str | None:
    """Return why an architecture cannot be built; None if its library has it."""
    library, _, name = architecture.partition("/")
    if library not in LIBRARIES or not name:
        return f"expected torchvision/NAME or timm/NAME, found {architecture!r}; name the library first"
    known = _names(library)
    if name in known:
        return None
    return f"expected a model that {library} knows, found {name!r}{suggestion(name, known)}"


def _names(library: str) -> list[str]:
    if library == "timm":
        import timm

        return list(timm.list_models())
    import torchvision

    return list(torchvision.models.list_models(module=torchvision.models))


def build(architecture: str, outputs: int) -> Any:  # noqa: ANN401 - torchvision has no types
    """Return a model with random weights.

    Args:
        architecture: ``torchvision/NAME`` or ``timm/NAME``.
        outputs: Number of its outputs.

    Raises:
        UnfitModelError: The library does not know the model, or cannot build it with these outputs.
    """
    obstacle = architecture_problem(architecture)
    if obstacle is not None:
        raise UnfitModelError(obstacle)
    library, _, name = architecture.partition("/")
    try:
        if library == "timm":
            import timm

            return timm.create_model(name, pretrained=False, num_classes=outputs)
        import torchvision

        own = {"init_weights": False} if name in ("inception_v3", "googlenet") else {}
        return torchvision.models.get_model(name, weights=None, num_classes=outputs, **own)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UnfitModelError(
            f"expected a classifier with {outputs} outputs, found {architecture!r}, which {library} cannot build so "
            f"({reason_in_short(error)}); name another one"
        ) from error


def transform_of(settings: ClassifierConfig) -> Transform:
    """Return torchvision's transform for a classifier's input, as its documentation composes it."""
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Resize, ToTensor

    mode = InterpolationMode(settings.interpolation)
    side = settings.size
    shape = (
        [Resize((side, side), mode)] if settings.resize is None else [Resize(settings.resize, mode), CenterCrop(side)]
    )
    transform: Transform = Compose([*shape, ToTensor(), Normalize(settings.mean, settings.std)])
    return transform


class ClassifierJudge:
    """A classifier with one softmax for each attribute, over the outputs that the config lists for it.

    It does not detect faces: every picture that it is shown is classified.

    Args:
        weights: The file of its weights.
        settings: Architecture, outputs, groups and preparation.
        attributes: Attribute → audited groups.
        min_confidence: An image has low confidence if the probability of its most probable group is below this.
        device: Device for the computation.
    """

    def __init__(
        self,
        weights: Path,
        settings: ClassifierConfig,
        attributes: Audited,
        min_confidence: float,
        device: torch.device | str = "cpu",
    ) -> None:
        from audit.models.files.state_file import load_weights

        self._settings = settings
        self._labels = OutputLabels(settings.outputs, settings.groups)
        self._audited = audited_columns(Classifier.name, self._labels.answers, attributes)
        self._network = build(settings.architecture, len(settings.outputs))
        load_weights(self._network, weights, _kind(settings), _head(self._network))
        self._network.eval().to(device)
        self._device = device
        self._transform = transform_of(settings)
        self._min_confidence = min_confidence
        named = f"{settings.architecture}:{weights.name}:{short_fingerprint(weights)}:{_digest(settings)}"
        resizing = f"{settings.interpolation}-{settings.size}" + (f"-of-{settings.resize}" if settings.resize else "")
        self.signature = f"judge:classifier:{named}|resize:pil-{resizing}|min_confidence:{min_confidence}"

    def perceive(self, images: Tensor, occupation: str) -> Perceived:
        """Judge uint8 images ``(n, 3, H, W)``; the occupation is not used."""
        import torch

        with torch.inference_mode():
            logits = self._network(prepared(images, self._transform).to(self._device)).cpu()
        shares = {name: self._labels.shares(logits, name) for name in self._audited}
        return perceived(shares, self._audited, self._min_confidence)

    def with_gradients(self, pictures: Tensor, attribute: str) -> Tensor:
        """Return log-probabilities of the audited groups, see ``GradientJudge``."""
        logits = self._network(_input(pictures.to(self._device), self._settings))
        return self._labels.log_shares(logits, attribute)[:, self._audited[attribute]]


def _input(pictures: Tensor, settings: ClassifierConfig) -> Tensor:
    """Prepare pictures in [0, 1] as :func:`transform_of` does, on float channels."""
    from torchvision.transforms.functional import center_crop

    side, height, width, mode = settings.size, *pictures.shape[-2:], settings.interpolation
    if settings.resize is None:
        x = resized_with_gradients(pictures, (side, side), mode)
    else:
        short, resize = min(height, width), settings.resize
        x = resized_with_gradients(pictures, (resize * height // short, resize * width // short), mode)
        x = center_crop(x, [side, side])
    return normalised(x, settings.mean, settings.std)


def _kind(settings: ClassifierConfig) -> str:
    return f"{settings.architecture} with {len(settings.outputs)} outputs"


def _head(network: Any) -> str:  # noqa: ANN401 - torchvision has no types
    """Return the name of the tensor with one row per output, empty if it has no usual name."""
    names = network.state_dict()
    return next((name for name in _HEADS if name in names), "")


def _digest(settings: ClassifierConfig) -> str:
    return hashlib.sha256(settings.model_dump_json().encode()).hexdigest()[:12]


class Classifier:
    """A file of weights that the section ``classifier`` describes."""

    name = "the classifier"
    word = None
    has_gradients = True

    def is_named_by(self, judge: JudgeKeys) -> bool:
        """Return whether there is a section ``classifier``."""
        return judge.classifier is not None

    def answers(self, asked: Asked) -> Answers | None:
        """Return the groups of the config."""
        groups = asked.judge.classifier.groups if asked.judge.classifier is not None else {}
        return {name: tuple(of_attribute) for name, of_attribute in groups.items()}

    def problems(self, asked: Asked) -> Iterator[Problem]:
        """Find an unknown architecture, a missing file, and weights of another network."""
        at, path, settings = (*asked.at, "source"), Path(asked.judge.source), asked.judge.classifier
        if settings is None:
            return
        obstacle = architecture_problem(settings.architecture)
        if obstacle is not None:
            yield Problem((*asked.at, "classifier", "architecture"), obstacle)
            return
        if not path.is_file():
            yield Problem(at, f"expected a file of weights, found none at {asked.judge.source!r}; check the path")
            return
        obstacle = _weights_problem(path, settings)
        if obstacle is not None:
            yield Problem(at, obstacle, reads=((*asked.at, "classifier", "outputs"),))

    def fingerprint(self, judge: JudgeKeys, model: ModelConfig) -> str:
        """Return the file, the fingerprint of its weights and that of the settings."""
        source = Path(judge.source)
        settings = _digest(judge.classifier) if judge.classifier is not None else ""
        return f"{source.name}:{short_fingerprint(source)}:{settings}"

    def notes(self, judge: JudgeKeys, attributes: Audited) -> Iterator[str]:
        """State the network, its preparation, and which outputs a group sums up."""
        settings = judge.classifier
        if settings is None:
            return
        centre = "the whole picture" if settings.resize is None else f"the centre of the picture at {settings.resize}"
        side = settings.size
        faces = "no face is detected" if judge.faces is None else "the picture is an aligned face"
        yield f"It is {settings.architecture} on {centre}, {side} × {side} pixels; {faces}."
        yield from merged_words(settings.groups, attributes)

    def load(self, judge: JudgeKeys, model: ModelConfig, attributes: Audited, clip: ClipEmbedder | None) -> Judge:
        """Build the architecture and load the file."""
        from audit.models.device import device_here

        if judge.classifier is None:
            raise UnfitModelError("expected a section classifier, found none; add it")
        return ClassifierJudge(Path(judge.source), judge.classifier, attributes, judge.min_confidence, device_here())


def _weights_problem(path: Path, settings: ClassifierConfig) -> str | None:
    """Return why a file cannot be loaded into the architecture, from its header."""
    import torch

    from audit.models.files.state_file import weights_problem

    try:
        with torch.device("meta"):
            head = _head(build(settings.architecture, len(settings.outputs)))
    except UnfitModelError as error:
        return str(error)
    return weights_problem(path, lambda: build(settings.architecture, len(settings.outputs)), _kind(settings), head)
