"""Attribution of a group's probability to latents: integrated gradients in closed form.

Decoder and head are affine, so the logits change linearly while the latents go from baseline to target. The path
integral (Sundararajan et al. 2017, Eq. 1) then reduces to one small vector per sample that is the same for all latents:

    IG_j(c) = Δz_j · Σ_g A[j, g] / T · M[c, g],    M[c, g] = ∫₀¹ p_c(α) (δ_cg - p_g(α)) dα

with A the effect of a latent on each logit, p = softmax(logits / T). The reconstruction error is constant on the path,
so p(1) is the probability of the true map.

Features are ranked by the same gradient times |Δz| (DiffLens' released code). The sign is then that of the gradient,
and a latent counts for the group whose probability it raises. With signed Δz, a latent that is inactive in the target
but active in a counterfactual baseline would count for the group in which it is inactive.

Shapes: B samples, P positions, N latents, k codes per position, G groups.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from audit.dissect.sae import SparseAutoencoder, SparseCodes

QUADRATURE_NODES = 16
"""Gauss-Legendre nodes for three or more groups; the completeness gap shows if they are not sufficient."""


@dataclass(frozen=True)
class Attribution:
    """Attribution of every group's probability to the latents that differ from the baseline.

    Attributes:
        entries: (B, P, k, G) attribution of each code entry.
        indices: (B, P, k) latent of each entry; the entries of a repeated latent are added.
        directions: (B, P, k) sign of each entry's change Δz: 1 if it increases from the baseline to the target.
        n_latents: N.
        completeness_gap: (B,) largest |Σ entries - (p(target) - p(baseline))| over the groups.
    """

    entries: Tensor
    indices: Tensor
    directions: Tensor
    n_latents: int
    completeness_gap: Tensor

    def when_raised(self) -> Attribution:
        """Return mean gradient times |Δz|: the effect of a higher activation on each group, for any sign of Δz.

        From the zero baseline, where no latent decreases, it equals the attribution itself. The completeness gap is
        that of the signed attribution, because only this one sums to the change of the probability.
        """
        return replace(self, entries=self.entries * self.directions.unsqueeze(-1))

    def by_position(self) -> Tensor:
        """Return the attribution (B, P, N, G)."""
        return self._dense(self.entries, self.indices)

    def by_sample(self) -> Tensor:
        """Return the attribution (B, N, G), summed over positions."""
        return self._dense(self.entries.flatten(1, 2), self.indices.flatten(1, 2))

    def _dense(self, entries: Tensor, indices: Tensor) -> Tensor:
        """Add entries (..., k, G) into latents (..., N, G)."""
        total = entries.new_zeros(*entries.shape[:-2], self.n_latents, entries.shape[-1])
        return total.scatter_add_(-2, indices.unsqueeze(-1).expand_as(entries), entries)


@dataclass(frozen=True)
class StreamingAttribution:
    """Sums of attributions over samples and steps; parts merge by ``+`` in any order.

    Attributes:
        sums: (G, N) float64.
        counts: (G,) float64, number of sample-steps in each group's row.
        gap: Largest completeness gap.
    """

    sums: Tensor
    counts: Tensor
    gap: float

    @classmethod
    def of(cls, attribution: Attribution, members: Tensor | None = None) -> StreamingAttribution:
        """Sum one attribution.

        Args:
            attribution: Attribution of B samples at one step.
            members: (B, G) weight of each sample in each group's row, for example 1 for the group that an image shows,
                as in DiffLens; None counts every sample for every group.
        """
        batch, _, _, groups = attribution.entries.shape
        weight = attribution.entries.new_ones(batch, groups) if members is None else members.to(attribution.entries)
        weighted = (attribution.entries * weight[:, None, None, :]).flatten(0, 2).double()
        sums = weighted.new_zeros(attribution.n_latents, groups).index_add_(0, attribution.indices.flatten(), weighted)
        return cls(sums.T.cpu(), weight.double().sum(0).cpu(), float(attribution.completeness_gap.max()))

    def __add__(self, other: StreamingAttribution) -> StreamingAttribution:
        """Merge the sums of two disjoint sets of sample-steps."""
        return StreamingAttribution(self.sums + other.sums, self.counts + other.counts, max(self.gap, other.gap))

    def mean(self) -> Tensor:
        """Return the mean attribution (G, N) over each group's sample-steps.

        Raises:
            ValueError: A group has no sample-steps.
        """
        if bool((self.counts <= 0).any()):
            empty = (self.counts <= 0).nonzero().flatten().tolist()
            raise ValueError(
                f"expected samples of every group, found none of groups {empty}; sample more group prompts"
            )
        return self.sums / self.counts[:, None]


def latent_effects(sae: SparseAutoencoder, weight: Tensor, positions: int) -> Tensor:
    """Return the effect A of each latent, at each position, on each logit of a head.

    It depends only on the lens and the step, so it should be computed only once.

    Args:
        sae: The autoencoder.
        weight: (G, C·H·W) of the head at one step.
        positions: H·W of the map; ignored for a whole-map autoencoder, which has one position.

    Returns:
        (P, N, G), the change of the logit if the latent changes by 1.
    """
    groups = weight.shape[0]
    positions = 1 if sae.shape.whole_map else positions
    if weight.shape[1] != sae.shape.d_in * positions:
        raise ValueError(
            f"expected a head over {sae.shape.d_in * positions} numbers ({sae.shape.d_in} x {positions} positions), "
            f"found {weight.shape[1]}; use heads and autoencoder of the same lens"
        )
    by_position = weight.to(sae.decoder.dtype).reshape(groups, sae.shape.d_in, positions)
    return torch.einsum("gcp,nc->png", by_position, sae.decoder.detach()) / sae.input_scale


def code_change(target: SparseCodes, baseline: SparseCodes | None = None) -> SparseCodes:
    """Return Δz = target - baseline as codes, each latent once with its total change; None is the zero baseline.

    A counterfactual baseline is the code of another group's prompt from the same noise (DiffLens, section A).
    """
    if baseline is None:
        return target
    before, _ = _look_up(baseline, target.indices)
    _, kept = _look_up(target, baseline.indices)
    fallen = torch.where(kept, torch.zeros_like(baseline.values), -baseline.values)
    return SparseCodes(
        torch.cat((target.values - before, fallen), -1), torch.cat((target.indices, baseline.indices), -1)
    )


def _look_up(codes: SparseCodes, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Return the value of each wanted latent (..., k) in ``codes``, 0 if it is missing, and whether it is present."""
    listed, order = codes.indices.sort(-1)
    place = torch.searchsorted(listed, wanted.contiguous()).clamp(max=listed.shape[-1] - 1)
    found = listed.gather(-1, place) == wanted
    return codes.values.gather(-1, order).gather(-1, place) * found, found


