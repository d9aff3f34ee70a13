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
"""Changes weights of the denoiser inside a ``with`` block, and restores them bit for bit, also after an exception."""

Observer = Callable[[int, Tensor], None]
"""``(step, h)``: reads the conditional half (B, C, H, W) without changing it."""

ReverseStep = Literal["symmetric", "asymmetric"]


@dataclass(frozen=True)
class Intervention:
    """What happens to one batch; with only ``assigned`` and ``window`` set, images stay bit-identical.

    It acts only at the steps of ``window`` (its texts at all steps), and with guidance only on the conditional half.

    Attributes:
        assigned: The group that each image is steered to, None for an image that is not steered.
        window: Steps at which the intervention acts, ``range(0, steps)`` for all.
        reverse_step: ``symmetric`` lets the changed prediction drive the whole step; ``asymmetric`` (Kwon et al. 2023,
            eq. 6) only the predicted image of a DDIM step, the direction term keeps the unchanged one.
        texts: Prompt texts that replace those of the images, at all steps; None keeps them.
        block_texts: Block of the denoiser → text of each image that this block reads in place of the prompt.
        text_strength: How far the embeddings go from those of the image's own text (0) to those of ``texts`` and
            ``block_texts`` (1); both ends are exact, bit for bit.
        edits: Hookpoint → edit of its map; several act at once.
        noise: Change of the prediction.
        weights: Temporary weights of the denoiser.
    """

    assigned: tuple[str | None, ...]
    window: range
    reverse_step: ReverseStep = "symmetric"
    texts: tuple[str, ...] | None = None
    block_texts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    text_strength: float = 1.0
    edits: Mapping[str, Edit] = field(default_factory=dict)
    noise: NoiseEdit | None = None
    weights: BorrowedWeights | None = None

    @property
    def changes_texts_alone(self) -> bool:
        """Whether nothing inside the network is read or changed, and no embedding lies between two texts."""
        inside = self.block_texts or self.edits or self.noise or self.weights
        return not inside and self.text_strength in (0, 1)
