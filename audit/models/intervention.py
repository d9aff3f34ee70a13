"""What an intervention does to one batch while it is sampled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor, nn

# B images, C H W the map at a hookpoint, c h w the latents

Edit = Callable[[int, Tensor], Tensor]
"""``(step, h) -> h'``: the conditional half (B, C, H, W) of a hookpoint's output, edited."""

NoiseEdit = Callable[[int, Tensor], Tensor]
"""``(step, prediction) -> prediction'``: what the network predicts after guidance (B, c, h, w), changed."""

BorrowedWeights = Callable[[nn.Module], AbstractContextManager[None]]
"""Changes weights of the denoiser inside a block, and restores them bit for bit whatever happens in it."""

Observer = Callable[[int, Tensor], None]
"""``(step, h)``: looks at the conditional half (B, C, H, W) and leaves it alone."""

ReverseStep = Literal["symmetric", "asymmetric"]


@dataclass(frozen=True)
class Intervention:
    """What happens to one batch; with nothing but ``assigned`` and ``window`` it leaves images as they are.

    Everything acts at the steps of ``window`` only, on the conditional half where there are two.

    Attributes:
        assigned: The group that each image is steered to, None where it is left alone.
        window: Steps at which the intervention acts, ``range(0, steps)`` for all.
        reverse_step: ``symmetric`` lets the changed prediction drive the whole DDIM step; ``asymmetric`` (Kwon et al.
            2023, eq. 6) only the predicted image, the direction term keeps the unchanged one.
        texts: Prompt text of each image in place of its own, None for its own.
        block_texts: Block of the denoiser → text of each image that this block reads in place of the prompt.
        edits: Hookpoint → edit of its map; several act at once.
        noise: Change of the prediction.
        weights: Weights that the denoiser has meanwhile.
    """

    assigned: tuple[str | None, ...]
    window: range
    reverse_step: ReverseStep = "symmetric"
    texts: tuple[str, ...] | None = None
    block_texts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    edits: Mapping[str, Edit] = field(default_factory=dict)
    noise: NoiseEdit | None = None
    weights: BorrowedWeights | None = None
