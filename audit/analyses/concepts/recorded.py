"""Records what blocks add at some steps, in both guidance halves, with the parts of the picture and of its forecasts.

A part has, for n images, S recorded steps, the maps (C, H, W) of a block, and masks of M × M pixels:
``conditional/<b>`` and ``unconditional/<b>`` (n, S, C, H, W) float16 by the number of the block, ``parts`` (n, M, M)
labels of the finished picture, ``forecast`` (n, S, M, M) labels of the image that each step predicts, ``pictures``
(n, 3, M, M), and ``steps`` (S,). Everything comes from one run of the sampler.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from audit.analyses.analysis import Instruments, Part, batches
from audit.config.optional.segmenters import SegmenterConfig
from audit.config.sections import ModelConfig
from audit.models.files.untrusted_model import UnfitModelError
from audit.records.work import Prompt, derive_seed

if TYPE_CHECKING:
    from torch import Tensor

    from audit.models.denoising import Observers
    from audit.perception.segmenters.interface import Segmenter

CONDITIONAL, UNCONDITIONAL = "conditional", "unconditional"
PARTS, FORECAST, PICTURES, STEPS = "parts", "forecast", "pictures", "steps"

MASK_SIDE = 64
"""M: largest side of a mask in pixels, unless a map has more places."""

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class RecordingRequest:
    """What is recorded.

    Attributes:
        model: The model, which may have a segmenter of its own.
        segmenter: Names what labels the pixels.
        segmenter_name: Its source and weights.
        blocks: Blocks whose updates are recorded.
        halves: ``conditional``, and ``unconditional`` if there is guidance in one batch.
        steps: How many steps are recorded.
        prompts: The prompts.
        images: Images of each prompt.
        batch: Most images in a batch.
        seed: Seed of the audit.
    """

    model: ModelConfig
    segmenter: SegmenterConfig
    segmenter_name: str
    blocks: tuple[str, ...]
    halves: tuple[str, ...]
    steps: int
    prompts: tuple[Prompt, ...]
    images: int
    batch: int
    seed: int

    def as_data(self) -> dict[str, Any]:
        """Return what determines all parts, as plain data; each task names its prompt itself."""
        return {
            "segmenter": self.segmenter.model_dump(mode="json"),
            "segmenter_name": self.segmenter_name,
            "blocks": list(self.blocks),
            "halves": list(self.halves),
            "steps": self.steps,
            "images": self.images,
            "batch": self.batch,
            "prompts": [[prompt.id, prompt.text] for prompt in self.prompts],  # dictionaries are trained in this order
            **({"seed": self.seed} if self.seed else {}),  # seed 0 keeps the names of older recordings
        }


@dataclass(frozen=True)
class RecordingTask:
    """One batch of images.

    Attributes:
        prompt: Their prompt.
        first: Index of the first image among those of the prompt.
        count: How many.
    """

    prompt: Prompt
    first: int
    count: int

    @property
    def id(self) -> str:
        """Name of the task."""
        return f"{self.prompt.id}.{self.first}"

    def seeds(self, audit_seed: int) -> list[int]:
        """Return the seeds of the images."""
        indices = range(self.first, self.first + self.count)
        return [seed_of(audit_seed, "concepts", self.prompt.id, index) for index in indices]


def seed_of(audit_seed: int, *parts: int | str) -> int:
    """Return the seed of something that is drawn. The audit's seed 0 gives what older studies drew."""
    return derive_seed(*([audit_seed] if audit_seed else []), *parts)


