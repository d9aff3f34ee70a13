"""Group classifiers for the feature map of a hookpoint: one linear head per sampler step and attribute (DiffLens, 4.2).

Shapes: S steps, n samples, d = C·H·W of the conditional half's map, G groups.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from audit.dissect.settings import rows_per_block
from audit.storage.outside.json_object import read_json_object

WEIGHTS_FILE = "heads.safetensors"
GROUPS_FILE = "heads.json"

UNLABELLED = -1
"""Label of a sample whose group is unknown; it is not used for that attribute's head."""


KERNEL_COPIES = 6
"""Matrices of the size of the kernel that the fit holds at once."""


class Features(Protocol):
    """Flattened maps (S, n, d) of the conditional half, any float dtype: a tensor, or a file that is read in blocks."""

    @property
    def shape(self) -> Sequence[int]:
        """(S, n, d)."""
        ...

    def __getitem__(self, key: Any, /) -> Tensor:  # noqa: ANN401 - as for a tensor
        """Return a block; asked for ``[step, :, first:last]``."""
        ...


@dataclass(frozen=True)
class HeadTraining:
    """Settings of the fit.

    Attributes:
        l2: Penalty on the weights, for features that are standardised and divided by sqrt(d).
        iterations: Accelerated steps; 100 reduce the gradient to below 1e-5 of its initial value, for ``l2`` ≥ 1e-4.
        held_out: Share of the samples held out for the accuracy.
        seed: Seed of the split.
    """

    l2: float = 1e-3
    iterations: int = 100
    held_out: float = 0.2
    seed: int = 0


@dataclass(frozen=True)
class HeadAccuracy:
    """Held-out accuracy, by attribute.

    Attributes:
        per_step: Share of held-out samples that the head of that step classifies correctly.
        n: Number of held-out samples.
    """

    per_step: dict[str, tuple[float, ...]]
    n: dict[str, int]


