"""CLIP: embeddings of images and texts, for similarity and for zero-shot judges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audit.calibration.bundle import bundle_of
from audit.config.fields import CLIP_SOURCES, names_clip_weights
from audit.config.sections import ModelConfig, QualityConfig
from audit.models.device import device_here
from audit.models.files.text_reader import clip_reader
from audit.models.files.untrusted_model import UnfitModelError, check_directory
from audit.perception.embedders.clip_directory import clip_problem
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
        """Return the weights in an OpenCLIP directory."""
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
        import open_clip  # takes seconds to import, and an audit without CLIP does not need it

        # create_model would initialise a model with random weights if it finds none, and only log a warning.
        self._model, self._transform = open_clip.create_model_from_pretrained(
            weights.model, weights.tag, force_quick_gelu=weights.quick_gelu
        )
        self._model.eval().to(device)
        self._tokenizer = open_clip.get_tokenizer(weights.model)
        self.reader = clip_reader(self._tokenizer)
        self._device = device
        self.logit_scale = float(self._model.logit_scale.detach().exp())
        self.weights = weights
        named = f"{weights.name}:{short_fingerprint(weights.path)}"
        self.signature = f"net:open_clip:{named}|resize:{_resizing(self._model.visual.preprocess_cfg)}"

    @torch.inference_mode()
    def images(self, images: Tensor) -> FloatArray:
        """Embed uint8 images ``(n, 3, H, W)`` as unit rows ``(n, d)``, prepared by the model's own transform."""
        x = prepared(images, self._transform).to(self._device)
        embedded: Tensor = self._model.encode_image(x, normalize=True)
        return embedded.cpu().numpy()

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


def _resizing(preprocessing: Mapping[str, Any]) -> str:
    """Return how pictures are resized, for a signature: ``open_clip-shortest-bicubic-224``."""
    size = preprocessing["size"]
    side = size if isinstance(size, int) else "x".join(map(str, dict.fromkeys(size)))
    mode, interpolation = preprocessing["resize_mode"] or "shortest", preprocessing["interpolation"] or "bicubic"
    return f"open_clip-{mode}-{interpolation}-{side}"


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
