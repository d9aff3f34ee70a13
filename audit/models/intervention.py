"""What an intervention does to one batch while it is sampled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from torch import Tensor, nn

# B images, C H W the map at a hookpoint, c h w the latents, K concepts, L text tokens, D text width

Edit = Callable[[int, Tensor], Tensor]
"""``(step, h) -> h'``: the conditional half (B, C, H, W) of a hookpoint's output, edited."""

NoiseEdit = Callable[[int, Tensor], Tensor]
"""``(step, prediction) -> prediction'``: what the network predicts after guidance (B, c, h, w), changed."""

EmbeddingEdit = Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]
"""Embeddings of the prompts by the argument of the pipeline, each (B, L, D) or pooled (B, D) → the same, edited."""

BorrowedWeights = Callable[[nn.Module], AbstractContextManager[None]]
"""Changes weights of the denoiser inside a ``with`` block, and restores them bit for bit, also after an exception."""

BorrowedEncoders = Callable[[Any], AbstractContextManager[None]]
"""Changes weights of a pipeline's text encoders inside a ``with`` block, and restores them bit for bit."""

Observer = Callable[[int, Tensor], None]
"""``(step, h)``: reads the conditional half (B, C, H, W) without changing it."""

ReverseStep = Literal["symmetric", "asymmetric"]


@dataclass(frozen=True)
class Predictions:
    """What the denoiser predicts at one step, all at the same latents.

    Attributes:
        guided: After guidance, (B, c, h, w).
        unconditional: Without text, (B, c, h, w).
        concepts: For each of the further texts, (K, B, c, h, w).
    """

    guided: Tensor
    unconditional: Tensor
    concepts: Tensor


@dataclass(frozen=True)
class NoiseGuidance:
    """Changes the prediction with what the denoiser predicts for further texts.

    Two texts share one more call of the denoiser, of the size of the call with guidance.

    Attributes:
        texts: The K further texts, the same for every image.
        guide: ``(step, predictions) -> prediction'``, called at every step in order.
    """

    texts: tuple[str, ...]
    guide: Callable[[int, Predictions], Tensor]


@dataclass(frozen=True)
class Intervention:
    """What happens to one batch; with only ``assigned`` and ``window`` set, images stay bit-identical.

    It acts only at the steps of ``window`` (its texts and embeddings at all steps), and with guidance only on the
    conditional half.

    Attributes:
        assigned: The group that each image is steered to, None for an image that is not steered.
        window: Steps at which the intervention acts, ``range(0, steps)`` for all.
        reverse_step: ``symmetric`` lets the changed prediction drive the whole step; ``asymmetric`` (Kwon et al. 2023,
            eq. 6) only the predicted image of a DDIM step, the direction term keeps the unchanged one.
        texts: Prompt texts that replace those of the images, at all steps; None keeps them.
        embeddings: Change of the embeddings of the texts, at all steps.
        block_texts: Block of the denoiser → text of each image that this block reads in place of the prompt.
        text_strengths: How far each image's embeddings go from those of its own text (0) to those of ``texts`` and
            ``block_texts`` (1); both ends are exact, bit for bit. None is 1 for all.
        edits: Hookpoint → edit of its map; several act at once.
        noise: Change of the prediction.
        guidance: Change of the prediction with those for further texts; it needs guidance in one batch.
        weights: Temporary weights of the denoiser.
        encoders: Temporary weights of the text encoders while the prompts are embedded, at all steps.
        beside: Further interventions of the same batch, each in its own window and with its own texts. At one hookpoint
            edits act one after the other, first this one's. At most one of all has texts, embeddings or a guidance.
    """

    assigned: tuple[str | None, ...]
    window: range
    reverse_step: ReverseStep = "symmetric"
    texts: tuple[str, ...] | None = None
    embeddings: EmbeddingEdit | None = None
    block_texts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    text_strengths: tuple[float, ...] | None = None
    edits: Mapping[str, Edit] = field(default_factory=dict)
    noise: NoiseEdit | None = None
    guidance: NoiseGuidance | None = None
    weights: BorrowedWeights | None = None
    encoders: BorrowedEncoders | None = None
    beside: tuple[Intervention, ...] = ()

    @property
    def parts(self) -> tuple[Intervention, ...]:
        """This intervention and those beside it, in the order in which they act."""
        return (self, *self.beside)

    @property
    def changes_texts_alone(self) -> bool:
        """Whether nothing inside the network is read or changed, and no embedding lies between two texts."""
        inside = (self.embeddings, self.block_texts, self.edits, self.noise, self.guidance, self.weights, self.encoders)
        exact = all(strength in (0, 1) for strength in self.text_strengths or ())
        return not any(inside) and exact and all(one.changes_texts_alone for one in self.beside)


def together(interventions: Sequence[Intervention]) -> Intervention:
    """Return interventions of one batch as one; the first keeps its assigned groups.

    Raises:
        ValueError: There is none, several change what only one can change, or the reverse steps differ.
    """
    if not interventions:
        raise ValueError("expected at least one intervention, found none")
    for what in ("texts", "embeddings", "guidance", "weights", "encoders"):
        if sum(getattr(one, what) is not None for one in interventions) > 1:
            raise ValueError(f"expected {what} in one intervention only, found several; remove all but one")
    blocks = [block for one in interventions for block in one.block_texts]
    if len(set(blocks)) < len(blocks):
        raise ValueError(f"expected one text for each block, found several in {sorted(blocks)}; remove all but one")
    if len({one.reverse_step for one in interventions if one.edits}) > 1:
        raise ValueError("expected one reverse step in all interventions, found both; write the same in all")
    first, *others = interventions
    return replace(first, beside=(*first.beside, *others))
