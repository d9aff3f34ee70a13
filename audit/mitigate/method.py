"""Interface of a method of intervention, and what a method receives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from audit.dissect.lens import Lens
from audit.mitigate.tools import TrainingTools
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
    """

    prompt: Prompt
    assigned: tuple[str, ...]
    steps: int
    template: str


Intervene = Callable[[Batch], Intervention]
"""Makes the intervention of a batch from what is loaded already."""


class Fit(Protocol):
    """How a method is fitted: a part for each prompt, on any worker, and one step that joins the parts."""

    def part(self, generator: DiffusionGenerator, request: FitRequest, prompt: Prompt) -> dict[str, Tensor]:
        """Return the sums of one prompt, in float64; the sums of several prompts are added."""
        ...

    def join(self, request: FitRequest, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the fit, made from the sums over all prompts."""
        ...


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

    def examples(self, tools: TrainingTools, request: FitRequest, prompt: Prompt) -> dict[str, Tensor]:
        """Return the examples of one prompt."""
        ...

    def train(self, tools: TrainingTools, request: FitRequest, examples: Examples, checkpoint: Checkpoint) -> Trained:
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
    def fit(self) -> Fit | TrainedFit | None:
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
