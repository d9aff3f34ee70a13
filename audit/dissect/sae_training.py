"""Trains a sparse autoencoder on a stream of activations, which are never written to disk.

The stream yields complete trajectories, so that the held-out part and the training part have no image in common.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from audit.dissect.sae import SaeShape, SparseAutoencoder, SparseCodes


@dataclass(frozen=True)
class ActivationBatch:
    """Activation vectors with their sampler steps and images.

    Attributes:
        vectors: (n, d_in).
        steps: (n,) sampler step of each vector, counted from 0.
        trajectories: (n,) index of each vector's image, unique in the stream.
    """

    vectors: Tensor
    steps: Tensor
    trajectories: Tensor

    def __len__(self) -> int:
        """Return the number of vectors."""
        return int(self.vectors.shape[0])

    def __getitem__(self, rows: Tensor | slice) -> ActivationBatch:
        """Select rows by index, mask or slice."""
        return ActivationBatch(self.vectors[rows], self.steps[rows], self.trajectories[rows])

    def to(self, device: torch.device | str) -> ActivationBatch:
        """Copy to a device."""
        return ActivationBatch(self.vectors.to(device), self.steps.to(device), self.trajectories.to(device))


@dataclass(frozen=True)
class SaeTraining:
    """Settings of one training run.

    Attributes:
        steps: Optimiser steps.
        batch: Vectors per step.
        learning_rate: Peak, after a linear warm-up over the first 5 % and before a linear decay over the last 30 %.
        k: Largest number of active latents per vector.
        expansion: Latents for each input dimension.
        whole_map: One code for the whole map; the stream's vectors are then flattened maps.
        hookpoint: Recorded in the autoencoder's shape.
        auxk_alpha: Weight of the auxiliary loss that revives dead latents (Gao et al. 2024, appendix A.2).
        dead_after: Steps without activation after which a latent counts as dead.
        buffer: Vectors in memory for shuffling.
        reuse: Mean number of draws of a vector before a new one replaces it.
        held_out_every: One of this many trajectories is held out to measure quality and not used for training.
        held_out_limit: Limit of held-out vectors.
    """

    steps: int = 1500
    batch: int = 4096
    learning_rate: float = 1e-3
    k: int = 16
    expansion: int = 8
    whole_map: bool = False
    hookpoint: str = "mid_block"
    auxk_alpha: float = 1 / 32
    dead_after: int = 100
    buffer: int = 262_144
    reuse: int = 8
    held_out_every: int = 12
    held_out_limit: int = 65_536


@dataclass(frozen=True)
class SaeQuality:
    """Reconstruction quality of an autoencoder on held-out trajectories.

    Attributes:
        unexplained_variance: Σ‖x - x̂‖² / Σ‖x - x̄‖² for each sampler step, x̄ the mean of that step.
        held_out: Number of held-out vectors.
        latents: Size of the dictionary.
        dead_latents: Latents that are not active for any held-out vector.
        decoder_cosine_mean: Mean absolute cosine over pairs of dictionary rows.
        decoder_cosine_max: Largest cosine of a pair; 1 means a duplicate.
    """

    unexplained_variance: tuple[float, ...]
    held_out: int
    latents: int
    dead_latents: int
    decoder_cosine_mean: float
    decoder_cosine_max: float


class ShuffleBuffer:
    """A pool of activations of limited size: filled once, refreshed at random places, sampled with replacement."""

    def __init__(self, capacity: int, generator: torch.Generator) -> None:
        """Create a pool for ``capacity`` vectors; ``generator`` (CPU) determines all draws and replacements."""
        self._capacity = capacity
        self._generator = generator
        self._held: ActivationBatch | None = None

    @property
    def held(self) -> ActivationBatch:
        """All vectors currently in the pool.

        Raises:
            ValueError: The pool is empty.
        """
        if self._held is None or not len(self._held):
            raise ValueError("expected activations to train on, found an empty stream; raise lens.trajectories")
        return self._held

    def fill(self, source: Iterator[ActivationBatch]) -> None:
        """Read from ``source`` until the buffer is full or the source ends; the rest of the last batch is dropped."""
        parts, room = [], self._capacity
        while room > 0 and (batch := next(source, None)) is not None:
            parts.append(batch[:room])
            room -= len(parts[-1])
        if parts:
            self._held = _concatenate(parts)

    def refresh(self, source: Iterator[ActivationBatch], count: int) -> None:
        """Overwrite random places with at least ``count`` vectors of ``source``, or with the remaining ones."""
        while count > 0 and (batch := next(source, None)) is not None:
            places = self._places(len(batch))
            self.held.vectors[places] = batch.vectors
            self.held.steps[places] = batch.steps
            self.held.trajectories[places] = batch.trajectories
            count -= len(batch)

    def draw(self, count: int) -> ActivationBatch:
        """Draw ``count`` vectors, independently and with replacement."""
        return self.held[self._places(count)]

    def _places(self, count: int) -> Tensor:
        return torch.randint(len(self.held), (count,), generator=self._generator)


def train_sae(
    stream: Iterator[ActivationBatch],
    settings: SaeTraining,
    generator: torch.Generator,
    progress: Callable[[int, float], None] | None = None,
    device: torch.device | str = "cpu",
) -> tuple[SparseAutoencoder, SaeQuality]:
    """Train an autoencoder on a stream and measure it on held-out trajectories.

    The buffer stays on the device of the stream's vectors, because it can be larger than a GPU's memory. Each step's
    batch is moved to the device of the autoencoder.

    Args:
        stream: Batches of complete trajectories, read lazily, for example a generator that samples the model. If it
            ends early, training continues with the vectors in the buffer.
        settings: Settings of the run.
        generator: CPU generator for the initial dictionary and all draws.
        progress: Called after each step with its number, from 1, and the loss.
        device: Device for training; the autoencoder is returned on it.

    Raises:
        ValueError: The stream has no training part or no held-out part, or lacks a sampler step.
    """
    held_out: list[ActivationBatch] = []
    source = _set_aside(stream, settings, held_out)
    buffer = ShuffleBuffer(settings.buffer, generator)
    buffer.fill(source)
    sae = _initial_sae(buffer.held, settings, generator).to(device)
    trainer = _Trainer(sae, settings, _step_weights(buffer.held).to(device))
    for step in range(settings.steps):
        loss = trainer.step(buffer.draw(settings.batch).to(device), step)
        buffer.refresh(source, settings.batch // settings.reuse)
        if progress is not None:
            progress(step + 1, loss)
    if not held_out:
        raise ValueError(
            f"expected every {settings.held_out_every}th trajectory held out, found none among those read; "
            "lower held_out_every or raise lens.trajectories"
        )
    sae.eval().requires_grad_(False)
    return sae, measure_sae(sae, _concatenate(held_out))


@torch.no_grad()
def measure_sae(sae: SparseAutoencoder, held_out: ActivationBatch, chunk: int = 8192) -> SaeQuality:
    """Measure reconstruction per step, dead latents and dictionary overlap; sums in float64.

    Raises:
        ValueError: ``held_out`` is empty or lacks a step.
    """
    variance = _mean_variance_per_step(held_out) * torch.bincount(held_out.steps)
    error = torch.zeros_like(variance)
    fired = torch.zeros(sae.shape.n_latents, dtype=torch.bool, device=sae.decoder.device)
    for start in range(0, len(held_out), chunk):
        part = held_out[start : start + chunk]
        vectors = part.vectors.to(sae.decoder.device)
        codes = sae.encode_sparse(vectors)
        residual = (vectors - sae.decode_sparse(codes)).double()
        error.index_add_(0, part.steps, residual.square().sum(1).to(error.device))
        fired[codes.indices[codes.values > 0]] = True
    mean, largest = _dictionary_overlap(sae.decoder)
    return SaeQuality(
        unexplained_variance=tuple((error / variance).tolist()),
        held_out=len(held_out),
        latents=sae.shape.n_latents,
        dead_latents=int((~fired).sum()),
        decoder_cosine_mean=mean,
        decoder_cosine_max=largest,
    )


class _Trainer:
    """Adam on the dictionary, with unit-norm rows and an auxiliary loss against dead latents."""

    def __init__(self, sae: SparseAutoencoder, settings: SaeTraining, step_weights: Tensor) -> None:
        self.sae = sae
        self._settings = settings
        self._step_weights = step_weights
        self._optimizer = torch.optim.Adam(sae.parameters(), lr=settings.learning_rate)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(
            self._optimizer, lambda step: learning_rate_factor(step, settings.steps)
        )
        self._last_fired = torch.zeros(sae.shape.n_latents, dtype=torch.long, device=sae.decoder.device)

    def step(self, batch: ActivationBatch, number: int) -> float:
        target = self.sae.normalise(batch.vectors)
        codes = self.sae.encode_sparse(batch.vectors)
        residual = target - self.sae.pre_bias - self.sae.dictionary_sum(codes)
        loss = (residual.square().sum(1) * self._weights(batch)).mean()
        total = loss + self._settings.auxk_alpha * self._auxiliary_loss(target, residual.detach(), number)
        self._optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        _remove_parallel_gradient(self.sae.decoder)
        torch.nn.utils.clip_grad_norm_(self.sae.parameters(), 1.0)
        self._optimizer.step()
        self._schedule.step()
        with torch.no_grad():
            self.sae.decoder.copy_(F.normalize(self.sae.decoder, dim=1))
        self._last_fired[codes.indices[codes.values > 0]] = number
        return float(loss.detach())

    def _weights(self, batch: ActivationBatch) -> Tensor:
        return self._step_weights[batch.steps] / self.sae.input_scale.square()

    def _auxiliary_loss(self, target: Tensor, residual: Tensor, number: int) -> Tensor:
        """AuxK: dead latents reconstruct the residual of the active ones (Gao et al. 2024, appendix A.2)."""
        dead = (number - self._last_fired > self._settings.dead_after).nonzero().flatten()
        if not len(dead):
            return residual.new_zeros(())
        centred = target - self.sae.pre_bias.detach()
        activations = F.linear(centred, self.sae.encoder[dead], self.sae.encoder_bias[dead])
        values, chosen = activations.topk(min(len(dead), max(1, self.sae.shape.d_in // 2)), dim=-1)
        rebuilt = self.sae.dictionary_sum(SparseCodes(F.relu(values), dead[chosen]))
        return (residual - rebuilt).square().sum() / residual.square().sum().clamp_min(torch.finfo(residual.dtype).tiny)


def learning_rate_factor(step: int, steps: int) -> float:
    """Return the learning rate at ``step`` as a fraction of its peak: warm-up over 5 %, constant, decay over 30 %."""
    warmup = min(1.0, (step + 1) / max(1.0, 0.05 * steps))
    decay = min(1.0, max(0.0, (steps - step) / max(1.0, 0.3 * steps)))
    return warmup * decay


def _set_aside(
    stream: Iterator[ActivationBatch], settings: SaeTraining, held_out: list[ActivationBatch]
) -> Iterator[ActivationBatch]:
    """Yield the training part of each batch; the held-out part is added to ``held_out`` up to its limit."""
    room = settings.held_out_limit
    for batch in stream:
        kept = batch.trajectories % settings.held_out_every == 0
        if room > 0 and bool(kept.any()):
            held_out.append(batch[kept][:room])
            room -= len(held_out[-1])
        if not bool(kept.all()):
            yield batch[~kept]


def _initial_sae(sample: ActivationBatch, settings: SaeTraining, generator: torch.Generator) -> SparseAutoencoder:
    width = int(sample.vectors.shape[1])
    shape = SaeShape(width, width * settings.expansion, settings.k, settings.whole_map, settings.hookpoint)
    sae = SparseAutoencoder(shape, generator)
    sae.fit_inputs(sample.vectors)
    return sae


def _step_weights(sample: ActivationBatch) -> Tensor:
    """Return weights with which the loss is the mean unexplained variance per step, as in DiffLens."""
    return (1 / _mean_variance_per_step(sample)).float()


def _mean_variance_per_step(sample: ActivationBatch) -> Tensor:
    """Return the mean of ‖x - x̄‖² for each step, x̄ the mean of that step: (steps,), float64."""
    counts = torch.bincount(sample.steps) if len(sample) else torch.zeros(1)
    if bool((counts < 2).any()):
        missing = (counts < 2).nonzero().flatten().tolist()
        raise ValueError(
            f"expected at least 2 vectors of every sampler step, found fewer for steps {missing}; "
            "stream complete trajectories and more of them"
        )
    vectors = sample.vectors.double()
    sums = torch.zeros(len(counts), vectors.shape[1], dtype=torch.float64, device=vectors.device)
    means = sums.index_add_(0, sample.steps, vectors) / counts[:, None]
    spread = (vectors - means[sample.steps]).square().sum(1)
    return torch.zeros_like(means[:, 0]).index_add_(0, sample.steps, spread) / counts


@torch.no_grad()
def _remove_parallel_gradient(decoder: torch.nn.Parameter) -> None:
    """Remove the part of the gradient that only changes row norms, which are fixed at 1 (Bricken et al. 2023)."""
    if decoder.grad is not None:
        decoder.grad -= (decoder.grad * decoder).sum(1, keepdim=True) * decoder


def _dictionary_overlap(decoder: Tensor, chunk: int = 1024) -> tuple[float, float]:
    """Return the mean absolute and the largest cosine over pairs of different rows."""
    rows = F.normalize(decoder, dim=1)
    count = rows.shape[0]
    if count < 2:
        raise ValueError(f"expected at least 2 latents, found {count}; raise lens.expansion")
    total, largest = 0.0, -1.0
    for start in range(0, count, chunk):
        cosines = rows[start : start + chunk] @ rows.T
        own = torch.arange(cosines.shape[0], device=rows.device)
        cosines[own, own + start] = 0
        total += float(cosines.abs().sum(dtype=torch.float64))
        cosines[own, own + start] = -1
        largest = max(largest, float(cosines.max()))
    return total / (count * (count - 1)), largest


def _concatenate(parts: list[ActivationBatch]) -> ActivationBatch:
    return ActivationBatch(
        torch.cat([part.vectors for part in parts]),
        torch.cat([part.steps for part in parts]),
        torch.cat([part.trajectories for part in parts]),
    )
