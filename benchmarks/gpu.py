"""Measures an audit at full size on a GPU: sampling beside the stock pipeline, an edit, compiled blocks, and scoring.

The networks have published sizes and random weights, built from configs: nothing is downloaded. All sides use the same
weights, prompt, noise, scheduler and batch, and alternate in rounds. First the pictures are compared: those of an audit
must be the stock pipeline's.

    python -m benchmarks.gpu                          SD1.5, 512 × 512 pixels, 50 steps, bfloat16
    python -m benchmarks.gpu --model sdxl --batch 8   SDXL, 1024 × 1024 pixels
    python -m benchmarks.gpu --tiny                   the whole path at tiny size, also without a GPU

The edit is DiffLens with a random lens of default size at ``mid_block``, in every step. Scoring is a FairFace judge,
CLIP ViT-L/14 and the Inception network of FID, for every image.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from audit.config.mitigations.edits import DiffLensConfig
from audit.config.sections import LensConfig, ModelConfig, SamplingConfig
from audit.dissect.group_heads import GroupHeads
from audit.dissect.lens import BiasFeature, Lens
from audit.dissect.sae import SaeShape, SparseAutoencoder
from audit.mitigate.edits.difflens import Steering, steered
from audit.models.device import device_here
from audit.models.generator import DiffusionGenerator, load_generator
from audit.models.intervention import Intervention
from audit.records.work import Prompt
from audit.training.loop import seeded
from benchmarks.full_size import SAVE
from benchmarks.random_instruments import GROUPS, Instruments, load_instruments
from benchmarks.tiny_models import TEXTS, save_tiny_pipeline

PROMPT = Prompt("doctor", TEXTS[0], "doctor")
SAME = 1
"""Grey levels of 255 by which pictures of the stock pipeline and of an audit may differ."""

TARGETS = {"H200": 3.5, "H100": 2.4}
"""GPU → images per second that sampling must reach: SD1.5, 512 × 512 pixels, 50 steps, bfloat16."""
MOST_EDIT, MOST_SCORING = 0.02, 0.05
"""Largest share of the time of plain sampling that a symmetric edit and scoring may add."""


@dataclass(frozen=True)
class Figures:
    """What was measured.

    Attributes:
        seconds: Side → seconds of each round for one batch.
        batch: Images of a batch.
        compiling: Seconds by which the first batch with compiled blocks took longer than later ones.
    """

    seconds: dict[str, list[float]]
    batch: int
    compiling: float

    def rate(self, side: str) -> float:
        """Return the median of images per second."""
        return self.batch / statistics.median(self.seconds[side])

    def relative(self, side: str, other: str) -> list[float]:
        """Return the ratio of the times of two sides in each round."""
        return [one / base for one, base in zip(self.seconds[side], self.seconds[other], strict=True)]

    @property
    def repaid_after(self) -> float | None:
        """Images of a worker after which compiling has cost no time; None if compiled blocks are not faster."""
        saved = 1 / self.rate("plain") - 1 / self.rate("compiled")
        return self.compiling / saved if saved > 0 else None


class Bench:
    """The sides that are compared."""

    def __init__(self, directory: Path, model: ModelConfig, sampling: SamplingConfig, instruments: Instruments) -> None:
        self.device = device_here()
        self.seeds = list(range(sampling.batch))
        self._sampling, self._instruments = sampling, instruments
        self._stock = _stock_pipeline(directory, model.dtype, self.device)
        self._plain = _loaded(model, sampling)
        self._compiled = _loaded(model.model_copy(update={"compile": True}), sampling)
        self._edit = random_edit(self._plain, sampling.batch)
        self._images = self._plain.generate(PROMPT, self.seeds)

    def stock(self) -> Tensor:
        """Sample with the stock pipeline."""
        images = self._stock(
            PROMPT.text,
            num_images_per_prompt=len(self.seeds),
            num_inference_steps=self._sampling.steps,
            guidance_scale=self._sampling.guidance,
            height=self._sampling.height,
            width=self._sampling.width,
            generator=[torch.Generator().manual_seed(seed) for seed in self.seeds],
            output_type="pt",
        ).images
        return images.float().mul(255).round().byte().cpu()

    @property
    def sides(self) -> dict[str, Callable[[], Tensor | None]]:
        """Name of each side → its work for one batch."""
        return {
            "stock": self.stock,
            "plain": lambda: self._plain.generate(PROMPT, self.seeds),
            "edit": lambda: self._plain.generate(PROMPT, self.seeds, self._edit),
            "compiled": lambda: self._compiled.generate(PROMPT, self.seeds),
            "compiled edit": lambda: self._compiled.generate(PROMPT, self.seeds, self._edit),
            "scoring": lambda: self._instruments.score(self._images),
        }

    def seconds(self, work: Callable[[], Tensor | None]) -> float:
        """Return the seconds of one batch, up to the end of all work on the GPU."""
        self._wait()
        started = time.perf_counter()
        work()
        self._wait()
        return time.perf_counter() - started

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def measured(bench: Bench, rounds: int) -> Figures:
    """Compare the pictures, warm up, and time every side in each round; every second round is in reverse order.

    Raises:
        SystemExit: An audit does not draw the stock pipeline's pictures.
    """
    sides = bench.sides
    stock, plain = sides["stock"](), sides["plain"]()
    first = bench.seconds(sides["compiled"])
    gap, spread = _largest(plain, stock), float(plain.float().std())
    print(f"pictures: an audit's differ from the stock pipeline's by {gap} of 255 (their spread is {spread:.0f})")
    if gap > SAME:
        raise SystemExit(
            f"expected equal pictures, found a difference of {gap}: the speeds are not those of equal work"
        )
    print(f"          with compiled blocks by {_largest(sides['compiled'](), plain)}, by rounding")
    print(f"          with the edit by {_largest(sides['edit'](), plain)}")
    for name in ("compiled edit", "scoring"):
        sides[name]()
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        for name in list(sides) if number % 2 == 0 else reversed(sides):
            seconds[name].append(bench.seconds(sides[name]))
    return Figures(seconds, len(bench.seeds), max(0.0, first - statistics.median(seconds["compiled"])))


def random_edit(generator: DiffusionGenerator, batch: int) -> Intervention:
    """Return the edit of a random lens of default size at ``mid_block``, in every step, half of the images each way."""
    default, steps = LensConfig(), generator.steps
    _, channels, height, width = generator.first_maps(PROMPT.text, [0]).shape
    latents, draw = channels * default.expansion, torch.Generator().manual_seed(0)
    shape = SaeShape(channels, latents, min(default.k, latents))
    chosen = {group: range(i, latents, 2)[: default.features_per_group] for i, group in enumerate(GROUPS["gender"])}
    cells = channels * height * width
    lens = Lens(
        sae=SparseAutoencoder(shape, draw).requires_grad_(False),
        heads=GroupHeads(GROUPS, {"gender": torch.zeros(steps, 2, cells)}, {"gender": torch.zeros(steps, 2)}),
        features={
            "gender": {
                group: tuple(BiasFeature(i, 1.0, (1.0,) * steps) for i in rows) for group, rows in chosen.items()
            }
        },
        firing={
            "gender": {
                group: torch.rand(steps, height * width, len(rows), generator=draw) for group, rows in chosen.items()
            }
        },
        strengths={},
        settings={},
        quality={},
        model_fingerprint=generator.fingerprint,
        hookpoint="mid_block",
        steps=steps,
        groups=GROUPS,
    ).to(device_here())
    groups = tuple(GROUPS["gender"][i % 2] for i in range(batch))
    mitigation = DiffLensConfig(name="edit", attribute="gender", window=(0.0, 1.0), reverse_step="symmetric")
    return steered(mitigation, lens, Steering(groups, (1.0,) * batch))


def table(figures: Figures) -> list[str]:
    """Return a line for each side that samples, and what edit, scoring and compiling cost."""
    lines = [f"{'':14}{'images/s, median (range)':>28}{'time / stock, median (range)':>32}"]
    for side, seconds in figures.seconds.items():
        if side == "scoring":
            continue
        rates, ratios = [figures.batch / each for each in seconds], figures.relative(side, "stock")
        lines.append(f"{side:14}{_spread(rates):>28}{_spread(ratios):>32}")
    edit = [ratio - 1 for ratio in figures.relative("edit", "plain")]
    compiled_edit = [ratio - 1 for ratio in figures.relative("compiled edit", "compiled")]
    lines += [
        f"edit adds to sampling: {_percent(edit)}; with compiled blocks: {_percent(compiled_edit)}",
        f"scoring adds to plain sampling: {_percent(figures.relative('scoring', 'plain'))}",
    ]
    after = figures.repaid_after
    repaid = (
        "not repaid: compiled blocks are not faster"
        if after is None
        else f"repaid after {after:,.0f} images of a worker"
    )
    return [*lines, f"compiling: {figures.compiling:.1f} s, {repaid}"]


def verdicts(figures: Figures, gpu: str) -> list[str]:
    """Say of each target whether it is held; the speed has one for some GPUs only."""
    best = max(("plain", "compiled"), key=figures.rate)
    target = next((least for name, least in TARGETS.items() if name in gpu), None)
    speed = f"{figures.rate(best):.2f} images/s ({best})"
    first = f"no target of speed for {gpu}: {speed}"
    if target is not None:
        first = f"{_held(figures.rate(best) >= target)}: at least {target} images/s on {gpu}; found {speed}"
    edit = statistics.median(figures.relative("edit", "plain")) - 1
    scoring = statistics.median(figures.relative("scoring", "plain"))
    return [
        first,
        f"{_held(edit < MOST_EDIT)}: the symmetric edit below {MOST_EDIT:.0%}; found {edit:.1%}",
        f"{_held(scoring < MOST_SCORING)}: scoring below {MOST_SCORING:.0%}; found {scoring:.1%}",
    ]


def _held(is_held: bool) -> str:
    return "held" if is_held else "MISSED"


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


def _percent(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.1%} ({min(values):.1%} to {max(values):.1%})"


def _largest(one: Tensor, other: Tensor) -> int:
    return int((one.int() - other.int()).abs().max())


def _loaded(model: ModelConfig, sampling: SamplingConfig) -> DiffusionGenerator:
    found = load_generator(model, sampling)
    assert isinstance(found, DiffusionGenerator)
    return found


def _stock_pipeline(directory: Path, dtype: str, device: torch.device) -> Any:
    from diffusers import DDIMScheduler, DiffusionPipeline

    pipeline = DiffusionPipeline.from_pretrained(directory, dtype=getattr(torch, dtype)).to(device)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def saved(work: Path, arguments: argparse.Namespace) -> Path:
    """Save the pipeline with random weights, unless it is there, and return its directory."""
    if arguments.tiny:
        return save_tiny_pipeline(work / "tiny")
    root = work / f"{arguments.model}-{arguments.dtype}"
    if not (root / "pipeline" / "model_index.json").is_file():
        root.mkdir(parents=True, exist_ok=True)
        with seeded(0):
            SAVE[arguments.model](root, getattr(torch, arguments.dtype))
    return root / "pipeline"


def run(work: Path, arguments: argparse.Namespace) -> None:
    """Measure and print."""
    device, directory = device_here(), saved(work, arguments)
    model = ModelConfig(source=str(directory), dtype=arguments.dtype)
    sampling = SamplingConfig(
        steps=arguments.steps,
        guidance=7.5,
        batch=arguments.batch,
        scheduler="DDIMScheduler",
        height=arguments.side,
        width=arguments.side,
    )
    bench = Bench(directory, model, sampling, load_instruments(work / "instruments", device, tiny=arguments.tiny))
    gpu = torch.cuda.get_device_name() if device.type == "cuda" else f"no GPU ({platform.machine()})"
    size = bench.sides["plain"]().shape[-1]
    print(
        f"{gpu}, torch {version('torch')}, diffusers {version('diffusers')}: "
        f"{'tiny' if arguments.tiny else arguments.model}, {size} × {size} pixels, {arguments.steps} steps, batch "
        f"{arguments.batch}, {arguments.dtype}, {arguments.rounds} rounds"
    )
    figures = measured(bench, arguments.rounds)
    print("\n".join(table(figures)))
    aimed = (arguments.model, size, arguments.steps, arguments.dtype) == ("sd15", 512, 50, "bfloat16")
    if aimed and device.type == "cuda" and not arguments.tiny:
        print("\n".join(verdicts(figures, gpu)))
    else:
        print("targets: none at this size; they are for sd15, 512 × 512 pixels, 50 steps, bfloat16, on a GPU")


def parsed() -> argparse.Namespace:
    """Read the command line; a tiny run has its own defaults."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=SAVE, default="sd15")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--side", type=int, help="Height and width of the images; by default those of the model.")
    parser.add_argument("--dtype", choices=("float32", "float16", "bfloat16"))
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads, as workers.threads.")
    parser.add_argument("--work", type=Path, help="Keeps the weights for later runs: 4 GB, or 9 GB for SDXL.")
    parser.add_argument("--tiny", action="store_true", help="The whole path at tiny size, also without a GPU.")
    arguments = parser.parse_args()
    usual = (2, 3, "float32", 2) if arguments.tiny else (32, 50, "bfloat16", 5)
    for name, value in zip(("batch", "steps", "dtype", "rounds"), usual, strict=True):
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
    return arguments


def main() -> None:
    """Run the benchmark, or ask for a GPU (exit code 2)."""
    arguments = parsed()
    if not arguments.tiny and not torch.cuda.is_available():
        print(
            "expected a GPU that CUDA finds, found none; run this on a machine with one, or try the whole path at tiny "
            "size with --tiny",
            file=sys.stderr,
        )
        sys.exit(2)
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as place:
        run(arguments.work or Path(place), arguments)


if __name__ == "__main__":
    main()