def integrated_gradients(
    change: SparseCodes, effects: Tensor, logits: Tensor, temperature: float = 1.0, nodes: int = QUADRATURE_NODES
) -> Attribution:
    """Attribute each group's probability to the latents that change; the result is exact for two groups.

    Args:
        change: Δz (B, P, k), from ``code_change``.
        effects: A (P, N, G), from ``latent_effects``.
        logits: (B, G) of the target map, including the reconstruction error.
        temperature: T of the softmax; DiffLens uses 1000 for Stable Diffusion.
        nodes: Gauss-Legendre nodes for three or more groups.

    Raises:
        ValueError: The batch is empty or the temperature is not positive.
    """
    if not len(logits) or temperature <= 0:
        raise ValueError(
            f"expected at least one sample and a temperature above 0, found {len(logits)} samples, T={temperature}"
        )
    positions = torch.arange(effects.shape[0], device=effects.device)[:, None]
    # Effect of each entry on the scaled logits, times the change of the entry.
    moves = effects[positions, change.indices] * (change.values / temperature).unsqueeze(-1)
    end = logits / temperature
    start = end - moves.sum((1, 2))
    entries = moves @ _mean_softmax_jacobian(start, end, nodes).transpose(1, 2).unsqueeze(1)
    gap = (entries.sum((1, 2)) - (end.softmax(-1) - start.softmax(-1))).abs().amax(-1)
    return Attribution(entries, change.indices, change.values.sign(), effects.shape[1], gap)


def rank_features(scores: Tensor, count: int, *, shared: bool = False) -> dict[int, list[int]]:
    """Select the ``count`` latents with the largest positive score for each group (rows of ``scores``, (G, N)).

    Unless features are ``shared``, a latent belongs only to the group with its largest score, so groups have no latents
    in common. A group can get fewer than ``count``.
    """
    if count < 1:
        raise ValueError(f"expected at least 1 feature per group, found {count}; raise lens.features_per_group")
    owner = scores.argmax(0)
    chosen: dict[int, list[int]] = {}
    for group, row in enumerate(scores):
        order = row.argsort(descending=True, stable=True)
        fitting = order[((owner[order] == group) | shared) & (row[order] > 0)]
        chosen[group] = fitting[:count].tolist()
    return chosen


def _mean_softmax_jacobian(start: Tensor, end: Tensor, nodes: int) -> Tensor:
    """Return M (B, G, G), the mean Jacobian of the softmax on the straight line between two logit vectors (B, G)."""
    if start.shape[1] == 2:
        return _two_group_jacobian(start, end)
    places, weights = _gauss_legendre(nodes)
    at = torch.tensor(places, dtype=end.dtype, device=end.device)[:, None, None]
    weight = torch.tensor(weights, dtype=end.dtype, device=end.device)[:, None, None]
    p = torch.lerp(start, end, at).softmax(-1)
    mean = (weight * p).sum(0)
    return torch.diag_embed(mean) - torch.einsum("nbc,nbg->bcg", weight * p, p)


def _two_group_jacobian(start: Tensor, end: Tensor) -> Tensor:
    """Return the analytic M for two groups: the mean slope of the logistic function over an interval."""
    low, high = start[:, 1] - start[:, 0], end[:, 1] - end[:, 0]
    width = high - low
    # For a narrow interval the difference quotient loses precision; the slope at the middle has an error of width²/24.
    narrow = width.abs() < 1e-3
    middle = ((low + high) / 2).sigmoid()
    quotient = (high.sigmoid() - low.sigmoid()) / torch.where(narrow, torch.ones_like(width), width)
    slope = torch.where(narrow, middle * (1 - middle), quotient)
    sign = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=end.dtype, device=end.device)
    return slope[:, None, None] * sign


@lru_cache
def _gauss_legendre(nodes: int) -> tuple[list[float], list[float]]:
    """Return the nodes and weights of the quadrature rule on [0, 1]."""
    places, weights = np.polynomial.legendre.leggauss(nodes)
    return ((places + 1) / 2).tolist(), (weights / 2).tolist()
