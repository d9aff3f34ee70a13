"""Fair PCA of prompt embeddings (Kleindessner et al. 2023; on prompts as FairImagen, 2025).

Fair PCA keeps the directions of largest variance among those in which all groups have the same mean:
max_U tr Uᵀ X ᵀX U with Uᵀ U = I and Uᵀ (μ_g − μ) = 0 (Kleindessner et al., eq. 2; X is not centred, as FairImagen).
FairImagen then adds a component in the removed directions that it draws from the named prompts; here it is the mean of
the assigned group, so that the shares of the groups are those of the assignment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from audit.config.mitigations.texts import FairPcaConfig
from audit.dissect.lens import Lens
from audit.mitigate.fitted_tensors import fitted_tensors
from audit.mitigate.method import Batch, Fit, Intervene
from audit.models.generator import DiffusionGenerator
from audit.models.intervention import Intervention
from audit.planning.fits import FitRequest
from audit.planning.plan import text_naming
from audit.records.work import Prompt

# G groups, L tokens, D width of an embedding, R removed directions, K kept directions, B images

COUNT, SUM, SECOND = "count", "sum", "second"
REMOVED, KEPT, INSIDE = "removed", "kept", "inside"
_SMALLEST = 1e-6
"""Directions whose singular value is below this share of the largest are rounding errors."""


class FairPca:
    """Projects the embeddings of the prompts."""

    def __init__(self) -> None:
        self.fit: Fit | None = FairPcaFit()

    def ready(self, mitigation: FairPcaConfig, lens: Lens | None, fitted: Path | None) -> Intervene:
        """Load the projections.

        Raises:
            ValueError: There is no fit, or its file cannot be read.
        """
        found = fitted_tensors(mitigation.name, fitted)

        def intervene(batch: Batch) -> Intervention:
            if mitigation.strength == 0:
                return Intervention(batch.assigned, range(batch.steps))
            edit = ProjectedEmbeddings(found, mitigation, batch.assigned)
            return Intervention(batch.assigned, range(batch.steps), embeddings=edit)

        return intervene


class FairPcaFit:
    """Sums embeddings of prompts that name a group, and their products, over all tokens of a text."""

    def part(self, generator: DiffusionGenerator, request: FitRequest, prompt: Prompt) -> dict[str, Tensor]:
        """Return for each argument of the pipeline: tokens ``(G,)``, sums ``(G, D)`` and products ``(D, D)``."""
        section = _section(request)
        texts = [text_naming(section, group, request.template, prompt) for group in request.groups]
        embedded = [generator.embeddings(text) for text in texts]
        sums = {}
        for name in embedded[0]:
            rows = [one[name].double().cpu().reshape(-1, one[name].shape[-1]) for one in embedded]
            sums[f"{COUNT}/{name}"] = torch.tensor([len(own) for own in rows], dtype=torch.float64)
            sums[f"{SUM}/{name}"] = torch.stack([own.sum(0) for own in rows])
            if section.dimensions is not None:
                sums[f"{SECOND}/{name}"] = torch.stack([own.T @ own for own in rows]).sum(0)
        return sums

    def join(self, request: FitRequest, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the removed or kept directions of each argument, and each group's mean in the removed ones.

        Raises:
            ValueError: Embeddings are not finite, or do not differ between the groups.
        """
        if not all(bool(tensor.isfinite().all()) for tensor in sums.values()):
            raise ValueError("expected finite embeddings, found NaN or infinity; try another model.dtype")
        found = {}
        for name in (key.partition("/")[2] for key in sums if key.startswith(f"{SUM}/")):
            means = sums[f"{SUM}/{name}"] / sums[f"{COUNT}/{name}"][:, None]
            removed = differences(means)
            if not len(removed):
                raise ValueError(f"expected texts of the groups that differ, found the same {name} for all; use others")
            if _section(request).dimensions is None:
                found[f"{REMOVED}/{name}"] = removed.float()
            else:
                kept = principal(sums[f"{SECOND}/{name}"], removed, _section(request).dimensions or 0)
                found[f"{KEPT}/{name}"] = kept.float()
            for group, mean in zip(request.groups, means, strict=True):
                found[f"{INSIDE}/{name}/{group}"] = ((mean @ removed.T) @ removed).float()
        return found


def differences(means: Tensor) -> Tensor:
    """Return an orthonormal basis ``(R, D)`` of the differences between the groups' means ``(G, D)``, R < G."""
    _, sizes, directions = torch.linalg.svd(means - means.mean(0), full_matrices=False)
    basis: Tensor = directions[(sizes > _SMALLEST * means.norm()).nonzero().flatten()][: len(means) - 1]
    return basis


def principal(second: Tensor, removed: Tensor, dimensions: int) -> Tensor:
    """Return the eigenvectors ``(K, D)`` with the largest eigenvalues of XᵀX outside the removed directions.

    Args:
        second: XᵀX, (D, D).
        removed: Orthonormal, (R, D).
        dimensions: K; D − R if that is less.
    """
    outside = torch.eye(len(second), dtype=second.dtype) - removed.T @ removed
    _, vectors = torch.linalg.eigh(outside @ second @ outside)  # ascending; the removed directions have 0
    most = min(dimensions, len(second) - len(removed))
    kept: Tensor = vectors[:, -most:].T
    return kept


class ProjectedEmbeddings:
    """x' = x + s (P x + p · V Vᵀ μ_g − x) for every token x: P projects, V spans the removed directions."""

    def __init__(self, found: Mapping[str, Tensor], settings: FairPcaConfig, assigned: Sequence[str]) -> None:
        self._found, self._settings, self._assigned = found, settings, assigned

    def __call__(self, embedded: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Change embeddings (B, L, D) or (B, D)."""
        return {name: self._changed(name, rows) for name, rows in embedded.items()}

    def _changed(self, name: str, rows: Tensor) -> Tensor:
        x, settings = rows.float(), self._settings
        inside = torch.stack([self._found[f"{INSIDE}/{name}/{group}"] for group in self._assigned])
        mean = inside.view(len(rows), *(1,) * (rows.ndim - 2), -1)
        change = self._projected(name, x) + settings.push * mean - x
        return (x + settings.strength * change).to(rows.dtype)

    def _projected(self, name: str, x: Tensor) -> Tensor:
        kept = self._found.get(f"{KEPT}/{name}")
        if kept is not None:
            return (x @ kept.T) @ kept
        removed = self._found[f"{REMOVED}/{name}"]
        return x - (x @ removed.T) @ removed


def _section(request: FitRequest) -> FairPcaConfig:
    if not isinstance(request.mitigation, FairPcaConfig):
        raise TypeError(f"expected a section of fair_pca, found {request.mitigation!r}")
    return request.mitigation
