"""CLIP: embeddings of images and texts, for similarity and for zero-shot judges."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from audit.calibration.bundle import bundle_of
from audit.config.fields import CLIP_SOURCES, names_clip_weights
from audit.config.sections import ModelConfig, QualityConfig
from audit.models.device import device_here
from audit.models.files.text_reader import clip_reader
from audit.models.files.untrusted_model import UnfitModelError, check_directory
from audit.perception.embedders.clip_directory import clip_problem
from audit.perception.embedders.clip_transformers import is_transformers_clip, load_transformers_clip
from audit.perception.preparation import prepared
from audit.storage.provenance import short_fingerprint

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class ClipWeights:
    """An OpenCLIP model and its local weights.

    Attributes:
        model: Name for open_clip: ``local-dir:DIRECTORY``, ``hf-hub:OWNER/NAME`` or a model.
        tag: Tag of a model's weights, None if the weights belong to the model.
        path: The directory, or the file of weights.
        quick_gelu: Whether the weights need QuickGELU; the model's config may not say so.
    """

    model: str
    tag: str | None
    path: Path
    quick_gelu: bool = False

    @property
    def name(self) -> str:
        """Name in signatures."""
        return self.model.rsplit("/", 1)[-1] + (f":{self.tag}" if self.tag else "")

    @classmethod
    def in_directory(cls, directory: Path) -> ClipWeights:
        """Return the weights in a directory in the layout of OpenCLIP or of transformers."""
        return cls(f"local-dir:{directory}", None, directory)

    @classmethod
    def named(cls, name: str) -> ClipWeights:
        """Download ``hf-hub:OWNER/NAME`` or ``MODEL:TAG``, unless the weights are in the cache.

        Raises:
            UnfitModelError: The name does not identify weights, or open_clip does not know them.
            FileNotFoundError: The weights cannot be downloaded.
        """
        if not names_clip_weights(name):
            raise UnfitModelError(f"quality.clip: expected {CLIP_SOURCES}, found {name!r}, which names no weights")
        import open_clip

        source, _, tag = name.partition(":")
        if source == "hf-hub":
            return cls(name, None, Path(open_clip.download_pretrained({"hf_hub": f"{tag}/"})))
        known = open_clip.get_pretrained_cfg(source, tag)
        if not known:
            raise UnfitModelError(
                f"quality.clip: expected weights that open_clip knows, found {name!r}; see open_clip.list_pretrained()"
            )
        return cls(source, tag, Path(open_clip.download_pretrained(known)), bool(known.get("quick_gelu")))


class ClipEmbedder:
    """An OpenCLIP model that embeds images, as uint8 tensors, and texts.

    ``logit_scale`` is the inverse temperature, the factor of cosines before a softmax. ``reader`` checks the length of
    texts.

    Args:
        weights: The model and its weights.
        device: Device for the computation.
    """

    def __init__(self, weights: ClipWeights, device: torch.device | str = "cpu") -> None:
        self._model, self._transform, self._tokenizer = _opened(weights)
        self._model.eval().to(device)
        self._device = device
        self.reader = clip_reader(self._tokenizer)
        self.logit_scale = float(self._model.logit_scale.detach().exp())
        self.weights = weights
        named = f"{weights.name}:{short_fingerprint(weights.path)}"
        self.signature = f"net:open_clip:{named}|resize:{_resizing(self._model)}"

    @torch.inference_mode()
    def images(self, images: Tensor) -> FloatArray:
        """Embed uint8 images ``(n, 3, H, W)`` as unit rows ``(n, d)``.

        open_clip prepares them as the model's config says: it resizes with Pillow and rounds to 8 bits, and most models
        look at the middle square of an image that is not square.
        """
        x = prepared(images, self._transform).to(self._device)
        embedded: Tensor = self._model.encode_image(x, normalize=True)
        return embedded.cpu().numpy()

    def with_gradients(self, pictures: Tensor) -> Tensor:
        """Embed pictures ``(n, 3, H, W)`` in [0, 1] as unit rows ``(n, d)``, with gradients to the pictures.

        They are resized to the model's input with an anti-aliasing filter on float channels, without a crop.
        """
        settings, size = self._model.visual.preprocess_cfg, self._model.visual.image_size
        x = pictures.to(self._device)
        if x.shape[-2:] != tuple(size):
            x = functional.interpolate(x, size=tuple(size), mode="bicubic", antialias=True).clamp(0, 1)
        mean, spread = (torch.tensor(settings[key], device=x.device).view(1, 3, 1, 1) for key in ("mean", "std"))
        embedded: Tensor = self._model.encode_image((x - mean) / spread, normalize=True)
        return embedded

    @torch.inference_mode()
    def text(self, text: str) -> FloatArray:
        """Embed a text as a unit vector ``(d,)``.

        Raises:
            UnfitModelError: The text is longer than the model can read.
        """
        self.reader.check([text])
        tokens = self._tokenizer([text]).to(self._device)
        embedded: Tensor = self._model.encode_text(tokens, normalize=True)
        return embedded[0].cpu().numpy()

    def mean_text(self, texts: Sequence[str]) -> FloatArray:
        """Embed several texts of one meaning: the mean of their embeddings as a unit vector ``(d,)``.

        Raises:
            UnfitModelError: A text is longer than the model can read.
        """
        mean = np.mean([self.text(text) for text in texts], axis=0)
        unit: FloatArray = mean / np.linalg.norm(mean)
        return unit

    def reads(self, text: str) -> bool:
        """Return whether the model reads a text to its end."""
        return self.reader.refusal(text) is None


def _opened(weights: ClipWeights) -> tuple[Any, Callable[[Any], Tensor], Any]:
    """Return the model, the preparation of a Pillow image, and the tokenizer."""
    if is_transformers_clip(weights.path):
        return load_transformers_clip(weights.path)
    import open_clip  # takes seconds to import, and an audit without CLIP does not need it

    # create_model would initialise a model with random weights if it finds none, and only log a warning.
    model, prepare = open_clip.create_model_from_pretrained(
        weights.model, weights.tag, force_quick_gelu=weights.quick_gelu
    )
    return model, prepare, open_clip.get_tokenizer(weights.model)


def _resizing(model: Any) -> str:  # noqa: ANN401 - open_clip has no types
    """Describe how open_clip resizes images for a model: ``shortest-bicubic-224``."""
    config, (height, width) = model.visual.preprocess_cfg, model.visual.image_size
    size = str(height) if height == width else f"{height}x{width}"
    return f"{config['resize_mode']}-{config['interpolation']}-{size}"


def load_clip(quality: QualityConfig, model: ModelConfig) -> ClipEmbedder | None:
    """Load the CLIP model of a config onto this process's device; None if it names none, see ``clip_weights``."""
    if quality.clip == "none":
        return None
    return ClipEmbedder(clip_weights(quality.clip, model), device_here())


def clip_weights(source: str, model: ModelConfig) -> ClipWeights:
    """Return the CLIP model that a config names.

    Args:
        source: ``bundled``, a directory, or a name with weights.
        model: The audited model, whose bundle may include a CLIP model.

    Raises:
        UnfitModelError: The source is ``bundled`` and this model has no bundled CLIP, a name does not identify weights,
            or a directory contains no OpenCLIP model.
        UntrustedModelError: The directory contains code or pickled weights.
    """
    if source != "bundled":
        if not Path(source).is_dir():
            return ClipWeights.named(source)
        check_directory(Path(source))
        obstacle = clip_problem(Path(source))
        if obstacle is not None:
            raise UnfitModelError(obstacle)
        return ClipWeights.in_directory(Path(source))
    bundle = bundle_of(model)
    if bundle is None:
        raise UnfitModelError(
            f"model {model.source!r} has no bundled CLIP; set quality.clip to none, or to {CLIP_SOURCES}"
        )
    return ClipWeights.in_directory(bundle.clip)
