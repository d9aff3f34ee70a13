"""The segmenter of the calibration model's pictures, trained on drawings (``audit.training.instruments.segmenter``)."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from audit.calibration.networks import to_unit_range
from audit.calibration.part_network import PartNetwork


class DrawingSegmenter:
    """Names hair, face, dress, headgear and background; see :class:`audit.perception.segmenters.interface.Segmenter`.

    Args:
        directory: Weights and config.
        device: Device for the computation.
    """

    def __init__(self, directory: Path, device: torch.device | str = "cpu") -> None:
        self._network = PartNetwork.load(directory).to(device)
        self._device = device
        self.parts = self._network.parts

    def labels(self, images: Tensor) -> Tensor:
        """Label the pixels of drawings or generated pictures."""
        return self._network.labels(to_unit_range(images.to(self._device))).cpu()
