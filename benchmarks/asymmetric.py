"""Times an asymmetric edit that replays what lies in front of the hookpoint, beside one that computes it twice.

``python -m benchmarks.asymmetric --pairs 7``. Both are run in turn, in changing order, on the calibration model and on
a Stable Diffusion with random weights, whose U-Net has the published blocks with an eighth of the channels and of the
side. Images are compared; the ratio is the median over the pairs.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor

from audit.config.sections import ModelConfig, SamplingConfig
from audit.models import denoising
from audit.models.generator import DiffusionGenerator, load_generator
from audit.models.intervention import Intervention
from benchmarks.tiny_models import save_tiny_pipeline

TEXT = "a face photo of a doctor"
HOOKPOINTS = ("down_blocks.0", "mid_block", "up_blocks.0")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as directory:
        wide = save_wide(Path(directory))
        for name, source in (("calibration model", "calibration"), ("Stable Diffusion, eighth width", str(wide))):
            sampling = SamplingConfig(steps=arguments.steps, guidance=3.0, scheduler="DDIMScheduler")
            generator = load_generator(ModelConfig(source=source), sampling)
            assert isinstance(generator, DiffusionGenerator)
            for hookpoint in HOOKPOINTS:
                report(f"{name}, {hookpoint}", generator, edited(hookpoint, arguments), arguments.pairs)


def save_wide(root: Path) -> Path:
    """Save a Stable Diffusion whose U-Net has the four levels of the published one, with an eighth of the channels."""
    from diffusers import UNet2DConditionModel

    directory = save_tiny_pipeline(root)
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(40, 80, 160, 160), cross_attention_dim=16, norm_num_groups=8
    )
    unet.save_pretrained(directory / "unet")
    return directory


def edited(hookpoint: str, arguments: argparse.Namespace) -> Intervention:
    """Return an asymmetric edit of one hookpoint at every step."""
    return Intervention(
        (None,) * arguments.batch,
        range(arguments.steps),
        "asymmetric",
        edits={hookpoint: lambda _step, h: h + 0.1},
    )


def report(what: str, generator: DiffusionGenerator, arm: Intervention, pairs: int) -> None:
    """Time both ways in turn, and print the median ratio of their times."""

    def sampled() -> Tensor:
        return generator.sample([TEXT] * len(arm.assigned), list(range(len(arm.assigned))), arm)

    def twice() -> Tensor:
        with mock.patch.object(denoising, "_front_of", return_value=None):
            return sampled()

    assert torch.equal(sampled(), twice()), "the images differ"
    ratios = []
    for pair in range(pairs):
        ways: list[Callable[[], Tensor]] = [sampled, twice] if pair % 2 else [twice, sampled]
        times = {way: timed(way) for way in ways}
        ratios.append(times[sampled] / times[twice])
    spread = f"{min(ratios):.2f}-{max(ratios):.2f}"
    print(
        f"{what}: replayed / computed twice, median {statistics.median(ratios):.2f} ({spread}); images equal",
        flush=True,
    )


def timed(way: Callable[[], Tensor]) -> float:
    """Return the seconds of one call."""
    started = time.perf_counter()
    way()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
