"""Interface of a method of intervention, and what a method receives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from audit.config.mitigations.section import SEARCH, SearchableSection
from audit.dissect.lens import Lens
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
        strengths: Strength of each image's edit where one was searched or predicted for its prompt and group; 0 is
            neutral. None leaves the strength of the method's section.
    """

    prompt: Prompt
    assigned: tuple[str, ...]
    steps: int
    template: str
    strengths: tuple[float, ...] | None = None


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


class Method(Protocol):
    """A method of intervention; the registry is ``audit.mitigate.registry``.

    The section of the config (:mod:`audit.config.mitigations`) states what is known without a network: whether the
    method needs a lens, what is fitted, how many denoiser calls it takes.
    """

    @property
    def fit(self) -> Fit | None:
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
