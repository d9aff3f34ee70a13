"""Trains the unconditional calibration model from nothing: ``python -m audit.training.unconditional OUT``.

A U-Net on the pixels of drawings, as DDPM (Ho et al. 2020), that reads no text. It is judged by the networks of the
bundled world.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
from contextlib import nullcontext
from pathlib import Path

import torch
from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from audit.calibration.labels import ATTRIBUTES, face_noise
from audit.calibration.networks import to_unit_range
from audit.calibration.renderer import render
from audit.calibration.world import World, planted_labels
from audit.models.device import device_here
from audit.training.loop import Schedule, one_thread, seeded, train
from audit.training.unet import draw_batch

LOG = logging.getLogger(__name__)

PIXELS = 32
"""Height and width of a picture. The judge reads the groups of drawings at this size as well as at 64."""

NOISY = 0.7
"""Share of the timesteps in the noisier half of the schedule: there it is decided who is drawn."""

DRAWINGS, QUICK_DRAWINGS = 24_000, 4_000
FULL = Schedule(steps=4_000, batch=64, learning_rate=1e-3, warmup=200, ema=0.999)
QUICK = Schedule(steps=600, batch=64, learning_rate=1e-3, warmup=100, ema=0.99)


def new_unet(seed: int) -> UNet2DModel:
    """Build the untrained U-Net (3 M parameters); its ``mid_block`` gives maps (B, 128, 4, 4)."""
    with seeded(seed):
        return UNet2DModel(
            sample_size=PIXELS,
            block_out_channels=(16, 48, 96, 128),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
            attention_head_dim=32,
            norm_num_groups=16,
        )


def new_scheduler() -> DDIMScheduler:
    """Return DDPM's linear schedule with zero terminal SNR and v-prediction (Lin et al. 2024), clipped to pixels."""
    return DDIMScheduler(
        rescale_betas_zero_snr=True, prediction_type="v_prediction", timestep_spacing="trailing", clip_sample=True
    )


def draw(world: World, n: int, chunk: int = 200) -> Tensor:
    """Draw ``n`` training pictures, uint8 (n, 3, 32, 32), sorted by the groups that they show."""
    images, groups = [], []
    with one_thread():
        for start in range(0, n, chunk):
            noise = face_noise(range(start, min(n, start + chunk)))
            labels = planted_labels(world, noise)
            small = functional.interpolate(render(labels, noise).images.float(), size=PIXELS, mode="area")
            images.append(small.round().byte())
            groups.append(torch.stack([torch.as_tensor(getattr(labels, name)) for name in ATTRIBUTES], 1))
    codes = torch.cat(groups) @ torch.tensor([100, 10, 1])
    return torch.cat(images)[codes.argsort(stable=True)]


def train_unet(
    unet: UNet2DModel, scheduler: DDIMScheduler, images: Tensor, schedule: Schedule, checkpoint: Path
) -> list[float]:
    """Train to predict v = √ᾱ ε − √(1−ᾱ) x₀ (Salimans & Ho 2022), by mean squared error."""
    device = device_here()
    alphas = scheduler.alphas_cumprod.to(device)
    weights = torch.ones(len(images))

    def loss_of(step: int, generator: torch.Generator) -> Tensor:
        chosen, t = draw_batch(weights, NOISY, len(alphas), schedule.batch, step)
        t = t.to(device)
        x0 = to_unit_range(images[chosen]).to(device)
        noise = torch.randn(x0.shape, generator=generator).to(device)
        signal, sigma = alphas[t].sqrt().view(-1, 1, 1, 1), (1 - alphas[t]).sqrt().view(-1, 1, 1, 1)
        # The flash kernel for heads this small is slower than plain matrix products on a CPU.
        with (
            sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext(),
            torch.autocast(device.type, torch.bfloat16),
        ):
            v = unet(signal * x0 + sigma * noise, t).sample
        return functional.mse_loss(v.float(), signal * noise - sigma * x0)

    return train(unet, loss_of, schedule, checkpoint)


def make(out: Path, *, quick: bool = False) -> None:
    """Train into ``out``: ``world.yaml`` and the stock diffusers directory ``pipeline``; resumable."""
    out.mkdir(parents=True, exist_ok=True)
    table = World.bundled_path().with_name("unconditional.yaml")
    shutil.copyfile(table, out / "world.yaml")
    LOG.info("drawing the training pictures")
    images = draw(World.load(table), QUICK_DRAWINGS if quick else DRAWINGS)
    unet, scheduler = new_unet(seed=1), new_scheduler()
    losses = train_unet(unet, scheduler, images, QUICK if quick else FULL, out / "checkpoints" / "unet.pt")
    (out / "losses.json").write_text(json.dumps({"unet": losses}, indent=2) + "\n")
    DDIMPipeline(unet, scheduler).to(dtype=torch.float16).save_pretrained(out / "pipeline")


def main() -> None:
    """Command line of the recipe."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="directory to train into")
    parser.add_argument("--quick", action="store_true", help="a seventh of the steps, fewer drawings")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    make(arguments.out, quick=arguments.quick)


if __name__ == "__main__":
    main()
