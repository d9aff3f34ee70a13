"""Measures images per second: a worker's sampler compared with a plain batched StableDiffusionPipeline loop.

Both use the same model, prompt, seeds, scheduler and threads, and alternate; equal pictures are asserted first.
``python -m benchmarks.generation``.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from diffusers import StableDiffusionPipeline

from audit.calibration.bundle import BUNDLED
from audit.config.sections import ModelConfig, SamplingConfig
from audit.models.generator import load_generator
from audit.records.work import Prompt

PROMPT = Prompt("doctor", "a face photo of a doctor", "doctor")


def stock_pipeline() -> StableDiffusionPipeline:
    pipeline = StableDiffusionPipeline.from_pretrained(
        BUNDLED / "pipeline", dtype=torch.float32, safety_checker=None, requires_safety_checker=False
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    seeds = list(range(arguments.batch))
    ours = load_generator(ModelConfig(), SamplingConfig(steps=arguments.steps, guidance=3.0))
    stock = stock_pipeline()

    def run_ours() -> torch.Tensor:
        return ours.generate(PROMPT, seeds).float() / 255

    def run_stock() -> torch.Tensor:
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        return stock(
            [PROMPT.text] * len(seeds),
            num_inference_steps=arguments.steps,
            guidance_scale=3.0,
            generator=generators,
            output_type="pt",
        ).images

    gap = float((run_ours() - run_stock()).abs().max())
    assert gap < 0.51 / 255, f"the two sides draw different pictures: largest difference {gap}"
    times: dict[str, list[float]] = {"ours": [], "stock": []}
    for _ in range(arguments.repeats):
        for name, run in (("ours", run_ours), ("stock", run_stock)):
            started = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - started)
    ratios = [stock / own for own, stock in zip(times["ours"], times["stock"], strict=True)]
    print(
        f"batch {arguments.batch}, {arguments.steps} steps, {arguments.threads} thread(s); largest difference {gap:.4f}"
    )
    for name, seconds in times.items():
        print(f"{name:>6}: median {arguments.batch / statistics.median(seconds):6.2f} images/s")
    spread = f"{min(ratios):.2f}-{max(ratios):.2f}"
    print(f"stock / ours, median of {len(ratios)} pairs: {statistics.median(ratios):.2f} (range {spread})")


if __name__ == "__main__":
    main()
