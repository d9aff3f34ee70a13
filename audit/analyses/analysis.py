"""Interface of an analysis: tasks from a request, one part for each task, and a result combined from all parts.

Parts come about in one of two ways. An *observing* analysis watches the baseline images of a shard while they are
sampled; its tasks are the shards, and no image is sampled for it. A *sampling* analysis has tasks of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

    from audit.dissect.lens import Lens
    from audit.models.generator import DiffusionGenerator, Generator
    from audit.perception.judges.interface import Judge

Part = Mapping[str, NDArray[Any]]
"""Arrays by name: sums and counts over the images of one task."""


class Task(Protocol):
    """One task of an analysis."""

    @property
    def id(self) -> str:
        """Name of the task, and of the file of its part."""
        ...


RequestT_contra = TypeVar("RequestT_contra", contravariant=True)
PromptT = TypeVar("PromptT")
FoundT_co = TypeVar("FoundT_co", covariant=True)


class Analysis(Protocol[RequestT_contra, FoundT_co]):
    """What both kinds of analyses have."""

    @property
    def name(self) -> str:
        """Key in the registry, and part of the names of stored parts; letters, digits, ``-`` and ``_``."""
        ...

    @property
    def section(self) -> str:
        """Name of the section that shows the result: an anchor of the report, or a command."""
        ...

    def tasks(self, request: RequestT_contra) -> tuple[Task, ...]:
        """Return the tasks of a request; the same request always has the same tasks."""
        ...

    def combine(self, request: RequestT_contra, parts: Iterable[Part | None]) -> FoundT_co:
        """Combine parts to a frozen result.

        Args:
            request: The request.
            parts: One for each task, in the order of the tasks; None for a task that has no part.
        """
        ...


def present(tasks: Iterable[Task], parts: Iterable[Part | None]) -> Iterator[Part]:
    """Yield the parts of an analysis whose result needs the part of every task.

    Raises:
        ValueError: A task has no part.
    """
    for task, part in zip(tasks, parts, strict=True):
        if part is None:
            raise ValueError(f"expected a part for task {task.id}, found no file of it; run the command again")
        yield part


def batches(prompts: Iterable[PromptT], images: int, batch: int) -> Iterator[tuple[PromptT, int, int]]:
    """Yield prompt, first image and number of images of each batch; images of different prompts are never in one.

    Args:
        prompts: The prompts, or their texts.
        images: Images of each prompt.
        batch: Most images in a batch.
    """
    for prompt in prompts:
        for first in range(0, images, batch):
            yield prompt, first, min(batch, images - first)


class PartObserver(Protocol):
    """Watches one batch while it is sampled."""

    @property
    def hookpoint(self) -> str:
        """Module whose output is watched."""
        ...

    def __call__(self, step: int, h: Tensor) -> None:
        """Read the maps ``(B, C, H, W)`` of the conditional half at one step."""
        ...

    def part(self) -> dict[str, NDArray[Any]]:
        """Return the part; the parts of two batches of one shard are added."""
        ...


Observe = Callable[[int], PartObserver]
"""Makes the observer of a batch, given the number of its images; any further rows of the batch are padding."""


class ObservingAnalysis(Analysis[RequestT_contra, FoundT_co], Protocol[RequestT_contra, FoundT_co]):
    """Watches the baseline images of every shard."""

    def ready(self, lens: Lens | None) -> Observe | None:
        """Prepare a worker once; None if there is nothing to observe, for example without a lens."""
        ...


@dataclass(frozen=True)
class PictureInstruments:
    """What an analysis of finished pictures uses on a worker.

    Attributes:
        generator: The model, which may be a black box.
        judge: Judge of the attributes.
    """

    generator: Generator
    judge: Judge


@dataclass(frozen=True)
class Instruments(PictureInstruments):
    """What an analysis that looks inside uses on a worker.

    Attributes:
        generator: The model, whose inside is reached.
    """

    generator: DiffusionGenerator


class SamplingAnalysis(Analysis[RequestT_contra, FoundT_co], Protocol[RequestT_contra, FoundT_co]):
    """Samples images of its own."""

    def part(self, instruments: Instruments, request: RequestT_contra, task: Any) -> dict[str, NDArray[Any]]:  # noqa: ANN401 - a task of its own
        """Compute the part of a task on a worker."""
        ...


class PictureAnalysis(Analysis[RequestT_contra, FoundT_co], Protocol[RequestT_contra, FoundT_co]):
    """Samples images of its own and looks at finished pictures alone, so that any model will do."""

    def part(self, instruments: PictureInstruments, request: RequestT_contra, task: Any) -> dict[str, NDArray[Any]]:  # noqa: ANN401 - a task of its own
        """Compute the part of a task on a worker."""
        ...
