"""A loaded unconditional U-Net: predicts noise in pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diffusers import DDIMScheduler, UNet2DModel
from torch import Tensor, nn

from audit.models.families.configs import sample_size
from audit.models.files.text_reader import TextReader
from audit.models.schedule import DdimConfig, as_ddim, load_scheduler

# B images, H W pixels


class Unet2dModel:
    """An unconditional U-Net on its device."""

    reader: TextReader | None = None

    def __init__(self, unet: UNet2DModel, scheduler: DDIMScheduler, published: Mapping[str, Any]) -> None:
        self._unet = unet
        self.scheduler = scheduler
        self.published = published
        self.noise_shape: tuple[int, int, int] = (3, *sample_size(unet.config))

    @classmethod
    def of(cls, directory: Path, unet: UNet2DModel, scheduler: str, ddim_config: DdimConfig) -> Unet2dModel:
        """Put a loaded U-Net together with the DDIM steps that stand for its published scheduler.

        Args:
            directory: Of the pipeline.
            unet: On its device.
            scheduler: Class of the published scheduler.
            ddim_config: Makes DDIM's config of the published scheduler's.
        """
        ddim = as_ddim(load_scheduler(directory, scheduler), ddim_config)
        return cls(unet, ddim, {"published_scheduler": scheduler})

    @property
    def denoiser(self) -> nn.Module:
        """The U-Net."""
        unet: nn.Module = self._unet
        return unet

    def condition(self, texts: Sequence[str], guidance: float) -> None:
        """Return None: there is no text to read.

        Raises:
            ValueError: A text is not empty, or guidance is asked for.
        """
        if any(texts) or guidance > 1:
            given = f"the text {next(filter(None, texts))!r}" if any(texts) else f"guidance {guidance:g}"
            raise ValueError(
                f"expected no text and guidance 1 for a model that reads no text, found {given}; set prompts: none and "
                "sampling.guidance: 1"
            )

    def predict(self, x: Tensor, timestep: int, condition: Tensor | None, guidance: float) -> Tensor:
        """Return the prediction ``(B, 3, H, W)``."""
        prediction: Tensor = self._unet(x, timestep).sample
        return prediction

    def encode(self, images: Tensor) -> Tensor:
        """Map uint8 images to [-1, 1]."""
        return images.to(self._unet.device, self._unet.dtype) / 127.5 - 1

    def decode(self, x: Tensor) -> Tensor:
        """Map [-1, 1] to uint8 images ``(B, 3, H, W)`` on the CPU."""
        return (x.float() * 127.5 + 127.5).round().clamp(0, 255).byte().cpu()
