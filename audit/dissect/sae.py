"""k-sparse autoencoder over a hookpoint's map.

Shapes: B images, C channels, H·W the grid, P positions (H·W, or 1 for a whole-map autoencoder), N latents, k active.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, cast, get_args

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from audit.dissect.settings import BATCH_TOP_K, CHANNELS, SHAPE_FILE, TOP_K, Dictionary, rows_per_block
from audit.storage.outside.json_object import read_json_object

WEIGHTS_FILE = "sae.safetensors"

MOST_OF_BATCH: Final = 4
"""A vector has at most this many times k active latents in a BatchTopK autoencoder, whose mean is k."""

THRESHOLD_MEMORY: Final = 0.99
"""Share of the former threshold that a training step keeps."""


@dataclass(frozen=True)
class SaeShape:
    """The shape of an autoencoder, which is stored with its weights and not in the config.

    Attributes:
        d_in: Width of one input vector: C, or C·H·W for a whole map.
        n_latents: Size of the dictionary.
        k: Largest number of active latents per vector; of ``batch_top_k`` their mean number.
        whole_map: One code for the whole map instead of one for each position.
        hookpoint: Path of the module on whose output it was trained.
        dictionary: How active latents are chosen and trained.
    """

    d_in: int
    n_latents: int
    k: int
    whole_map: bool = False
    hookpoint: str = "mid_block"
    dictionary: Dictionary = TOP_K

    def __post_init__(self) -> None:
        """Refuse impossible shapes."""
        if not 1 <= self.k <= self.n_latents or self.d_in < 1:
            raise ValueError(
                f"expected d_in >= 1 and 1 <= k <= n_latents, found d_in={self.d_in}, k={self.k}, "
                f"n_latents={self.n_latents}; lower k or raise the expansion"
            )
        if self.dictionary not in get_args(Dictionary):  # a file of a later release would be read as another kind
            raise ValueError(
                f"expected one of {', '.join(get_args(Dictionary))} as dictionary, found {self.dictionary!r}; use the "
                "release that made the lens"
            )
        if self.dictionary == CHANNELS and not self.k == self.n_latents == 2 * self.d_in:
            raise ValueError(f"expected k = n_latents = {2 * self.d_in} for channels, found {self.k}, {self.n_latents}")

    @property
    def width(self) -> int:
        """Latents that a code has room for."""
        return min(self.n_latents, MOST_OF_BATCH * self.k) if self.dictionary == BATCH_TOP_K else self.k


class SparseCodes(NamedTuple):
    """The largest latents, for any leading shape: ``values`` (..., k) >= 0 and ``indices`` (..., k) in [0, N).

    k is the ``width`` of the autoencoder's shape; a latent with the value 0 is not active.
    """

    values: Tensor
    indices: Tensor


class SparseAutoencoder(nn.Module):
    """z = TopK(ReLU(W_enc (s·x - b) + b_enc)), x̂ = (W_decᵀ z + b) / s.

    k-sparse autoencoder (Makhzani & Frey 2013) in the form of Gao et al. 2024, section 2.3: shared pre-bias b, encoder
    initialised with the decoder, unit-norm dictionary. ``input_scale`` s scales inputs to a mean norm of sqrt(d_in), so
    that one learning rate works for all hookpoints.

    A BatchTopK autoencoder (Bussmann et al. 2024, arXiv 2412.06410) keeps the n·k largest latents of a batch of n
    vectors in training. Afterwards a latent is active above ``threshold``, the mean of the smallest kept value, so that
    the code of a vector does not depend on its batch.
    """

    input_scale: Tensor
    threshold: Tensor

    def __init__(self, shape: SaeShape, generator: torch.Generator | None = None) -> None:
        """Initialise a random dictionary of ``shape``, and the encoder with the same weights."""
        super().__init__()
        self.shape = shape
        rows = torch.randn(shape.n_latents, shape.d_in, generator=generator)
        self.decoder = nn.Parameter(F.normalize(rows, dim=1))
        self.encoder = nn.Parameter(self.decoder.detach().clone())
        self.encoder_bias = nn.Parameter(torch.zeros(shape.n_latents))
        self.pre_bias = nn.Parameter(torch.zeros(shape.d_in))
        self.register_buffer("input_scale", torch.ones(()))
        if shape.dictionary == BATCH_TOP_K:
            self.register_buffer("threshold", torch.zeros(()))
        if shape.dictionary == CHANNELS:
            self._use_channels()

    @torch.no_grad()
    def _use_channels(self) -> None:
        """Make each channel two latents, its part above and its part below the mean: x̂ = x."""
        up = torch.eye(self.shape.d_in)
        for rows in (self.decoder, self.encoder):
            rows.copy_(torch.cat((up, -up)))

    @torch.no_grad()
    def fit_inputs(self, vectors: Tensor) -> None:
        """Set ``input_scale`` and ``pre_bias`` from a sample of inputs (n, d_in)."""
        self._check_width(vectors)
        blocks = torch.split(vectors, rows_per_block(8 * self.shape.d_in))
        mean_norm = torch.stack([block.float().norm(dim=1).sum() for block in blocks]).sum() / len(vectors)
        if vectors.shape[0] == 0 or not bool(mean_norm > 0):
            raise ValueError("expected inputs that are not all zero, found none; check the hookpoint and its stream")
        self.input_scale.copy_(math.sqrt(self.shape.d_in) / mean_norm)
        self.pre_bias.copy_(torch.stack([self.normalise(block).sum(0) for block in blocks]).sum(0) / len(vectors))

    def normalise(self, x: Tensor) -> Tensor:
        """Scale inputs (..., d_in) by ``input_scale``, in the weights' dtype."""
        return x.to(self.decoder.dtype) * self.input_scale

    def encode_sparse(self, x: Tensor) -> SparseCodes:
        """Encode vectors (..., d_in) of any float dtype to the largest latents of each, unsorted."""
        codes = self._largest(x)
        if self.shape.dictionary != BATCH_TOP_K:
            return codes
        return codes._replace(values=codes.values * (codes.values > self.threshold))

    def encode_in_training(self, x: Tensor) -> SparseCodes:
        """Encode a batch (n, d_in) as ``encode_sparse``; BatchTopK keeps n·k latents and adapts its threshold."""
        codes = self._largest(x)
        if self.shape.dictionary != BATCH_TOP_K:
            return codes
        with torch.no_grad():
            kept = codes.values.flatten().topk(min(len(x) * self.shape.k, codes.values.numel()), sorted=False).values
            smallest = kept.min()
            memory = THRESHOLD_MEMORY if bool(self.threshold > 0) else 0.0
            self.threshold.copy_(memory * self.threshold + (1 - memory) * smallest)
        return codes._replace(values=codes.values * (codes.values >= smallest))

    def _largest(self, x: Tensor) -> SparseCodes:
        self._check_width(x)
        # The linear layer has N outputs for each vector, of which k are kept.
        blocks = torch.split(x.reshape(-1, self.shape.d_in), rows_per_block(4 * self.shape.n_latents))
        codes = [self._top_k(block) for block in blocks]
        values, indices = codes[0] if len(codes) == 1 else map(torch.cat, zip(*codes, strict=True))
        form = (*x.shape[:-1], self.shape.width)
        return SparseCodes(F.relu(values).reshape(form), indices.reshape(form))

    def _top_k(self, x: Tensor) -> tuple[Tensor, Tensor]:
        values, indices = _TopKLinear.apply(
            self.normalise(x) - self.pre_bias, self.encoder, self.encoder_bias, self.shape.width
        )
        return values, indices

    def encode(self, x: Tensor) -> Tensor:
        """Encode vectors (..., d_in) to dense latents (..., N), at most ``width`` of them non-zero."""
        codes = self.encode_sparse(x)
        latents = codes.values.new_zeros(*x.shape[:-1], self.shape.n_latents)
        return latents.scatter(-1, codes.indices, codes.values)

    def decode(self, latents: Tensor) -> Tensor:
        """Decode dense latents (..., N) to vectors (..., d_in)."""
        return (latents.to(self.decoder.dtype) @ self.decoder + self.pre_bias) / self.input_scale

    def decode_sparse(self, codes: SparseCodes) -> Tensor:
        """Decode codes to vectors (..., d_in) from k dictionary rows; equal to ``decode`` up to rounding."""
        return (self.dictionary_sum(codes) + self.pre_bias) / self.input_scale

    def dictionary_sum(self, codes: SparseCodes) -> Tensor:
        """Return the weighted sum of dictionary rows for ``codes`` (..., k): (..., d_in), normalised, without bias."""
        width = codes.values.shape[-1]
        flat = F.embedding_bag(
            codes.indices.reshape(-1, width),
            self.decoder,
            per_sample_weights=codes.values.reshape(-1, width).to(self.decoder.dtype),
            mode="sum",
        )
        return flat.reshape(*codes.values.shape[:-1], self.shape.d_in)

    def vectors_of_map(self, maps: Tensor) -> Tensor:
        """Split maps (B, C, H, W) into input vectors (B, P, d_in)."""
        vectors = maps.flatten(1).unsqueeze(1) if self.shape.whole_map else maps.flatten(2).transpose(1, 2)
        self._check_width(vectors)
        return vectors

    def codes_of_map(self, maps: Tensor) -> SparseCodes:
        """Encode maps (B, C, H, W) to codes (B, P, k)."""
        return self.encode_sparse(self.vectors_of_map(maps))

    def latents_of_map(self, maps: Tensor) -> Tensor:
        """Encode maps (B, C, H, W) to dense latents (B, P, N)."""
        return self.encode(self.vectors_of_map(maps))

    def map_delta(self, delta: Tensor, shape: torch.Size | tuple[int, ...]) -> Tensor:
        """Return the change of the map (B, C, H, W) for a change of latents (B, P, N): linear and without bias.

        This is the residual write-back of DiffLens (Shi et al. 2025, Eq. 9): h + W_decᵀ (z' - z) preserves the
        reconstruction error.
        """
        vectors = (delta.to(self.decoder.dtype) @ self.decoder) / self.input_scale
        if self.shape.whole_map:
            return vectors.reshape(tuple(shape))
        return vectors.transpose(1, 2).reshape(tuple(shape))

    def save(self, directory: Path, dtype: torch.dtype = torch.float32) -> None:
        """Write ``sae.safetensors`` in ``dtype`` and ``sae.json`` into ``directory``."""
        directory.mkdir(parents=True, exist_ok=True)
        tensors = {name: tensor.detach().cpu().to(dtype).contiguous() for name, tensor in self.state_dict().items()}
        tensors |= {name: buffer.detach().cpu() for name, buffer in self.named_buffers()}  # 16 bits change every code
        save_file(tensors, directory / WEIGHTS_FILE)
        card = asdict(self.shape) | {"dtype": str(dtype).removeprefix("torch.")}
        if self.shape.dictionary == TOP_K:  # as older lenses, which name no dictionary
            card.pop("dictionary")
        (directory / SHAPE_FILE).write_text(json.dumps(card, indent=2) + "\n")

    @classmethod
    def load(cls, directory: Path) -> SparseAutoencoder:
        """Load an autoencoder in float32, independent of the stored dtype.

        Raises:
            FileNotFoundError: ``directory`` contains no autoencoder.
            ValueError: Weights and shape do not match.
        """
        card = read_json_object(directory / SHAPE_FILE, "the shape of an autoencoder")
        card.pop("dtype")
        sae = cls(SaeShape(**card))
        stored = {name: tensor.float() for name, tensor in load_file(directory / WEIGHTS_FILE).items()}
        expected = {name: tuple(tensor.shape) for name, tensor in sae.state_dict().items()}
        found = {name: tuple(tensor.shape) for name, tensor in stored.items()}
        if expected != found:
            raise ValueError(
                f"{directory}: {SHAPE_FILE} expects tensors {expected}, found {found} in {WEIGHTS_FILE}; "
                "the two files belong to different lenses, build the lens again"
            )
        sae.load_state_dict(stored)
        return sae

    def _check_width(self, x: Tensor) -> None:
        if x.shape[-1] != self.shape.d_in:
            raise ValueError(
                f"the autoencoder of {self.shape.hookpoint!r} expects vectors of width {self.shape.d_in}, "
                f"found {x.shape[-1]}; use the lens of this model, hookpoint and image size"
            )


