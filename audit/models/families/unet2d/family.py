"""The family of unconditional U-Nets on pixels: how its published directories are read, checked and loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audit.models.families.configs import UNET_BLOCKS, Classes, sample_size, unfit_class, unfit_index
from audit.models.families.interface import LoadedModel
from audit.models.files.pipeline_files import NETWORK_CONFIG, SCHEDULER_CONFIG, PipelineConfigs
from audit.models.files.untrusted_model import UnfitModelError, reason_in_short

if TYPE_CHECKING:
    from torch import Tensor

_BATCH = 2
_CLASSES: Classes = {"unet": ("UNet2DModel",)}


class Unet2d:
    """Unconditional diffusion on pixels (Ho et al. 2020; Song et al. 2021)."""

    name = "an unconditional U-Net on pixels"
    pipelines: tuple[str, ...] = ("DDPMPipeline", "DDIMPipeline")
    configs: Mapping[str, str] = {"unet": NETWORK_CONFIG, "scheduler": SCHEDULER_CONFIG}
    networks: tuple[str, ...] = ("unet",)
    reads_text = False
    blocks: tuple[str, ...] = UNET_BLOCKS

    def size(self, denoiser: Mapping[str, Any]) -> tuple[int, int]:
        """Return height and width of the pictures."""
        return sample_size(denoiser)

    def unfit_index(self, index: Mapping[str, Any]) -> Iterator[str]:
        """Find parts other than the U-Net and the scheduler, or one of these missing."""
        return unfit_index(index, self.name, _CLASSES)

    def unfit_parts(self, directory: Path, configs: PipelineConfigs) -> Iterator[str]:
        """Find a U-Net that needs a class label, or whose input or output is not a colour picture."""
        unet = configs.parts["unet"]
        yield from unfit_class("unet", unet, _CLASSES)
        for key in ("class_embed_type", "num_class_embeds"):
            if unet.get(key) is not None:
                yield f"unet/config.json: expected no {key}, found {unet[key]!r}: this U-Net needs a class label"
        for key in ("in_channels", "out_channels"):
            if unet.get(key, 3) != 3:
                yield f"unet/config.json: expected {key} 3, red, green and blue, found {unet[key]!r}"
        try:
            sample_size(unet)
        except ValueError as error:
            yield str(error)

    def network_class(self, part: str) -> Any:  # noqa: ANN401 - a class of diffusers
        """Return the class of the U-Net."""
        from diffusers import UNet2DModel

        return {"unet": UNet2DModel}[part]

    def ddim_config(self, published: Mapping[str, Any]) -> dict[str, Any]:
        """Return the published config as it is: ``DDIMPipeline`` does not change it."""
        return dict(published)

    def check_parts(self, directory: Path, configs: PipelineConfigs, networks: Mapping[str, Any]) -> None:
        """Predict noise on the meta device."""
        try:
            found = tuple(self.predict_on_meta(configs, networks).shape)
        except Exception as error:
            raise UnfitModelError(
                f"unet: expected a U-Net that takes pictures, found one that fails ({reason_in_short(error)})"
            ) from error
        expected = (_BATCH, 3, *sample_size(configs.parts["unet"]))
        if found != expected:
            raise UnfitModelError(f"unet: expected a prediction of shape {expected}, found {found}")

    def predict_on_meta(self, configs: PipelineConfigs, networks: Mapping[str, Any]) -> Tensor:
        """Call the U-Net on pictures of its size."""
        import torch

        size = sample_size(configs.parts["unet"])
        with torch.inference_mode():
            noise: Tensor = networks["unet"](torch.empty(_BATCH, 3, *size, device="meta"), 1).sample
        return noise

    def load(self, directory: Path, networks: Mapping[str, Any], index: Mapping[str, Any]) -> LoadedModel:
        """Return the U-Net with DDIM in place of its published scheduler."""
        from audit.models.families.unet2d.network import Unet2dModel

        return Unet2dModel.of(directory, networks["unet"], index["scheduler"][1], self.ddim_config)
