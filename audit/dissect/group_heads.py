"""Group classifiers for the feature map of a hookpoint: one linear head per sampler step and attribute (DiffLens, 4.2).

Shapes: S steps, n samples, d = C·H·W of the conditional half's map, G groups.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from audit.storage.outside.json_object import read_json_object

WEIGHTS_FILE = "heads.safetensors"
GROUPS_FILE = "heads.json"

UNLABELLED = -1
"""Label of a sample whose group is unknown; it is not used for that attribute's head."""


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
    features: Tensor,
    labels: Mapping[str, Tensor],
    groups: Mapping[str, Sequence[str]],
    settings: HeadTraining | None = None,
) -> tuple[GroupHeads, HeadAccuracy]:
    """Fit L2-regularised logistic regressions for all steps together.

    The fit runs in the span of the samples (representer theorem), with n × n kernels instead of d weights, because a
    map has many more numbers than there are samples.

    Args:
        features: (S, n, d) flattened maps of the conditional half, any float dtype.
        labels: (n,) group index by attribute, ``UNLABELLED`` if unknown.
        groups: Group names by attribute, in label order.
        settings: Settings of the fit.

    Raises:
        ValueError: A group has too few samples for training and held-out part, or labels and features do not match.
    """
    settings = settings or HeadTraining()
    for attribute, names in groups.items():
        _check_labels(attribute, labels[attribute], names, features.shape[1])
    standard = _Standardiser.of(features)
    kernel = standard.kernel(features)
    weights: dict[str, Tensor] = {}
    biases: dict[str, Tensor] = {}
    accuracy: dict[str, tuple[float, ...]] = {}
    counts: dict[str, int] = {}
    for attribute, names in groups.items():
        train, held_out = _split(labels[attribute], settings)
        own = labels[attribute].to(kernel.device)
        target = F.one_hot(own[train], len(names)).to(kernel.dtype)
        dual = _fit_dual(kernel[:, train[:, None], train], target, settings)
        found = (kernel[:, held_out[:, None], train] @ dual).argmax(-1) == own[held_out]
        accuracy[attribute] = tuple(found.double().mean(1).tolist())
        counts[attribute] = len(held_out)
        weights[attribute], biases[attribute] = standard.unfold(features, train, dual)
    return GroupHeads({name: tuple(of) for name, of in groups.items()}, weights, biases), HeadAccuracy(accuracy, counts)


@dataclass(frozen=True)
class _Standardiser:
    """Mean and standard deviation (S, d) of the features; they use all samples, because they do not use labels."""

    mean: Tensor
    spread: Tensor

    @classmethod
    def of(cls, features: Tensor) -> _Standardiser:
        mean = torch.stack([step.float().mean(0) for step in features])
        spread = torch.stack([step.float().std(0) for step in features])
        # A feature that hardly varies has no information about groups; scaling it to unit variance would add noise.
        return cls(mean, spread.clamp_min(1e-3 * spread.mean(1, keepdim=True)).clamp_min(1e-12))

    def standardise(self, features: Tensor, step: int) -> Tensor:
        centred = features[step].float() - self.mean[step]
        return centred / (self.spread[step] * math.sqrt(features.shape[2]))

    def kernel(self, features: Tensor) -> Tensor:
        """Return inner products (S, n, n) of standardised samples, plus 1 for the bias feature."""
        rows = [self.standardise(features, step) for step in range(len(features))]
        return torch.stack([own @ own.T for own in rows]) + 1

    def unfold(self, features: Tensor, train: Tensor, dual: Tensor) -> tuple[Tensor, Tensor]:
        """Convert dual weights (S, n_train, G) to weights (S, G, d) and biases (S, G) for raw maps."""
        weights = torch.stack(
            [
                (dual[step].T @ self.standardise(features, step)[train])
                / (self.spread[step] * math.sqrt(features.shape[2]))
                for step in range(len(features))
            ]
        )
        return weights, dual.sum(1) - torch.einsum("sgd,sd->sg", weights, self.mean)


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
