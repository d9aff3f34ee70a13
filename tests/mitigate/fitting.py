"""Fits a method in this process, with models of random weights: what the workers do, without a cluster."""

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import torch

from audit.calibration.bundle import BUNDLED
from audit.config.sections import ModelConfig, QualityConfig, SamplingConfig
from audit.dissect.group_heads import GroupHeads
from audit.dissect.lens import BiasFeature, Lens
from audit.dissect.sae import SaeShape, SparseAutoencoder
from audit.mitigate.tools import FitTools
from audit.perception.embedders.clip import load_clip
from audit.perception.judges.perceived import Perceived
from audit.perception.segmenters.outside import Outside
from audit.planning.fits import FitRequest
from audit.records.work import Prompt, Status
from benchmarks.fits import fit_in_process

TEMPLATE = "a face photo of {a} {occupation}"
PROMPTS = tuple(Prompt(name, f"a face photo of a {name}", name) for name in ("doctor", "nurse"))

FIRST_ROUND = 8
"""Images per prompt in one round of the fits of the tests."""


@dataclass(frozen=True)
class ByBrightness:
    """A judge for pictures of random networks, which are all about as bright: groups are narrow bands of brightness."""

    groups: tuple[str, ...]
    attribute: str = "gender"
    seen: list = field(default_factory=list)
    signature: str = "brightness"

    def perceive(self, images, occupation):
        self.seen.append((occupation, len(images)))
        probabilities = self.with_gradients(images.float() / 255, self.attribute).exp().numpy().astype(np.float32)
        return Perceived({self.attribute: probabilities}, [Status.CLASSIFIED] * len(images), None)

    def with_gradients(self, pictures, attribute):
        place = 255 * pictures.mean((1, 2, 3)) / 2 % 1
        centres = (torch.arange(len(self.groups)) + 0.5) / len(self.groups)
        return torch.log_softmax(-60 * (place[:, None] - centres).abs(), 1)


@dataclass(frozen=True)
class BalancedBySecondRound(ByBrightness):
    """Sees the first group alone in the first round of a fit, and all groups evenly from then on.

    UCE keeps the weights whose shares are nearest to the target. Shares of a random network's pictures are chance, and
    may be best with no change at all; with these the first change is always the one that is kept.
    """

    def perceive(self, images, occupation):
        is_first = self.seen.count((occupation, len(images))) * len(images) < FIRST_ROUND
        self.seen.append((occupation, len(images)))
        codes = np.zeros(len(images), int) if is_first else np.arange(len(images)) % len(self.groups)
        probabilities = np.eye(len(self.groups), dtype=np.float32)[codes]
        return Perceived({self.attribute: probabilities}, [Status.CLASSIFIED] * len(images), None)


class UpperHalf:
    """A segmenter for pictures of random networks: the upper half of each shows a face."""

    parts = ("face", "rest")

    def labels(self, images):
        labels = torch.ones(len(images), *images.shape[2:], dtype=torch.uint8)
        labels[:, : images.shape[2] // 2] = 0
        return labels


UPPER_HALF = Outside(UpperHalf(), ("face",), "outside:face|by:upper half")


def random_lens(generator, groups, latents=40, per_group=3):
    """A lens of the model's mid block with random numbers: every part of it has the right shape."""
    numbers = torch.Generator().manual_seed(3)
    channels, height, width = generator.first_maps(PROMPTS[0].text, [0]).shape[1:]
    steps, owned = generator.steps, {group: range(i * per_group, (i + 1) * per_group) for i, group in enumerate(groups)}
    heads = {"gender": torch.zeros(steps, len(groups), channels * height * width)}
    return Lens(
        sae=SparseAutoencoder(SaeShape(channels, latents, 8), numbers).requires_grad_(False),
        heads=GroupHeads({"gender": groups}, heads, {"gender": torch.zeros(steps, len(groups))}),
        features={
            "gender": {g: tuple(BiasFeature(i, 1.0, (1.0,) * steps) for i in rows) for g, rows in owned.items()}
        },
        firing={"gender": {g: torch.rand(steps, height * width, per_group, generator=numbers) for g in groups}},
        strengths={},
        settings={},
        quality={},
        model_fingerprint=generator.fingerprint,
        hookpoint="mid_block",
        steps=steps,
        groups={"gender": groups},
    )  # fmt: skip


@cache
def bundled_clip():
    """The CLIP model of the calibration model."""
    return load_clip(QualityConfig(clip=str(BUNDLED / "clip")), ModelConfig())


def fit_here(section, generator, groups, directory: Path, *, judge=None, lens=None):
    """Fit the method of a section and store it; None if the method is not fitted."""
    request = FitRequest(section, groups, TEMPLATE, SamplingConfig(steps=generator.steps, guidance=2.0, batch=4))
    tools = FitTools(
        generator, lambda: judge or ByBrightness(groups), lambda: lens, bundled_clip, outside=lambda: UPPER_HALF
    )
    return fit_in_process(request, PROMPTS, tools, directory)
