"""Gated steering of cross-attention (EquiSteer, Gaintseva et al. 2026).

For each cross-attention, step and group a, the direction s_a is the mean output for prompts that name the group minus
that for the prompts themselves, over images and positions, normalised. At every position x of an image that is steered

    x' = x − Q Qᵀ x + p α_a s_a,

with Q an orthonormal basis of all directions (eq. 7), and α_a the mean of ⟨x, s_a⟩ for prompts that name the group
(eq. 8). Then x' gets the length of x (eq. 3). The gate looks at the outputs of one layer at step 0: it is closed if the
largest ⟨x, s_a⟩ over the positions exceeds, for any a, the midpoint of its means for named and for other prompts
(eq. 5). The layer is the one whose largest ⟨x, s_a⟩ separates these prompts best in the fit; the paper chooses by hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from audit.config.mitigations.edits import GatedCrossAttentionConfig
from audit.dissect.lens import Lens
from audit.mitigate.fitted_tensors import fitted_tensors
from audit.mitigate.method import Batch, Fit, Intervene, RoundsFit
from audit.mitigate.tools import FitTools
from audit.models.files.untrusted_model import UnfitModelError
from audit.models.intervention import Intervention, Observer
from audit.planning.fits import FitRequest
from audit.planning.plan import text_naming, window_of
from audit.records.work import Prompt, derive_seed

# G groups, S steps, B images, C channels, T positions, L layers

DIRECTION, ALPHA, THRESHOLD, GATE = "direction", "alpha", "threshold", "gate"
OUTPUT, POSITIONS, RESPONSE, LARGEST, SQUARE, IMAGES = "output", "positions", "response", "largest", "square", "images"


class GatedCrossAttention:
    """Steers the outputs of all cross-attention."""

    def __init__(self) -> None:
        self.fit: Fit | RoundsFit | None = GatedCrossAttentionFit()

    def ready(self, mitigation: GatedCrossAttentionConfig, lens: Lens | None, fitted: Path | None) -> Intervene:
        """Load directions, magnitudes and thresholds.

        Raises:
            ValueError: There is no fit, or its file cannot be read.
        """
        found = fitted_tensors(mitigation.name, fitted)
        paths = [key.partition("/")[2] for key in sorted(found) if key.startswith(f"{DIRECTION}/")]
        layers = {path: Layer.of(found[f"{DIRECTION}/{path}"], found[f"{ALPHA}/{path}"]) for path in paths}

        def intervene(batch: Batch) -> Intervention:
            window = window_of(mitigation.window, batch.steps)
            if mitigation.strength == 0:
                return Intervention(batch.assigned, window, mitigation.reverse_step)
            gate = Gate(found[THRESHOLD], paths[int(found[GATE])]) if mitigation.gate else None
            rows = [batch.groups.index(group) for group in batch.assigned]
            edits = {path: SteeredOutput(mitigation, path, layer, rows, gate) for path, layer in layers.items()}
            return Intervention(batch.assigned, window, mitigation.reverse_step, edits=edits)

        return intervene


@dataclass(frozen=True)
class Layer:
    """What one cross-attention is steered with.

    Attributes:
        directions: s, (S, G, C), of length 1.
        bases: Q, (S, C, G), orthonormal.
        alphas: α, (S, G).
    """

    directions: Tensor
    bases: Tensor
    alphas: Tensor

    @classmethod
    def of(cls, directions: Tensor, alphas: Tensor) -> Layer:
        """Make the bases of directions (S, G, C)."""
        return cls(directions, torch.linalg.qr(directions.transpose(1, 2))[0], alphas)


class Gate:
    """Whether each image of a batch is steered; decided by the first call at step 0, closed before."""

    def __init__(self, thresholds: Tensor, path: str) -> None:
        self._thresholds, self._path = thresholds, path
        self._open: Tensor | None = None

    def open(self, path: str, step: int, x: Tensor, directions: Tensor) -> Tensor | None:
        """Return which images are steered (B,), None if none is yet.

        Args:
            path: Address of the layer.
            step: The step.
            x: Outputs of the layer, (B, T, C).
            directions: s at this layer and step, (G, C).
        """
        if step == 0 and path == self._path:
            self._open = ((x @ directions.T).amax(1) <= self._thresholds).all(1)
        return self._open


class SteeredOutput:
    """Steers the output of one cross-attention."""

    def __init__(
        self, settings: GatedCrossAttentionConfig, path: str, layer: Layer, rows: Sequence[int], gate: Gate | None
    ) -> None:
        self._settings, self._path, self._layer, self._gate = settings, path, layer, gate
        self._rows = torch.tensor(rows)

    def __call__(self, step: int, h: Tensor) -> Tensor:
        """Edit outputs ``(B, C, T, 1)`` of the conditional half."""
        x, layer, settings = _positions(h), self._layer, self._settings
        directions, basis = layer.directions[step], layer.bases[step]
        rows = self._rows.to(x.device)
        added = settings.push * layer.alphas[step][rows, None] * directions[rows]
        steered = x - (x @ basis) @ basis.T + added[:, None]
        if settings.keep_length:
            steered = steered * x.norm(dim=2, keepdim=True) / steered.norm(dim=2, keepdim=True).clamp(min=1e-12)
        change = settings.strength * (steered - x)
        if self._gate is not None:
            is_open = self._gate.open(self._path, step, x, directions)
            if is_open is None:
                return h
            change = torch.where(is_open.view(-1, 1, 1), change, torch.zeros_like(change))
        return h + change.transpose(1, 2).reshape(h.shape).to(h.dtype)


class GatedCrossAttentionFit:
    """Finds directions in a first round; magnitudes, thresholds and the layer of the gate in a second."""

    def rounds(self, request: FitRequest) -> int:
        """Return 2."""
        return 2

    def part(
        self, tools: FitTools, request: FitRequest, prompt: Prompt, before: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Sum outputs, then responses to the directions, over images of a prompt and of those that name a group."""
        section, generator = _section(request), tools.generator
        paths = cross_attention_outputs(generator.denoiser)
        seeds = [derive_seed("gated_cross_attention", prompt.id, i) for i in range(section.images_per_group)]
        named = [text_naming(section, group, request.template, prompt) for group in request.groups]
        sums: dict[str, Tensor] = {}
        for row, text in enumerate((prompt.text, *named)):
            watchers = {path: _Watcher(before.get(f"{DIRECTION}/{path}")) for path in paths}
            for start in range(0, len(seeds), request.sampling.batch):
                own = seeds[start : start + request.sampling.batch]
                observers: dict[str, Observer] = dict(watchers.items())
                generator.sample([text] * len(own), own, observers=observers)
            for path, watcher in watchers.items():
                sums |= {f"{key}/{row}/{path}": tensor for key, tensor in watcher.sums().items()}
        return sums

    def join(self, request: FitRequest, sums: Mapping[str, Tensor], before: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the directions (S, G, C) of each layer, then also magnitudes (S, G), thresholds (G,) and the gate.

        Raises:
            ValueError: Outputs are not finite, or prompts that name a group have the same as those that do not.
        """
        groups, prefix = range(1, len(request.groups) + 1), f"{POSITIONS}/0/"
        paths = sorted(key.removeprefix(prefix) for key in sums if key.startswith(prefix))
        if not before:
            return {f"{DIRECTION}/{path}": _directions(sums, path, groups).float() for path in paths}
        mean = partial(_mean, sums)
        found = dict(before)
        for path in paths:
            alphas = [mean(RESPONSE, POSITIONS, row, path)[:, row - 1] for row in groups]
            found[f"{ALPHA}/{path}"] = torch.stack(alphas, 1).float()
        separations, midpoints = [], []
        for path in paths:
            other = mean(LARGEST, IMAGES, 0, path)  # (G,)
            own = torch.stack([mean(LARGEST, IMAGES, row, path)[row - 1] for row in groups])
            spread = (mean(SQUARE, IMAGES, 0, path) - other.square()).clamp(min=0).sqrt()
            separations.append(((own - other) / spread.clamp(min=1e-12)).min())
            midpoints.append((own + other) / 2)
        gate = int(torch.stack(separations).argmax())
        return {**found, GATE: torch.tensor(gate), THRESHOLD: midpoints[gate].float()}

    def is_finished(self, request: FitRequest, found: Mapping[str, Tensor]) -> bool:
        """Return whether the gate is known."""
        return GATE in found


def cross_attention_outputs(denoiser: nn.Module) -> tuple[str, ...]:
    """Return the addresses of all cross-attention, sorted.

    Raises:
        UnfitModelError: There is none.
    """
    paths = [name for name, module in denoiser.named_modules() if getattr(module, "is_cross_attention", False)]
    if not paths:
        raise UnfitModelError(
            f"gated_cross_attention steers the outputs of cross-attention, found none in the "
            f"{type(denoiser).__name__}; use another method"
        )
    return tuple(sorted(paths))


class _Watcher:
    """Sums outputs of one layer by step: themselves, or their responses to directions (S, G, C)."""

    def __init__(self, directions: Tensor | None) -> None:
        self._directions = None if directions is None else directions.double()
        self._sums: dict[str, dict[int, Tensor]] = {}

    def __call__(self, step: int, h: Tensor) -> None:
        x = _positions(h).double().cpu()
        self._add(POSITIONS, step, torch.tensor(float(x.shape[0] * x.shape[1]), dtype=torch.float64))
        if self._directions is None:
            self._add(OUTPUT, step, x.sum((0, 1)))
            return
        responses = x @ self._directions[step].T  # (B, T, G)
        self._add(RESPONSE, step, responses.sum((0, 1)))
        if step == 0:
            largest = responses.amax(1)
            self._add(LARGEST, 0, largest.sum(0))
            self._add(SQUARE, 0, largest.square().sum(0))
            self._add(IMAGES, 0, torch.tensor(float(len(x)), dtype=torch.float64))

    def _add(self, key: str, step: int, own: Tensor) -> None:
        sums = self._sums.setdefault(key, {})
        sums[step] = sums[step] + own if step in sums else own

    def sums(self) -> dict[str, Tensor]:
        """Return the sums by step, those of step 0 alone without this axis."""
        alone = (LARGEST, SQUARE, IMAGES)
        return {
            key: sums[0] if key in alone else torch.stack([sums[step] for step in sorted(sums)])
            for key, sums in self._sums.items()
        }


def _directions(sums: Mapping[str, Tensor], path: str, groups: range) -> Tensor:
    """Return the normalised differences (S, G, C) of a layer."""
    unnamed = _mean(sums, OUTPUT, POSITIONS, 0, path)
    differences = torch.stack([_mean(sums, OUTPUT, POSITIONS, row, path) - unnamed for row in groups], 1)
    lengths = differences.norm(dim=2, keepdim=True)
    if not bool(lengths.isfinite().all()) or not bool((lengths > 0).all()):
        raise ValueError(
            f"{path}: expected finite outputs that differ if a prompt names a group, found NaN, infinity or no "
            "difference; try another model.dtype, or other words for the groups"
        )
    directions: Tensor = differences / lengths
    return directions


def _mean(sums: Mapping[str, Tensor], key: str, count: str, row: int, path: str) -> Tensor:
    total, number = sums[f"{key}/{row}/{path}"], sums[f"{count}/{row}/{path}"]
    return total / number.view(*number.shape, *(1,) * (total.ndim - number.ndim))


def _positions(h: Tensor) -> Tensor:
    """Return outputs (B, T, C) of a map (B, C, T, 1), in float32."""
    x: Tensor = h.flatten(2).transpose(1, 2).float()
    return x


def _section(request: FitRequest) -> GatedCrossAttentionConfig:
    if not isinstance(request.mitigation, GatedCrossAttentionConfig):
        raise TypeError(f"expected a section of gated_cross_attention, found {request.mitigation!r}")
    return request.mitigation