class _TopKLinear(torch.autograd.Function):
    """k largest outputs of a linear layer, with a backward pass that uses only those k.

    Autograd would compute a full matrix product with a dense (rows, N) gradient, which takes most of a training step
    at N/k = 64.
    """

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's context object has no public type
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        k: int,
    ) -> tuple[Tensor, Tensor]:
        values, indices = F.linear(x, weight, bias).topk(k, dim=-1, sorted=False)
        ctx.save_for_backward(x, weight, indices)
        ctx.mark_non_differentiable(indices)
        return values, indices

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any,  # noqa: ANN401
        grad: Tensor,
        _grad_indices: Tensor,
    ) -> tuple[Tensor | None, Tensor, Tensor, None]:
        x, weight, indices = cast("tuple[Tensor, Tensor, Tensor]", ctx.saved_tensors)
        n_latents, flat = weight.shape[0], indices.flatten()
        # With entries grouped by latent, the weight gradient is a bag sum over input rows.
        order = flat.argsort(stable=True)
        counts = torch.bincount(flat, minlength=n_latents)
        by_latent = grad.flatten()[order]
        grad_weight = F.embedding_bag(
            order // indices.shape[1], x, offsets=counts.cumsum(0) - counts, per_sample_weights=by_latent, mode="sum"
        )
        grad_bias = torch.zeros(n_latents, dtype=grad.dtype, device=grad.device).index_add_(0, flat, grad.flatten())
        grad_x = F.embedding_bag(indices, weight, per_sample_weights=grad, mode="sum")
        return grad_x, grad_weight, grad_bias, None
