"""Cross-attention with one more value for each group: the equations of entanglement-free attention (Park et al. 2025).

For an image of group a, z the input of the attention at all positions, q one head's query at a position:

    EFA(z) = softmax([q Kᵀ / √d, A_a(z)]) [V; v_a],    v_a = W_v e_a,

with e_a the embedding of the group's text and A three convolutions of z as a map, with SiLU between them and a channel
for each group. Since softmax([l, a]) splits at its last entry,

    EFA(z) = o + w (v_a − o),    o = softmax(l) V,    w = sigmoid(a − log Σ exp l),

and o is what the model's own attention makes. Only w and v_a are computed here, for any kernel of the attention.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

# B images, G groups, T positions on a map H W, L text tokens, C width of z, I width of all heads, d of one head

LAYOUT, VALUES, PREDICTOR = "layout", "values", "predictor"
_KERNEL = 3

MapEdit = Callable[[Tensor], Tensor]


class AttentionPredictor(nn.Module):
    """A: what each group adds to the logits of the attention, by position.

    The last convolution begins at 0. A logit of 0 is one among those of L tokens, so that the training begins near the
    model as it is.

    Args:
        channels: C.
        width: Channels between the convolutions.
        groups: G.
        seed: Seed of the initial weights.
    """

    def __init__(self, channels: int, width: int, groups: int, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.into = nn.Conv2d(channels, width, _KERNEL, padding="same")
            self.between = nn.Conv2d(width, width, _KERNEL, padding="same")
            self.out = nn.Conv2d(width, groups, _KERNEL, padding="same")
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, z: Tensor) -> Tensor:
        """Return logits ``(B, G, H, W)`` of maps ``(B, C, H, W)``."""
        hidden = functional.silu(self.between(functional.silu(self.into(z))))
        logits: Tensor = self.out(hidden)
        return logits


@dataclass(frozen=True)
class Layer:
    """One extended cross-attention.

    Attributes:
        heads: Of the attention.
        size: (H, W).
        values: v, ``(G, I)``.
        predictor: A.
    """

    heads: int
    size: tuple[int, int]
    values: Tensor
    predictor: AttentionPredictor

    def tensors(self, path: str) -> dict[str, Tensor]:
        """Return everything as tensors, named by the address of the attention."""
        weights = {f"{PREDICTOR}/{path}/{name}": weight for name, weight in self.predictor.named_parameters()}
        return {f"{LAYOUT}/{path}": torch.tensor([self.heads, *self.size]), f"{VALUES}/{path}": self.values, **weights}

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], path: str) -> Layer:
        """Make a layer of its tensors, without gradients."""
        prefix = f"{PREDICTOR}/{path}/"
        weights = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        (width, channels), groups = weights["into.weight"].shape[:2], len(weights["out.bias"])
        predictor = AttentionPredictor(channels, width, groups, seed=0).to(weights["out.bias"].device)
        predictor.load_state_dict(weights)
        heads, height, breadth = tensors[f"{LAYOUT}/{path}"].tolist()
        return cls(heads, (height, breadth), tensors[f"{VALUES}/{path}"], predictor.requires_grad_(False))


def layers_of(tensors: Mapping[str, Tensor]) -> dict[str, Layer]:
    """Return the layers of a fit by the address of their attention."""
    paths = [name.partition("/")[2] for name in tensors if name.startswith(f"{LAYOUT}/")]
    return {path: Layer.of(tensors, path) for path in sorted(paths)}


def attention_to_group(query: Tensor, key: Tensor, logits: Tensor, heads: int, mask: Tensor) -> Tensor:
    """Return w ``(B, heads, T)``, the attention to the group beside that to the text.

    Args:
        query: ``(B, T, I)``.
        key: ``(B, L, I)``.
        logits: a, ``(B, T)``, the same for all heads.
        heads: Of the attention.
        mask: Added to the scores of the tokens, ``(B, 1, L)``.
    """
    by_head = [tokens.float().reshape(*tokens.shape[:2], heads, -1).transpose(1, 2) for tokens in (query, key)]
    scores = by_head[0] @ by_head[1].transpose(2, 3) / math.sqrt(by_head[0].shape[3])
    return torch.sigmoid(logits[:, None] - (scores + mask.float()[:, None]).logsumexp(3))


class GroupAttention:
    """Extends one cross-attention for the images of a batch, by edits of what its modules read and return.

    The edits are to be called in the order in which the attention calls its modules, as hooks do.

    Args:
        path: Address of the attention.
        layer: What it is extended with.
        codes: Group of each image.
        strength: s of o + s w (v_a − o).
    """

    def __init__(self, path: str, layer: Layer, codes: Sequence[int], strength: float = 1.0) -> None:
        self._path, self._layer, self._strength = path, layer, strength
        self._codes = torch.tensor(codes)
        self._read: dict[str, Tensor] = {}
        self.attention = torch.empty(0)
        """w ``(B, heads, T)`` of the last call."""

    @property
    def edits(self) -> dict[str, MapEdit]:
        """Place → edit of its map; only the last one changes something."""
        reads = {
            "z": f"input:{self._path}",
            "query": f"{self._path}.to_q",
            "key": f"{self._path}.to_k",
            "mask": f"text-mask:{self._path}",
        }
        edits: dict[str, MapEdit] = {place: self._reader(name) for name, place in reads.items()}
        return edits | {f"input:{self._path}.to_out.0": self._extended}

    def _reader(self, name: str) -> MapEdit:
        def read(h: Tensor) -> Tensor:
            self._read[name] = h.flatten(2).transpose(1, 2)  # tokens (B, T, C) are given as maps (B, C, T, 1)
            return h

        return read

    def _extended(self, h: Tensor) -> Tensor:
        """Return o + s w (v_a − o) of o ``(B, I, T, 1)``."""
        z, query, key, mask = (self._read.pop(name) for name in ("z", "query", "key", "mask"))
        layer, codes = self._layer, self._codes.to(h.device)
        maps = z.float().transpose(1, 2).reshape(len(z), z.shape[2], *layer.size)
        logits = layer.predictor(maps)[torch.arange(len(codes)), codes].flatten(1)
        self.attention = attention_to_group(query, key, logits, layer.heads, mask)
        width = h.shape[1] // layer.heads
        weights = self.attention.repeat_interleave(width, 1)  # (B, I, T)
        own = h.flatten(2).float()
        change = self._strength * weights * (layer.values[codes].float()[:, :, None] - own)
        return h + change.reshape(h.shape).to(h.dtype)
