"""Interface of a method of intervention, and what a method receives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from audit.config.mitigations.section import SEARCH, SearchableSection
from audit.dissect.lens import Lens
from audit.mitigate.tools import FitTools
from audit.mitigate.training import Checkpoint
from audit.models.generator import DiffusionGenerator
from audit.models.intervention import Intervention
from audit.planning.fits import FitRequest
from audit.records.work import Prompt


@dataclass(frozen=True)
class Batch:
    """The images that an intervention is made for, all of one prompt.

    Attributes:
        prompt: The prompt.
        assigned: The group that each image is steered to.
        steps: Denoising steps.
        template: Of the audit's prompts.
        groups: All groups of the attribute.
        strengths: Strength of each image's edit where one was searched or predicted for its prompt and group; 0 is
            neutral. None leaves the strength of the method's section.
        kept: Phrases of each image that captions have besides the assigned group, by attribute; empty for none.
    """

    prompt: Prompt
    assigned: tuple[str, ...]
    steps: int
    template: str
    groups: tuple[str, ...] = ()
    strengths: tuple[float, ...] | None = None
    kept: tuple[Mapping[str, str], ...] = ()


Intervene = Callable[[Batch], Intervention]
"""Makes the intervention of a batch from what is loaded already."""


def strengths_in(mitigation: SearchableSection, batch: Batch) -> tuple[float, ...]:
    """Return the strength of each image of a batch: as it was searched for its prompt, or as the section says.

    Raises:
        ValueError: The section wants searched strengths, and the batch has none.
    """
    if batch.strengths is not None:
        return batch.strengths
    if mitigation.strength == SEARCH:
        raise ValueError(
            f"mitigation {mitigation.name!r}: expected strengths that were searched for {batch.prompt.id!r}, "
            "found none; run the audit again, or set the strength"
        )
    return (mitigation.strength,) * len(batch.assigned)


class Fit(Protocol):
    """How a method is fitted: a part for each prompt, on any worker, and one step that joins the parts."""

    def part(self, generator: DiffusionGenerator, request: FitRequest, prompt: Prompt) -> dict[str, Tensor]:
        """Return the sums of one prompt, in float64; the sums of several prompts are added."""
        ...

    def join(self, request: FitRequest, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the fit, made from the sums over all prompts."""
        ...


@runtime_checkable
class RoundsFit(Protocol):
    """How a method is fitted in a loop: the parts of a round use what the rounds before it found."""

    def rounds(self, request: FitRequest) -> int:
        """Return the largest number of rounds."""
        ...

    def part(
        self, tools: FitTools, request: FitRequest, prompt: Prompt, before: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return the sums of one prompt in a round; the sums of several prompts are added, key by key.

        Args:
            tools: Model, judge and lens.
            request: What is fitted.
            prompt: The prompt.
            before: What the last round found; empty in the first.
        """
        ...

    def join(self, request: FitRequest, sums: Mapping[str, Tensor], before: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return what a round found, made from the sums over all prompts and what the last round found."""
        ...

    def is_finished(self, request: FitRequest, found: Mapping[str, Tensor]) -> bool:
        """Return whether no further round is needed."""
        ...


class OneRound:
    """A fit without a loop, as a fit of one round."""

    def __init__(self, fit: Fit) -> None:
        self._fit = fit

    def rounds(self, request: FitRequest) -> int:
        """Return 1."""
        return 1

    def part(
        self, tools: FitTools, request: FitRequest, prompt: Prompt, before: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return the sums of one prompt."""
        return self._fit.part(tools.generator, request, prompt)

    def join(self, request: FitRequest, sums: Mapping[str, Tensor], before: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the fit."""
        return self._fit.join(request, dict(sums))

    def is_finished(self, request: FitRequest, found: Mapping[str, Tensor]) -> bool:
        """Return True."""
        return True


def in_rounds(fit: Fit | RoundsFit) -> RoundsFit:
    """Return any fit as one in rounds."""
    return fit if isinstance(fit, RoundsFit) else OneRound(fit)


Examples = Sequence[tuple[Prompt, Mapping[str, Tensor]]]
"""Each prompt with the tensors of its examples."""


@dataclass(frozen=True)
class Trained:
    """What a training found.

    Attributes:
        tensors: The fit.
        report: Figures of the training for its card, such as the first and the last loss.
    """

    tensors: dict[str, Tensor]
    report: Mapping[str, float] = field(default_factory=dict)


@runtime_checkable
class TrainedFit(Protocol):
    """How a method is trained: examples for each prompt, on any worker, and then one training on one worker."""

    def examples(self, tools: FitTools, request: FitRequest, prompt: Prompt) -> dict[str, Tensor]:
        """Return the examples of one prompt."""
        ...

    def train(self, tools: FitTools, request: FitRequest, examples: Examples, checkpoint: Checkpoint) -> Trained:
        """Train on the examples of all prompts.

        Args:
            tools: The model and the networks that measure.
            request: The method and what it is fitted with.
            examples: Of each prompt, in the order of the prompts.
            checkpoint: Where the state of an interrupted training is kept.
        """
        ...


class Method(Protocol):
    """A method of intervention; the registry is ``audit.mitigate.registry``.

    The section of the config (:mod:`audit.config.mitigations`) states what is known without a network: whether the
    method needs a lens, what is fitted, how many denoiser calls it takes.
    """

    @property
    def fit(self) -> Fit | RoundsFit | TrainedFit | None:
        """How the method is fitted, None if nothing is fitted."""
        ...

    def ready(self, mitigation: Any, lens: Lens | None, fitted: Path | None) -> Intervene:  # noqa: ANN401 - its own section
        """Load what the method needs on a worker.

        Args:
            mitigation: The method's section of the config.
            lens: Lens of the model, None if no method needs one.
            fitted: Directory of the finished fit, None if nothing is fitted.
        """
        ...