@dataclass(frozen=True)
class GroupHeads:
    """Affine heads that include the standardisation: logits = W h + b for the flattened map h.

    Attributes:
        groups: Group names in the order of the logits, by attribute.
        weights: (S, G, d) by attribute.
        biases: (S, G) by attribute.
    """

    groups: dict[str, tuple[str, ...]]
    weights: dict[str, Tensor]
    biases: dict[str, Tensor]

    @property
    def steps(self) -> int:
        """Number of sampler steps with a head."""
        return int(next(iter(self.weights.values())).shape[0])

    def logits(self, attribute: str, step: int, maps: Tensor) -> Tensor:
        """Return logits (B, G) of maps (B, C, H, W), or flattened (B, d), at one sampler step."""
        weight, flat = self.weights[attribute][step], maps.flatten(1).to(self.weights[attribute].dtype)
        if flat.shape[1] != weight.shape[1]:
            raise ValueError(
                f"the {attribute} head expects maps of {weight.shape[1]} numbers, found {flat.shape[1]}; "
                "use the lens of this model, hookpoint and image size"
            )
        return F.linear(flat, weight, self.biases[attribute][step])

    def to(self, device: torch.device | str) -> GroupHeads:
        """Copy to a device."""
        return GroupHeads(
            self.groups,
            {name: tensor.to(device) for name, tensor in self.weights.items()},
            {name: tensor.to(device) for name, tensor in self.biases.items()},
        )

    def save(self, directory: Path) -> None:
        """Write ``heads.safetensors`` (weights in 16 bits with a scale per head) and ``heads.json``."""
        directory.mkdir(parents=True, exist_ok=True)
        tensors: dict[str, Tensor] = {}
        for attribute, weight in self.weights.items():
            # Weights that include the standardisation can be below the smallest normal half-precision number.
            scale = weight.abs().amax(-1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
            tensors[f"{attribute}.weight"] = (weight / scale).half().cpu().contiguous()
            tensors[f"{attribute}.scale"] = scale.cpu().contiguous()
            tensors[f"{attribute}.bias"] = self.biases[attribute].cpu().contiguous()
        save_file(tensors, directory / WEIGHTS_FILE)
        (directory / GROUPS_FILE).write_text(json.dumps(self.groups, indent=2) + "\n")

    @classmethod
    def load(cls, directory: Path) -> GroupHeads:
        """Load heads in float32.

        Raises:
            ValueError: The two files do not match.
        """
        listed = read_json_object(directory / GROUPS_FILE, "the groups of the heads")
        groups = {attribute: tuple(names) for attribute, names in listed.items()}
        stored = load_file(directory / WEIGHTS_FILE)
        expected = {f"{attribute}.{part}" for attribute in groups for part in ("weight", "scale", "bias")}
        if expected != set(stored):
            raise ValueError(
                f"{directory}: {GROUPS_FILE} expects tensors {sorted(expected)}, found {sorted(stored)} in "
                f"{WEIGHTS_FILE}; the two files belong to different lenses, build the lens again"
            )
        weights = {name: stored[f"{name}.weight"].float() * stored[f"{name}.scale"] for name in groups}
        return cls(groups, weights, {name: stored[f"{name}.bias"] for name in groups})


def fit_group_heads(
    features: Features,
    labels: Mapping[str, Tensor],
    groups: Mapping[str, Sequence[str]],
    settings: HeadTraining | None = None,
) -> tuple[GroupHeads, HeadAccuracy]:
    """Fit L2-regularised logistic regressions, as many steps together as fit in a block of memory.

    The fit runs in the span of the samples (representer theorem), with n × n kernels instead of d weights, because a
    map has many more numbers than there are samples.

    Args:
        features: (S, n, d) flattened maps.
        labels: (n,) group index by attribute, ``UNLABELLED`` if unknown.
        groups: Group names by attribute, in label order.
        settings: Settings of the fit.

    Raises:
        ValueError: A group has too few samples for training and held-out part, or labels and features do not match.
    """
    settings = settings or HeadTraining()
    steps, n, width = features.shape
    for attribute, names in groups.items():
        _check_labels(attribute, labels[attribute], names, n)
    fits = {a: _HeadFit(labels[a], len(names), settings, (steps, width)) for a, names in groups.items()}
    together = min(rows_per_block(4 * KERNEL_COPIES * n * n), rows_per_block(8 * width))
    for first in range(0, steps, together):
        block = _Standardised.of(features, range(first, min(first + together, steps)))
        kernel = block.kernel()
        for fit in fits.values():
            fit.fit(block, kernel)
    accuracy = {attribute: tuple(fit.accuracy) for attribute, fit in fits.items()}
    counts = {attribute: len(fit.held_out) for attribute, fit in fits.items()}
    heads = GroupHeads(
        {name: tuple(of) for name, of in groups.items()},
        {attribute: fit.weights for attribute, fit in fits.items()},
        {attribute: fit.biases for attribute, fit in fits.items()},
    )
    return heads, HeadAccuracy(accuracy, counts)


class _HeadFit:
    """The heads of one attribute, filled block by block of the steps.

    Attributes:
        weights: (S, G, d).
        biases: (S, G).
        accuracy: Held-out accuracy of the steps so far.
    """

    def __init__(self, labels: Tensor, groups: int, settings: HeadTraining, shape: tuple[int, int]) -> None:
        self._labels, self._groups, self._settings = labels, groups, settings
        self._train, self.held_out = _split(labels, settings)
        self.weights = torch.empty(shape[0], groups, shape[1])
        self.biases = torch.empty(shape[0], groups)
        self.accuracy: list[float] = []

    def fit(self, block: _Standardised, kernel: Tensor) -> None:
        """Fit the heads of a block of steps from its kernel (s, n, n)."""
        train, held_out, own = self._train, self.held_out, self._labels.to(kernel.device)
        target = F.one_hot(own[train], self._groups).to(kernel.dtype)
        dual = _fit_dual(kernel[:, train[:, None], train], target, self._settings)
        found = (kernel[:, held_out[:, None], train] @ dual).argmax(-1) == own[held_out]
        self.accuracy += found.double().mean(1).tolist()
        steps = slice(block.steps.start, block.steps.stop)
        block.unfold(train, dual, self.weights[steps], self.biases[steps])


@dataclass(frozen=True)
class _Standardised:
    """Standardised features of a block of s steps.

    Mean and standard deviation (s, d) use all samples, because they do not use labels.
    """

    features: Features
    steps: range
    mean: Tensor
    spread: Tensor

    @classmethod
    def of(cls, features: Features, steps: range) -> _Standardised:
        width = features.shape[2]
        mean, spread = torch.empty(len(steps), width), torch.empty(len(steps), width)
        for row, step in enumerate(steps):
            for columns in _column_blocks(features):
                block = features[step, :, columns].float()
                mean[row, columns], spread[row, columns] = block.mean(0), block.std(0)
        # A feature that hardly varies has no information about groups; scaling it to unit variance would add noise.
        spread = spread.clamp_min(1e-3 * spread.mean(1, keepdim=True)).clamp_min(1e-12)
        return cls(features, steps, mean, spread)

    def kernel(self) -> Tensor:
        """Return inner products (s, n, n) of standardised samples, plus 1 for the bias feature."""
        n = self.features.shape[1]
        total = torch.zeros(len(self.steps), n, n)
        for row in range(len(self.steps)):
            for _, block in self._blocks(row):
                total[row] += block @ block.T
        return total + 1

    def unfold(self, train: Tensor, dual: Tensor, weights: Tensor, biases: Tensor) -> None:
        """Convert dual weights (s, n_train, G) to weights (s, G, d) and biases (s, G) for raw maps, in place."""
        for row in range(len(self.steps)):
            for columns, block in self._blocks(row):
                weights[row, :, columns] = (dual[row].T @ block[train]) / self._scale(row, columns)
        biases.copy_(dual.sum(1) - torch.einsum("sgd,sd->sg", weights, self.mean))

    def _blocks(self, row: int) -> Iterator[tuple[slice, Tensor]]:
        """Yield standardised columns (n, c) of one step."""
        for columns in _column_blocks(self.features):
            block = self.features[self.steps[row], :, columns].float()
            yield columns, (block - self.mean[row, columns]) / self._scale(row, columns)

    def _scale(self, row: int, columns: slice) -> Tensor:
        return self.spread[row, columns] * math.sqrt(self.features.shape[2])


def _column_blocks(features: Features) -> Iterator[slice]:
    _, n, width = features.shape
    count = rows_per_block(4 * n)
    for first in range(0, width, count):
        yield slice(first, min(first + count, width))


def _fit_dual(kernel: Tensor, target: Tensor, settings: HeadTraining) -> Tensor:
    """Minimise mean cross-entropy + l2/2 ‖w‖² over w = Xᵀ a, for kernels (S, n, n) and one-hot targets (n, G).

    Newton steps with Böhning's fixed bound of the softmax Hessian, diag(p) - ppᵀ <= I/2 (Böhning 1992): one
    factorisation per sampler step, no step size, with Nesterov acceleration. Deterministic.
    """
    n = target.shape[0]
    identity = torch.eye(n, dtype=kernel.dtype, device=kernel.device)
    # Cholesky and not inv, because batched LU of this size gives NaN without an exception in some builds of oneMKL.
    bound = torch.cholesky_inverse(torch.linalg.cholesky(kernel / (2 * n) + settings.l2 * identity))
    dual = ahead = torch.zeros(*kernel.shape[:2], target.shape[1], dtype=kernel.dtype, device=kernel.device)
    for iteration in range(settings.iterations):
        residual = ((kernel @ ahead).softmax(-1) - target) / n
        latest = ahead - bound @ (residual + settings.l2 * ahead)
        ahead = latest + iteration / (iteration + 3) * (latest - dual)
        dual = latest
    return dual


def _split(labels: Tensor, settings: HeadTraining) -> tuple[Tensor, Tensor]:
    """Return the indices of labelled training and held-out samples, split within each group."""
    generator = torch.Generator().manual_seed(settings.seed)
    train, held_out = [], []
    for group in sorted(set(labels.tolist())):
        if group != UNLABELLED:
            rows = (labels == group).nonzero().flatten().cpu()
            rows = rows[torch.randperm(len(rows), generator=generator)]
            cut = max(1, round(len(rows) * settings.held_out))
            held_out.append(rows[:cut])
            train.append(rows[cut:])
    return torch.cat(train).to(labels.device), torch.cat(held_out).to(labels.device)


def _check_labels(attribute: str, labels: Tensor, names: Sequence[str], n: int) -> None:
    if labels.shape != (n,):
        raise ValueError(f"{attribute}: expected one label for each of {n} samples, found shape {tuple(labels.shape)}")
    counts = [int((labels == group).sum()) for group in range(len(names))]
    stray = n - sum(counts) - int((labels == UNLABELLED).sum())
    if stray:
        raise ValueError(f"{attribute}: expected labels 0 to {len(names) - 1} or {UNLABELLED}, found {stray} others")
    few = {name: count for name, count in zip(names, counts, strict=True) if count < 2}
    if few:
        raise ValueError(
            f"{attribute}: expected at least 2 samples of every group, found {few}; "
            "sample more group prompts (lens.trajectories) or remove the group"
        )
