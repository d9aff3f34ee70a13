"""What an intervention does to one batch while it is denoised."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

# B images, C H W the map at the hookpoint

Edit = Callable[[int, Tensor], Tensor]
"""``(step, h) -> h'``: the conditional half (B, C, H, W) of the hookpoint's output, edited."""

Observer = Callable[[int, Tensor], None]
"""``(step, h)``: looks at the conditional half (B, C, H, W) and leaves it alone."""

ReverseStep = Literal["symmetric", "asymmetric"]


@dataclass(frozen=True)
class Arm:
    """An intervention on one batch.

    Attributes:
        edit: Applied to the conditional half at every step of ``window``.
        window: Steps at which the edit acts, ``range(0, steps)`` for all.
        reverse_step: ``symmetric`` lets the edited prediction drive the whole DDIM step; ``asymmetric`` (Kwon et al.
            2023, eq. 6) only the predicted image, the direction term keeps the unedited one.
        assigned: The group that each image is steered to, None where it is left alone.
    """

    edit: Edit
    window: range
    reverse_step: ReverseStep
    assigned: tuple[str | None, ...]
