"""Trains a sparse autoencoder on a stream of activations, with a buffer of limited size.

The stream yields complete trajectories, so that the held-out part and the training part have no image in common.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from audit.dissect.sae import SaeShape, SparseAutoencoder, SparseCodes
from audit.dissect.settings import CHANNELS, MATRYOSHKA, TOP_K, Dictionary, Dissection, rows_per_block

LOG = logging.getLogger(__name__)


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

    def put(self, rows: Tensor | slice, batch: ActivationBatch) -> None:
        """Overwrite rows with those of another batch."""
        self.vectors[rows] = batch.vectors
        self.steps[rows] = batch.steps
        self.trajectories[rows] = batch.trajectories


@dataclass(frozen=True)
class SaeTraining:
    """Settings of one training run.

    Attributes:
        steps: Optimiser steps.
        batch: Vectors per step.
        learning_rate: Peak, after a linear warm-up over the first 5 % and before a linear decay over the last 30 %.
        k: Largest number of active latents per vector; of ``batch_top_k`` their mean number.
        expansion: Latents for each input dimension.
        whole_map: One code for the whole map; the stream's vectors are then flattened maps.
        hookpoint: Recorded in the autoencoder's shape.
        auxk_alpha: Weight of the auxiliary loss that revives dead latents (Gao et al. 2024, appendix A.2).
        dead_after: Steps without activation after which a latent counts as dead.
        buffer: Vectors in memory for shuffling, in the type of the stream.
        buffer_bytes: Memory of these vectors; wide ones are fewer.
        reuse: Mean number of draws of a vector before a new one replaces it.
        held_out_every: One of this many trajectories is held out to measure quality and not used for training.
        held_out_limit: Limit of held-out vectors.
        held_out_bytes: Memory of these vectors.
        dictionary: How active latents are chosen and trained.
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
    buffer_bytes: int = 4 << 30
    reuse: int = 8
    held_out_every: int = 12
    held_out_limit: int = 65_536
    held_out_bytes: int = 1 << 30
    dictionary: Dictionary = TOP_K

    def buffered(self, bytes_per_vector: int) -> int:
        """Return how many vectors the buffer holds, at least 1."""
        return max(1, min(self.buffer, self.buffer_bytes // bytes_per_vector))

    def kept_apart(self, bytes_per_vector: int) -> int:
        """Return how many held-out vectors are kept, at least 1."""
        return max(1, min(self.held_out_limit, self.held_out_bytes // bytes_per_vector))

    def vectors_read(self, bytes_per_vector: int) -> int:
        """Return how many vectors of a stream a training reads: those of the full buffer, and its replacements."""
        return self.buffered(bytes_per_vector) + self.steps * (self.batch // self.reuse)


def training_of(settings: Dissection) -> SaeTraining:
    """Return how the autoencoder of a lens is trained."""
    return SaeTraining(
        steps=settings.sae_steps,
        k=settings.k,
        expansion=settings.expansion,
        whole_map=settings.whole_map,
        hookpoint=settings.hookpoint,
        buffer=1 << 20,
        dictionary=settings.dictionary,
    )


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
    """A pool of activations of limited size: filled once, refreshed at random places, sampled with replacement.

    Vectors stay in the type of the stream, half precision for a recorded model, which needs half the memory.
    """

    def __init__(self, settings: SaeTraining, generator: torch.Generator) -> None:
        """Create an empty pool; ``generator`` (CPU) determines all draws and replacements."""
        self._settings = settings
        self._generator = generator
        self._held: ActivationBatch | None = None
        self._due = 0

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
        first = next(source, None)
        if first is None:
            return
        size = self._settings.buffered(first.vectors.shape[1] * first.vectors.element_size())
        # Memory that is never written is never taken by the process, so a short stream takes only what it has.
        held = ActivationBatch(
            first.vectors.new_empty(size, first.vectors.shape[1]),
            first.steps.new_empty(size),
            first.trajectories.new_empty(size),
        )
        filled = 0
        batch: ActivationBatch | None = first
        while batch is not None and filled < size:
            part = batch[: size - filled]
            held.put(slice(filled, filled + len(part)), part)
            filled += len(part)
            batch = next(source, None) if filled < size else None
        self._held = held[:filled]

    def refresh(self, source: Iterator[ActivationBatch], count: int) -> None:
        """Overwrite random places with ``count`` vectors of ``source`` on average, in whole batches."""
        self._due += count
        while self._due > 0 and (batch := next(source, None)) is not None:
            self.held.put(self._places(len(batch)), batch)
            self._due -= len(batch)

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
    checkpoint: SaeCheckpoint | None = None,
) -> tuple[SparseAutoencoder, SaeQuality]:
    """Train an autoencoder on a stream and measure it on held-out trajectories.

    The buffer stays on the device of the stream's vectors, because it can be larger than a GPU's memory. Each step's
    batch is moved to the device of the autoencoder.

    Args:
        stream: Batches of complete trajectories, read lazily. If it ends early, training continues with the vectors in
            the buffer.
        settings: Settings of the run.
        generator: CPU generator for the initial dictionary and all draws.
        progress: Called after each step with its number, from 1, and the loss.
        device: Device for training; the autoencoder is returned on it.
        checkpoint: Stores the training while it runs. A stored one continues, bit-identical on a CPU: the draws of its
            steps are repeated from the stream, which must be the same, without training.

    Raises:
        ValueError: The stream has no training part or no held-out part, or lacks a sampler step.
    """
    held_out: list[ActivationBatch] = []
    source = _set_aside(stream, settings, held_out)
    buffer = ShuffleBuffer(settings, generator)
    buffer.fill(source)
    sae = _initial_sae(buffer.held, settings, generator).to(device)
    trainer = _Trainer(sae, settings, _step_weights(buffer.held).to(device))
    done = 0 if checkpoint is None else checkpoint.load(trainer)
    for step in range(0 if settings.dictionary == CHANNELS else settings.steps):
        batch = buffer.draw(settings.batch)
        if step >= done:
            loss = trainer.step(batch.to(device), step)
            if progress is not None:
                progress(step + 1, loss)
            if checkpoint is not None:
                checkpoint.save_if_due(trainer, step + 1)
        buffer.refresh(source, settings.batch // settings.reuse)
    if not held_out:
        raise ValueError(
            f"expected every {settings.held_out_every}th trajectory held out, found none among those read; "
            "lower held_out_every or raise lens.trajectories"
        )
    sae.eval().requires_grad_(False)
    return sae, measure_sae(sae, _concatenate(held_out))


class SaeCheckpoint:
    """The state of a training in a file, written from time to time and replaced as a whole.

    Args:
        path: The file.
        seconds: Time between two writes.
    """

    def __init__(self, path: Path, seconds: float = 60.0) -> None:
        self._path, self._seconds = path, seconds
        self._written = time.monotonic()

    def save_if_due(self, trainer: _Trainer, done: int) -> None:
        """Write the state after ``done`` steps if the last one is old enough."""
        if time.monotonic() - self._written >= self._seconds:
            partial = self._path.with_name(f"{self._path.name}.partial")
            save_file(trainer.tensors(), partial, {"done": str(done)})
            os.replace(partial, self._path)
            self._written = time.monotonic()

    def load(self, trainer: _Trainer) -> int:
        """Load the stored state into a trainer and return its number of steps; 0 if there is none that fits."""
        if not self._path.exists():
            return 0
        try:
            with safe_open(self._path, framework="pt") as file:
                done = int(file.metadata()["done"])
                trainer.load({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118 - not a dict
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            LOG.warning("training the autoencoder from its first step: %s cannot be read (%s)", self._path, error)
            return 0
        LOG.info("resuming the autoencoder at step %d", done)
        return done


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
        self._last_fired = torch.zeros(sae.shape.n_latents, dtype=torch.long, device=sae.decoder.device)
        self._prefixes = nested_prefixes(sae.shape)

    def step(self, batch: ActivationBatch, number: int) -> float:
        target = self.sae.normalise(batch.vectors)
        codes = self.sae.encode_in_training(batch.vectors)
        residuals = [
            target - self.sae.pre_bias - self.sae.dictionary_sum(first_latents(codes, n)) for n in self._prefixes
        ]
        losses = [(residual.square().sum(1) * self._weights(batch)).mean() for residual in residuals]
        loss, residual = torch.stack(losses).mean(), residuals[-1]
        total = loss + self._settings.auxk_alpha * self._auxiliary_loss(target, residual.detach(), number)
        for group in self._optimizer.param_groups:
            group["lr"] = self._settings.learning_rate * learning_rate_factor(number, self._settings.steps)
        self._optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        _remove_parallel_gradient(self.sae.decoder)
        torch.nn.utils.clip_grad_norm_(self.sae.parameters(), 1.0)
        self._optimizer.step()
        with torch.no_grad():
            self.sae.decoder.copy_(F.normalize(self.sae.decoder, dim=1))
        self._last_fired[codes.indices[codes.values > 0]] = number
        return float(loss.detach())

    def tensors(self) -> dict[str, Tensor]:
        """Return the whole state: weights, moments of Adam, and the last activation of each latent."""
        moments = {
            f"adam.{number}.{name}": tensor.clone()
            for number, state in self._optimizer.state_dict()["state"].items()
            for name, tensor in state.items()
        }
        weights = {f"sae.{name}": tensor.clone() for name, tensor in self.sae.state_dict().items()}
        return {**weights, **moments, "last_fired": self._last_fired.clone()}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Load a state.

        Raises:
            KeyError, ValueError: It belongs to another training; nothing changed then.
        """
        own = self.sae.state_dict()
        weights = {name: tensors[f"sae.{name}"] for name in own}
        if any(weights[name].shape != own[name].shape for name in own):
            raise ValueError("the shapes are those of another autoencoder")
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("adam."):
                _, number, part = name.split(".")
                moments.setdefault(int(number), {})[part] = tensor
        last_fired = tensors["last_fired"].to(self._last_fired.device)
        self.sae.load_state_dict(weights)
        self._optimizer.load_state_dict(self._optimizer.state_dict() | {"state": moments})
        self._last_fired = last_fired

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


def nested_prefixes(shape: SaeShape) -> tuple[int, ...]:
    """Return the sizes of the dictionaries that a training reconstructs with; the last one is the whole.

    A Matryoshka autoencoder (Bussmann et al. 2025, arXiv 2503.17547, section 3) also reconstructs with its first
    eighth, quarter and half alone. So its first latents stay general, where a plain one splits them into special cases.
    """
    parts = (8, 4, 2, 1) if shape.dictionary == MATRYOSHKA else (1,)
    return tuple(dict.fromkeys(max(1, shape.n_latents // part) for part in parts))


def first_latents(codes: SparseCodes, latents: int) -> SparseCodes:
    """Return codes in which only the first ``latents`` of the dictionary are active."""
    return codes._replace(values=codes.values * (codes.indices < latents))


def learning_rate_factor(step: int, steps: int) -> float:
    """Return the learning rate at ``step`` as a fraction of its peak: warm-up over 5 %, constant, decay over 30 %."""
    warmup = min(1.0, (step + 1) / max(1.0, 0.05 * steps))
    decay = min(1.0, max(0.0, (steps - step) / max(1.0, 0.3 * steps)))
    return warmup * decay


def _set_aside(
    stream: Iterator[ActivationBatch], settings: SaeTraining, held_out: list[ActivationBatch]
) -> Iterator[ActivationBatch]:
    """Yield the training part of each batch; the held-out part is added to ``held_out`` up to its limit."""
    room: int | None = None
    for batch in stream:
        if room is None:
            room = settings.kept_apart(batch.vectors.shape[1] * batch.vectors.element_size())
        kept = batch.trajectories % settings.held_out_every == 0
        if room > 0 and bool(kept.any()):
            held_out.append(batch[kept][:room])
            room -= len(held_out[-1])
        if not bool(kept.all()):
            yield batch[~kept]


def _initial_sae(sample: ActivationBatch, settings: SaeTraining, generator: torch.Generator) -> SparseAutoencoder:
    width = int(sample.vectors.shape[1])
    latents, k = width * settings.expansion, settings.k
    if settings.dictionary == CHANNELS:
        latents = k = 2 * width
    shape = SaeShape(width, latents, k, settings.whole_map, settings.hookpoint, settings.dictionary)
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
    width, device = sample.vectors.shape[1], sample.vectors.device
    blocks = [slice(i, i + rows_per_block(8 * width)) for i in range(0, len(sample), rows_per_block(8 * width))]
    means = torch.zeros(len(counts), width, dtype=torch.float64, device=device)
    for block in blocks:
        means.index_add_(0, sample.steps[block], sample.vectors[block].double())
    means /= counts[:, None]
    spread = torch.zeros_like(means[:, 0])
    for block in blocks:
        centred = sample.vectors[block].double() - means[sample.steps[block]]
        spread.index_add_(0, sample.steps[block], centred.square().sum(1))
    return spread / counts


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
