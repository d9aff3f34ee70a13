"""CLIPSeg (Lüddecke & Ecker 2022, arXiv 2112.10003): the part of a picture that a text describes, through transformers.

transformers initialises a tensor that a file lacks with random numbers and only logs a warning, so that the tensors of
a directory are compared with those of the model before it is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from audit.models.files.state_file import read_shapes, shapes_of, unlike
from audit.models.files.untrusted_model import UnfitModelError, check_directory, reason_in_short
from audit.perception.segmenters.interface import NO_PART
from audit.storage.outside.json_object import read_json_object

_COUNTS = "position_ids"
"""Counts positions; old releases of transformers stored it, newer ones count for themselves."""

# B batch, P parts, s side of CLIPSeg's own picture, H W pixels


class ClipSegmenter:
    """Gives each pixel to the text with the highest probability, or to no part if all are below a threshold.

    Args:
        directory: A local directory of a ``CLIPSegForImageSegmentation`` with its processor.
        texts: Part → what the model is asked for.
        threshold: Least probability of a part.
        device: Device for the computation.

    Raises:
        UnfitModelError: The directory holds something else, or a text is longer than the model reads.
        UntrustedModelError: It holds code, or pickled weights alone.
    """

    def __init__(
        self,
        directory: Path,
        texts: Mapping[str, str],
        threshold: float = 0.4,
        device: torch.device | str = "cpu",
    ) -> None:
        check_clipseg(directory)
        self.parts = tuple(texts)
        self._texts, self._threshold, self._device = list(texts.values()), threshold, device
        self._network, self._processor = _loaded(directory)
        self._network.to(device).eval()
        self._check_lengths()

    def _check_lengths(self) -> None:
        most = self._network.config.text_config.max_position_embeddings
        for part, text in zip(self.parts, self._texts, strict=True):
            length = len(self._processor.tokenizer(text)["input_ids"])
            if length > most:
                raise UnfitModelError(
                    f"concepts.segmenter.parts.{part}: expected a text of at most {most} tokens, found {length}; "
                    "shorten it"
                )

    @torch.inference_mode()
    def labels(self, images: Tensor) -> Tensor:
        """Label the pixels of pictures, one picture with all texts at a time."""
        height, width = images.shape[-2:]
        tokens = self._processor.tokenizer(self._texts, padding=True, return_tensors="pt").to(self._device)
        found = []
        for image in images:
            pixels = self._processor.image_processor(image, return_tensors="pt")["pixel_values"].to(self._device)
            each = pixels.expand(len(self._texts), *pixels.shape[1:])
            logits = self._network(**tokens, pixel_values=each).logits.reshape(1, len(self._texts), *pixels.shape[-2:])
            likely = functional.interpolate(logits.float(), size=(height, width), mode="bilinear").sigmoid()[0]
            highest, part = likely.max(0)
            found.append(torch.where(highest >= self._threshold, part, NO_PART).to(torch.uint8).cpu())
        return torch.stack(found)


def check_clipseg(directory: Path) -> None:
    """Compare the tensors of a directory with those of the model; no weights are read.

    Raises:
        UnfitModelError: It holds another model, or lacks some tensors.
        UntrustedModelError: It holds code, or pickled weights alone.
    """
    if not directory.is_dir():
        raise UnfitModelError(
            f"expected a directory with a CLIPSeg model, found none at {str(directory)!r}; download for example "
            "CIDAS/clipseg-rd64-refined into a directory and name it in concepts.segmenter"
        )
    check_directory(directory)
    try:
        config = read_json_object(directory / "config.json", "the config of a CLIPSeg model", any_number=True)
    except ValueError as error:
        raise UnfitModelError(str(error)) from error
    if config.get("model_type") != "clipseg":
        raise UnfitModelError(
            f"{directory}: expected a CLIPSeg model (CLIPSegForImageSegmentation), found {config.get('model_type')!r}; "
            "give another directory"
        )
    files = sorted(directory.glob("model*.safetensors"))
    if not files:
        raise UnfitModelError(f"{directory}: expected model.safetensors next to config.json, found none; add it")
    stored = {name: shape for file in files for name, shape in read_shapes(file).items()}
    obstacle = unlike(_expected_shapes(directory), {n: s for n, s in stored.items() if not n.endswith(_COUNTS)})
    if obstacle is not None:
        raise UnfitModelError(f"{directory}: expected the weights of the model in config.json, found {obstacle}")


def _expected_shapes(directory: Path) -> dict[str, tuple[int, ...]]:
    from transformers import CLIPSegConfig, CLIPSegForImageSegmentation

    try:
        with torch.device("meta"):
            network = CLIPSegForImageSegmentation(CLIPSegConfig.from_pretrained(directory, local_files_only=True))
    except Exception as error:
        raise UnfitModelError(
            f"{directory / 'config.json'}: expected a config that CLIPSeg can be built from, found one that fails "
            f"({reason_in_short(error)}); download it again"
        ) from error
    return {name: shape for name, shape in shapes_of(network).items() if not name.endswith(_COUNTS)}


def _loaded(directory: Path) -> tuple[Any, Any]:
    """Return the model and its processor."""
    from transformers import CLIPSegForImageSegmentation, CLIPSegProcessor
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        network = CLIPSegForImageSegmentation.from_pretrained(directory, local_files_only=True, use_safetensors=True)
        return network, CLIPSegProcessor.from_pretrained(directory, local_files_only=True)
    except (OSError, ValueError, TypeError) as error:
        raise UnfitModelError(
            f"{directory}: expected a CLIPSeg model with its tokenizer and image processor, found one that cannot be "
            f"read ({reason_in_short(error)}); download it again"
        ) from error
    finally:
        if shown:
            logging.enable_progress_bar()
