"""Compares bfloat16 with float32: time, pictures, and the groups that the judge perceives in them.

Both have the same prompts and noise, and take turns. A processor without units for bfloat16 is slower with it.
``python -m benchmarks.precision configs/occupations.yaml configs/wide.yaml``.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from audit.config.file import read_config
from audit.config.settings import AuditConfig
from audit.models.generator import DiffusionGenerator, load_generator
from audit.perception.judges.registry import load_judge
from audit.planning.plan import prompts_of_model

Precision = Literal["float32", "bfloat16"]
PRECISIONS: tuple[Precision, Precision] = ("float32", "bfloat16")


@dataclass
class Sampled:
    """What one precision made.

    Attributes:
        generator: The model.
        seconds: Of each prompt.
        images: uint8 (B, 3, H, W) of each prompt.
    """

    generator: DiffusionGenerator
    seconds: list[float] = field(default_factory=list)
    images: list[Tensor] = field(default_factory=list)


def main() -> None:
    """Print a paragraph for each config."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="+", type=Path, help="audits of a model with a bundled judge")
    parser.add_argument("--prompts", type=int, default=6)
    parser.add_argument("--images", type=int, default=40, help="for each prompt, in one batch")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for path in arguments.configs:
        config = read_config(path)
        sampling = config.sampling.model_copy(update={"steps": arguments.steps, "batch": arguments.images})
        config = config.model_copy(update={"sampling": sampling})
        print(compared(config, arguments.prompts, arguments.images))


def compared(config: AuditConfig, prompts: int, images: int) -> str:
    """Return how the two precisions differ on the first prompts of an audit."""
    sampled = {precision: Sampled(_generator(config, precision)) for precision in PRECISIONS}
    judge = load_judge(config.judge, config.model, config.attributes)
    same = dict.fromkeys(config.attributes, 0)
    chosen = prompts_of_model(config.model, config.prompts)[:prompts]
    for prompt in chosen:
        for one in sampled.values():
            started = time.perf_counter()
            one.images.append(one.generator.generate(prompt, range(images)))
            one.seconds.append(time.perf_counter() - started)
        perceived = [judge.perceive(one.images[-1], prompt.occupation) for one in sampled.values()]
        for attribute in same:
            first, second = (seen.codes(attribute) for seen in perceived)
            same[attribute] += int((first == second).sum())
    single, half = (sampled[precision] for precision in PRECISIONS)
    ratios = [slow / fast for slow, fast in zip(single.seconds, half.seconds, strict=True)]
    apart = (torch.cat(single.images).float() - torch.cat(half.images).float()).abs().mean((1, 2, 3))
    groups = ", ".join(f"{attribute} {count}" for attribute, count in same.items())
    return (
        f"{config.name}, {len(chosen)} prompts × {images} images, {single.generator.steps} steps: float32 takes "
        f"{statistics.median(ratios):.2f} times as long as bfloat16 (median of {len(ratios)} pairs, {min(ratios):.2f} "
        f"to {max(ratios):.2f}). Pixels differ by {apart.mean():.2f} of 255 on average, in the worst picture by "
        f"{apart.max():.2f}. The same group in {len(apart)} pictures: {groups}."
    )


def _generator(config: AuditConfig, precision: Precision) -> DiffusionGenerator:
    """Load the model in a precision.

    Raises:
        TypeError: The model has no network.
    """
    generator = load_generator(config.model.model_copy(update={"dtype": precision}), config.sampling)
    if not isinstance(generator, DiffusionGenerator):
        raise TypeError(f"expected a model with a network, found {config.model.source!r}")
    return generator


if __name__ == "__main__":
    main()
