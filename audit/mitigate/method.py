"""What a method of intervening is: the interface, and what it is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from audit.config.settings import AuditConfig
from audit.dissect.lens import Lens
from audit.models.generator import DiffusionGenerator
from audit.models.intervention import Intervention
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
"""Makes the intervention of a batch; what it needs is loaded."""


class Fit(Protocol):
    """How a method is fitted: a part for each prompt, anywhere on the cluster, and one step that joins the parts."""

    def part(
        self,
        generator: DiffusionGenerator,
        config: AuditConfig,
        mitigation: Any,  # noqa: ANN401 - the method's own section
        prompt: Prompt,
    ) -> dict[str, Tensor]:
        """Return the sums of one prompt, in float64: sums of several prompts are added."""
        ...

    def join(self, mitigation: Any, sums: dict[str, Tensor], groups: Sequence[str]) -> dict[str, Tensor]:  # noqa: ANN401
        """Return what is kept of the sums of all prompts."""
        ...


class Method(Protocol):
    """A method of intervening; its registry is ``audit.mitigate.registry``.

    What costs no network to know (whether it needs a lens, what is fitted, how many denoiser calls it takes) is said by
    its section of the config (:mod:`audit.config.mitigations`).
    """

    @property
    def fit(self) -> Fit | None:
        """How it is fitted, None where there is nothing to fit."""
        ...

    def ready(self, mitigation: Any, lens: Lens | None, fitted: Path | None) -> Intervene:  # noqa: ANN401 - its own section
        """Load what the method needs on a worker.

        Args:
            mitigation: The method's section of the config.
            lens: Of the model, None where no method asks for one.
            fitted: Directory of the finished fit, None where there is nothing to fit.
        """
        ...