class ConceptRecording:
    """The analysis, see :class:`audit.analyses.analysis.SamplingAnalysis`."""

    name = "concept-recording"
    section = "concepts"

    def tasks(self, request: RecordingRequest) -> tuple[RecordingTask, ...]:
        """Return one task for each batch, prompt by prompt."""
        return tuple(RecordingTask(*batch) for batch in batches(request.prompts, request.images, request.batch))

    def part(self, instruments: Instruments, request: RecordingRequest, task: RecordingTask) -> Arrays:
        """Sample the images of a task, and record what is asked for."""
        from audit.models.generator import WatchedInside

        generator, segmenter = instruments.generator, loaded_segmenter(request.segmenter, request.model)
        steps = recorded_steps(request.steps, generator.steps)
        recorder = _Recorder(request.blocks, steps)
        both = UNCONDITIONAL in request.halves
        inside = WatchedInside(
            conditional=recorder.observers(CONDITIONAL),
            unconditional=recorder.observers(UNCONDITIONAL) if both else {},
            predicted=recorder.predicted,
        )
        images = generator.watch([task.prompt.text] * task.count, task.seeds(request.seed), inside)
        forecasts = [segmenter.labels(generator.decode(latents)) for latents in recorder.latents]
        maps = recorder.maps()
        sides = mask_sides([(of.shape[-2], of.shape[-1]) for of in maps.values()], (images.shape[-2], images.shape[-1]))
        return {
            **maps,
            PARTS: _small(segmenter.labels(images), sides),
            FORECAST: np.stack([_small(labels, sides) for labels in forecasts], 1),
            PICTURES: _small(images, sides),
            STEPS: np.array(steps),
        }

    def combine(self, request: RecordingRequest, parts: Iterable[Part | None]) -> None:
        """Return nothing: the parts are read from their files, because memory may not hold them."""


def recorded_steps(count: int, steps: int) -> tuple[int, ...]:
    """Return ``count`` steps, evenly from the first to the last of ``steps``; fewer if there are fewer."""
    return tuple(dict.fromkeys(int(step) for step in np.linspace(0, steps - 1, count).round()))


def mask_sides(maps: Iterable[tuple[int, int]], picture: tuple[int, int]) -> tuple[int, int]:
    """Return the sides of masks: multiples of the sides of all maps, so that each place covers whole pixels.

    Args:
        maps: (H, W) of each block.
        picture: Sides of a picture.

    Raises:
        UnfitModelError: They have no common multiple within a picture.
    """
    sizes = sorted(set(maps))
    common = [math.lcm(*sides) for sides in zip(*sizes, strict=True)]
    if common[0] > picture[0] or common[1] > picture[1]:
        raise UnfitModelError(
            f"concepts.blocks: expected maps whose sides have a common multiple within {picture[0]} × {picture[1]} "
            f"pixels, found {', '.join(f'{height} × {width}' for height, width in sizes)}; name blocks with maps of "
            "one size"
        )
    rows, columns = (max(1, min(side, MASK_SIDE) // least) * least for side, least in zip(picture, common, strict=True))
    return rows, columns


class _Recorder:
    """Keeps updates and predicted images of some steps."""

    def __init__(self, blocks: tuple[str, ...], steps: tuple[int, ...]) -> None:
        self._blocks, self._steps = blocks, frozenset(steps)
        self._found: dict[str, list[NDArray[np.float16]]] = {}
        self.latents: list[Tensor] = []

    def observers(self, half: str) -> Observers:
        """Return what records the updates of one half."""

        def keeping(name: str) -> Any:  # noqa: ANN401 - an observer
            def keep(step: int, h: Tensor) -> None:
                if step in self._steps:
                    self._found.setdefault(name, []).append(h.half().cpu().numpy())

            return keep

        return {f"update:{block}": keeping(f"{half}/{number}") for number, block in enumerate(self._blocks)}

    def predicted(self, step: int, latents: Tensor) -> None:
        """Keep the latents of the predicted image."""
        if step in self._steps:
            self.latents.append(latents.clone())

    def maps(self) -> Arrays:
        """Return the updates (n, S, C, H, W) by half and block."""
        return {name: np.stack(maps, 1) for name, maps in self._found.items()}


def loaded_segmenter(segmenter: SegmenterConfig, model: ModelConfig) -> Segmenter:
    """Load a segmenter, once for all tasks of a worker."""
    return _loaded(segmenter.model_dump_json(), model.model_dump_json())


@lru_cache(maxsize=1)
def _loaded(segmenter: str, model: str) -> Segmenter:
    """Load a segmenter, given both sections of the config as JSON."""
    from audit.perception.segmenters.registry import load_segmenter

    return load_segmenter(SegmenterConfig.model_validate_json(segmenter), ModelConfig.model_validate_json(model))


def _small(images: Tensor, sides: tuple[int, int]) -> NDArray[np.uint8]:
    """Return labels (n, H, W) or pictures (n, 3, H, W) with other sides, by the nearest pixel."""
    rows, columns = ((np.arange(n) + 0.5) * side / n for n, side in zip(sides, images.shape[-2:], strict=True))
    small: NDArray[np.uint8] = images.numpy()[..., rows.astype(int)[:, None], columns.astype(int)[None]]
    return np.ascontiguousarray(small)
