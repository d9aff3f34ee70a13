"""Fuzz test of model directories: ``validate`` refuses each, or it gives the same pictures as diffusers.

``python -m benchmarks.fuzz_models --cases 500`` damages a tiny Stable Diffusion pipeline in one to three ways (missing,
cut, misnamed and foreign parts, invalid configs), or changes it harmlessly, and prints the results. An accepted model
must load, contain exactly the numbers of its files, and draw what diffusers' own call draws, up to a grey level. If all
changes were harmless, its pictures must equal those of the undamaged model bit for bit.
"""

from __future__ import annotations

import json
import logging
import shutil
import sys
import tempfile
import warnings
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray

from audit.config.sections import ModelConfig, SamplingConfig
from audit.models.generator import DiffusionGenerator, load_generator
from benchmarks.fuzz_cases import Drawn, FindingError, run_cases
from benchmarks.model_damages import DRAWN_OFTEN, HARMFUL, HARMLESS, OTHERWISE, Damage, Rng
from benchmarks.stock_pictures import loaded_numbers, stock_pictures, stored_numbers
from benchmarks.tiny_models import save_tiny_pipeline

STEPS = SamplingConfig(steps=4, guidance=3.0)
PARTS = ("unet", "vae", "text_encoder")
OCCUPATION, SEEDS = "doctor", (1, 2)
TEXTS = (f"a face photo of a {OCCUPATION}",) * 2

_NAMES = ("model", "model", "model", "a b", "a%20b", "naïve", "日本", "[1]", "a#b", "a?b", "-n", ".hidden", "a.b")
_KINDS = {"harmless": 0.25, "whole": 0.2, "drawn": 0.4, "named": 0.15}
"""Kinds of damage → share of the cases."""
_NO_JUDGE = frozenset({"judge.source"})
"""A FairFace checkpoint has its own place in the config, and does not belong to the model."""
_ROUNDING = 1.0 + 1e-3
"""Rounding differences in grey levels if sums are computed in another order."""


@cache
def _models() -> tuple[Path, Path]:
    """Build the model to damage, and another one with other sizes and words."""
    root = Path(tempfile.mkdtemp(prefix="fuzz-models-"))
    own = save_tiny_pipeline(root / "own")
    other = save_tiny_pipeline(root / "other", seed=1, width=24, texts=("a dog on the moon", "two red cars in a town"))
    return own, other


@cache
def _undamaged() -> NDArray[np.uint8]:
    """Return the pictures of the undamaged model, which equal those of diffusers."""
    drawn = _load(_models()[0]).sample(TEXTS, SEEDS).numpy()
    _compare(drawn, _stock(_models()[0]))
    return drawn


def _load(directory: Path) -> DiffusionGenerator:
    """Load a model that ``validate`` accepted, without repeating that slow check."""
    with patch("audit.models.loading.refuse_unfit", lambda *_: None):
        generator = load_generator(ModelConfig(source=str(directory)), STEPS)
    assert isinstance(generator, DiffusionGenerator)
    return generator


def draw_model(rng: Rng, root: Path) -> Drawn:
    """Damage a copy of the tiny model; in some cases it stays undamaged."""
    own, other = _models()
    model = root / str(rng.choice(_NAMES))
    shutil.copytree(own, model)
    done: list[str] = []
    kind = str(rng.choice(list(_KINDS), p=list(_KINDS.values())))
    _apply(HARMLESS, tuple(HARMLESS), int(rng.integers(0, 3)), (model, rng, other), done)
    if kind == "whole":
        _apply(OTHERWISE, tuple(OTHERWISE), 1, (model, rng, other), done)
    elif kind != "harmless":
        names = DRAWN_OFTEN if kind == "drawn" else tuple(HARMFUL)
        _apply(HARMFUL, names, int(rng.integers(1, 4)), (model, rng, other), done)
    config = (
        f"name: a\nmodel: {{source: {json.dumps(str(model), ensure_ascii=False)}}}\n"
        f"prompts: {{occupations: [{OCCUPATION}], images_per_prompt: 2}}\n"
        f"sampling: {{steps: {STEPS.steps}, guidance: {STEPS.guidance}}}\nlens: {{k: 4, features_per_group: 2}}\n"
        f"quality: {{clip: none, features: none}}\ntracking: {{enabled: false}}\noutput: {json.dumps(str(root))}\n"
    )
    return Drawn(
        ways=tuple(done) or ("as it is",),
        config=config,
        check=partial(_check, model, same=kind == "harmless"),
        refusable=kind in ("drawn", "named"),
        ignored=_NO_JUDGE,
    )


def _apply(
    damages: Mapping[str, Damage], names: tuple[str, ...], count: int, where: tuple[Path, Rng, Path], done: list[str]
) -> None:
    """Apply some damages, and record those that changed something."""
    model, rng, other = where
    chosen = rng.choice(np.array(names, dtype=object), min(count, len(names)), replace=False)
    for name in chosen:
        try:
            description = damages[name](model, rng, other)
        except Exception:  # noqa: BLE001, S112 - another damage already removed what this one changes
            continue
        done.append(f"{name}: {description}" if description else name)


def _check(model: Path, *, same: bool) -> None:
    """Load an accepted model, and compare its numbers and pictures."""
    generator = _load(model)
    for part in PARTS:
        if loaded_numbers(getattr(generator.pipeline, part)) != stored_numbers(model, part):
            raise FindingError(f"{part} holds other numbers than its files")
    drawn = generator.sample(TEXTS, SEEDS).numpy()
    if not same:
        _compare(drawn, _stock(model))
    elif not np.array_equal(drawn, _undamaged()):
        raise FindingError("draws other pictures than the undamaged model")


def _stock(model: Path) -> NDArray[np.float32]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return stock_pictures(model, TEXTS, SEEDS, STEPS.steps, STEPS.guidance)


def _compare(drawn: NDArray[np.uint8], expected: NDArray[np.float32]) -> None:
    if drawn.shape != expected.shape:
        raise FindingError(f"draws pictures of shape {drawn.shape}, diffusers of {expected.shape}")
    if not np.isfinite(expected).all():
        if any(len(np.unique(picture)) > 1 for picture in drawn):  # an audit counts a constant picture as no image
            raise FindingError("draws pictures where diffusers draws none")
        return
    far = np.abs(drawn - expected).max()
    if far > _ROUNDING:
        raise FindingError(f"draws other pictures than diffusers, by up to {far:.1f} grey levels")


def quiet_libraries() -> None:
    """Suppress the loaders' messages about each of a thousand models."""
    import diffusers
    import transformers

    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity(logging.CRITICAL)
        library.utils.logging.disable_progress_bar()


def main() -> int:
    """Run the cases and print the results."""
    quiet_libraries()
    torch.set_num_threads(1)
    try:
        return run_cases(draw_model, __doc__, "models", 500)
    finally:
        shutil.rmtree(_models()[0].parents[1])


if __name__ == "__main__":
    sys.exit(main())
