"""Compares closed-form attribution with DiffLens's ten-step autograd loop on the same tensors, interleaved.

Run with ``python -m benchmarks.attribution``. It first checks equality with a fine path integral, and prints no time if
that check fails.
The loop follows the paper's description: left Riemann rule, ten points, full decode, softmax of a linear head.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from audit.dissect.features.attribution import code_change, integrated_gradients, latent_effects
from audit.dissect.sae import SaeShape, SparseAutoencoder, SparseCodes

CHANNELS, GRID, LATENTS, ACTIVE, GROUPS = 1280, 8, 5120, 32, 4
TOLERANCE = 1e-4
"""Largest allowed difference from the fine path integral, relative to the largest attribution (float32)."""


@dataclass(frozen=True)
class Scene:
    """One image at one step: its map, an autoencoder, a head, and the closed form's one-off effects."""

    sae: SparseAutoencoder
    maps: Tensor
    codes: SparseCodes
    weight: Tensor
    effects: Tensor

    @classmethod
    def random(cls, seed: int = 0) -> Scene:
        """Draw a scene of Stable Diffusion 1.5's size."""
        generator = torch.Generator().manual_seed(seed)
        sae = SparseAutoencoder(SaeShape(CHANNELS, LATENTS, ACTIVE), generator)
        maps = torch.randn(1, CHANNELS, GRID, GRID, generator=generator)
        weight = torch.randn(GROUPS, maps[0].numel(), generator=generator) / maps[0].numel() ** 0.5
        with torch.no_grad():
            return cls(sae, maps, sae.codes_of_map(maps), weight, latent_effects(sae, weight, GRID * GRID))

    def closed_form(self) -> Tensor:
        """Attribution (N, G) of all groups at once, summed over positions."""
        with torch.no_grad():
            logits = self.maps.flatten(1) @ self.weight.T
            return integrated_gradients(code_change(self.codes), self.effects, logits).by_sample()[0]

    def autograd_loop(self, points: int = 10, offset: float = 0.0, frozen: bool = True) -> Tensor:
        """Attribution (N,) of group 0 at ``points`` positions i/points + offset, through the whole decoder.

        DiffLens keeps parameter gradients on (``frozen=False``): each point also fills a decoder-sized gradient.
        """
        self.sae.requires_grad_(not frozen)
        with torch.no_grad():
            latents = self.sae.latents_of_map(self.maps)
            error = self.sae.vectors_of_map(self.maps) - self.sae.decode(latents)
        total = torch.zeros_like(latents)
        for point in range(points):
            z = ((point / points + offset) * latents).requires_grad_()
            flat = (self.sae.decode(z) + error).transpose(1, 2).flatten(1)
            (flat @ self.weight.T).softmax(-1)[0, 0].backward()
            total += z.grad
        self.sae.zero_grad(set_to_none=True)
        return (total * latents / points).sum(1)[0].detach()


def check_equality(scene: Scene, points: int) -> float:
    """Largest relative difference between the closed form and a midpoint path integral of ``points`` points.

    Raises:
        SystemExit: If they differ.
    """
    oracle = scene.autograd_loop(points, offset=0.5 / points)
    difference = float((scene.closed_form()[:, 0] - oracle).abs().max() / oracle.abs().max())
    if difference > TOLERANCE:
        raise SystemExit(f"expected equal attributions to {TOLERANCE:.0e}, found a difference of {difference:.1e}")
    return difference


def seconds(function: Callable[[], object], calls: int = 1) -> float:
    """Wall time of one call, averaged over ``calls``."""
    start = time.perf_counter()
    for _ in range(calls):
        function()
    return (time.perf_counter() - start) / calls


def compare(scene: Scene, repetitions: int) -> dict[str, list[float]]:
    """Time the implementations in turn, ``repetitions`` times; short ones as a mean over 20 calls."""
    scene.closed_form()
    times: dict[str, list[float]] = {}
    for _ in range(repetitions):
        rounds = {
            "loop, parameters with gradients": seconds(lambda: scene.autograd_loop(frozen=False)),
            "loop, parameters frozen": seconds(scene.autograd_loop),
            "closed form": seconds(scene.closed_form, calls=20),
            "one-off effects of a step": seconds(lambda: latent_effects(scene.sae, scene.weight, GRID * GRID)),
        }
        for name, value in rounds.items():
            times.setdefault(name, []).append(value)
    return times


def main() -> None:
    """Check equality, then print medians and the median of the paired ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument(
        "--points", type=int, default=50, help="points of the path integral that equality is checked against"
    )
    arguments = parser.parse_args()
    scene = Scene.random()
    difference = check_equality(scene, arguments.points)
    print(f"d={CHANNELS} n={LATENTS} k={ACTIVE} {GRID}x{GRID} groups={GROUPS}, {torch.get_num_threads()} threads")
    print(f"equal to a {arguments.points}-point path integral within {difference:.1e} of the largest attribution")
    times = compare(scene, arguments.repetitions)
    for name, values in times.items():
        ratios = [value / own for value, own in zip(values, times["closed form"], strict=True)]
        print(f"{name:34} {1e3 * statistics.median(values):10.2f} ms   {statistics.median(ratios):8.1f} x closed form")


if __name__ == "__main__":
    main()
