"""Scores drawn faces, whose labels are known, on the axes of the calibration model, by hookpoint and noise level.

    python -m benchmarks.picture_directions
    python -m benchmarks.picture_directions --hookpoints up_blocks.0 --steps 12 16 --pictures 128

For each attribute it prints the area under the curve of the faces of the last group against those of the first, with a
bootstrap interval over faces, and Spearman's correlation of the score with the place of the group. "images" are axes
between the model's own images of both ends, as ``explore.pictures`` has them; "texts" are axes between the maps of both
texts. The last column is the share of faces whose nearest prompt is the drawn occupation; chance is 1 in 16. Faces have
uniform and independent labels.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import stats

from audit.analyses.analysis import Instruments
from audit.analyses.directions import Directions, DirectionsAnalysis
from audit.analyses.given.picture_maps import PictureMaps, PictureMapsAnalysis, PictureMapsRequest
from audit.calibration.bundle import world_table
from audit.calibration.labels import OCCUPATIONS, Labels
from audit.calibration.renderer import render
from audit.calibration.world import World, face_noise, uniform_labels
from audit.config.optional.exploration import ExploreConfig, PicturesConfig
from audit.config.settings import AuditConfig
from audit.config.slices import DissectionRequest
from audit.models.generator import DiffusionGenerator, load_generator
from audit.planning.plan import prompts_of_model
from audit.records.work import derive_seed
from audit.results.exploration.pictures import read_pictures_of
from ray_jobs.run.inside.explore import ExploreRequest

HOOKPOINTS, STEPS = ("mid_block", "up_blocks.0"), (1, 5, 12, 20)
RESAMPLES = 1000

Floats = NDArray[np.floating[Any]]


class Known(DiffusionGenerator):
    """The model, which samples its own images and encodes pictures once for all hookpoints and steps."""

    def __init__(self, of: DiffusionGenerator) -> None:
        self.__dict__.update(of.__dict__)
        self._known: dict[tuple[str, tuple[int, ...]], Any] = {}

    def sample(self, texts: Sequence[str], seeds: Sequence[int], *rest: Any) -> Any:
        """Sample, or return what was sampled before."""
        key = (texts[0], tuple(seeds))
        if key not in self._known:
            self._known[key] = super().sample(texts, seeds, *rest)
        return self._known[key]


@dataclass(frozen=True)
class Read:
    """What one hookpoint and step give."""

    maps: PictureMaps
    directions: Directions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument("--images", type=int, default=16, help="of the model itself, of each text")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--hookpoints", nargs="+", default=HOOKPOINTS)
    parser.add_argument("--steps", nargs="+", type=int, default=STEPS)
    given = parser.parse_args()
    config = AuditConfig(name="pictures")
    generator = load_generator(config.model, config.sampling)
    assert isinstance(generator, DiffusionGenerator)
    instruments = Instruments(Known(generator), None)  # type: ignore[arg-type] - judges nothing
    with tempfile.TemporaryDirectory() as folder:
        labels = draw(Path(folder), World.load(world_table(config.model)), given.pictures)
        print(f"{given.pictures} drawn faces, {given.images} own images of each text, {given.seeds} seeds")
        print("area under the curve of the last group against the first [95 % interval] Spearman's correlation")
        for hookpoint in given.hookpoints:
            for step in given.steps:
                section = PicturesConfig(folder=folder, images=given.images, step=step)
                explore = ExploreConfig(hookpoint=hookpoint, seeds=given.seeds, pictures=section)
                prompts = prompts_of_model(config.model, config.prompts)
                request = ExploreRequest("pictures", explore, DissectionRequest.of(config), prompts, 0)
                started = time.perf_counter()
                _print(request, _read(instruments, request), labels)
                print(f"    {time.perf_counter() - started:.0f} s", flush=True)


def draw(folder: Path, world: World, count: int) -> Labels:
    """Draw faces with uniform labels into a folder, and return their labels in the order of the files."""
    noise = face_noise([derive_seed("given pictures", number) for number in range(count)])
    labels = uniform_labels(noise, world.occupations)
    for number, image in enumerate(render(labels, noise).images):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{number:05d}.png")
    return labels


def _read(instruments: Instruments, request: ExploreRequest) -> Read:
    maps: PictureMapsRequest = request.pictures.maps
    of_pictures, of_texts = PictureMapsAnalysis(), DirectionsAnalysis()
    texts = request.pictures.texts
    return Read(
        of_pictures.combine(maps, [of_pictures.part(instruments, maps, task) for task in of_pictures.tasks(maps)]),
        of_texts.combine(texts, [of_texts.part(instruments, texts, task) for task in of_texts.tasks(texts)]),
    )


def _print(request: ExploreRequest, read: Read, labels: Labels) -> None:
    by_texts = _text_scores(request, read)
    found = read_pictures_of(
        read.maps, read.directions, {"prompts": request.pictures.prompts, "descriptors": ()}, request.pictures.step
    )
    print(f"{request.hookpoint}, step {request.pictures.step}")
    for column, (axis, own) in enumerate(zip(read.maps.axes, found.axes, strict=True)):
        groups = getattr(labels, axis)
        values = np.array([one.value for one in found.scores if one.axis == axis])
        figures = f"images {_figures(values, groups)}  texts {_figures(by_texts[:, column], groups)}"
        print(f"    {axis:<10} {figures}", end="")
        covered = [one for one in found.scores if one.axis == axis and one.low is not None and one.high is not None]
        width = np.mean([one.high - one.low for one in covered])
        print(f"  own images {own.area:.2f} [{own.low:.2f}, {own.high:.2f}]  width of intervals {width:.2f}")
    truth = [OCCUPATIONS[row] for row in labels.occupation]
    nearest = [found.prompts[name][0].name for name in read.maps.names]
    right = sum(one == other for one, other in zip(nearest, truth, strict=True))
    low, high = stats.binomtest(right, len(truth)).proportion_ci(method="wilson")
    print(f"    nearest prompt right {right}/{len(truth)} = {right / len(truth):.2f} [{low:.2f}, {high:.2f}]")


def _text_scores(request: ExploreRequest, read: Read) -> Floats:
    """Return the scores (n, A) of pictures' directions on axes between the directions of texts."""
    vectors = read.directions.halves.astype(float).mean(0)
    pictures = read.maps.halves.astype(float).mean(0)
    columns = []
    for axis in request.axes:
        low, high = vectors[read.directions.rows([axis.low, axis.high])]
        u = high - low
        columns.append((2 * pictures - low - high) @ u / (u @ u))
    return np.stack(columns, 1)


def _figures(values: Floats, groups: NDArray[np.int64]) -> str:
    first, last = values[groups == 0], values[groups == groups.max()]
    random = np.random.default_rng(0)
    draws = [_area(random.choice(first, len(first)), random.choice(last, len(last))) for _ in range(RESAMPLES)]
    low, high = np.quantile(draws, (0.025, 0.975))
    rho = stats.spearmanr(values, groups).statistic
    return f"{_area(first, last):.2f} [{low:.2f}, {high:.2f}] {rho:.2f}"


def _area(first: Floats, last: Floats) -> float:
    return float((last[:, None] > first).mean() + (last[:, None] == first).mean() / 2)


if __name__ == "__main__":
    main()
