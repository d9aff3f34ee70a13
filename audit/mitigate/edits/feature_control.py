"""Feature control: the DiffLens edit with other latents than attribution chose, as in its ablation (Shi et al. 2025).

*random* is the control for any choice. *activation* takes the latents with the largest mean activation for the group,
as Act@S does. *firing_difference* takes those whose mean activation exceeds the mean of the other groups most. Means
are over images of prompts that name a group, all steps and positions. With ``equal_norm`` the change of a map is scaled
to the norm of the change that the attributed features of the lens would make at the same strength.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from audit.config.mitigations.edits import FeatureControlConfig
from audit.dissect.lens import BiasFeature, Lens
from audit.mitigate.edits.difflens import DiffLensEdit, Steering
from audit.mitigate.fitted_tensors import fitted_tensors
from audit.mitigate.method import Batch, Fit, Intervene, RoundsFit
from audit.mitigate.tools import FitTools
from audit.models.intervention import Edit, Intervention
from audit.planning.fits import FitRequest
from audit.planning.plan import text_naming, window_of
from audit.records.work import Prompt, derive_seed

# G groups, B images, S steps, P positions, N latents, F features of a group

COUNT, TOTAL, ATTRIBUTED, CHOSEN, FIRING = "count", "total", "attributed", "chosen", "firing"


class FeatureControl:
    """Edits maps with latents that were not chosen by attribution."""

    def __init__(self) -> None:
        self.fit: Fit | RoundsFit | None = FeatureControlFit()

    def ready(self, mitigation: FeatureControlConfig, lens: Lens | None, fitted: Path | None) -> Intervene:
        """Load the latents and their mean activations.

        Raises:
            ValueError: There is no lens or no fit.
        """
        found = fitted_tensors(mitigation.name, fitted)
        if lens is None:
            raise ValueError(f"mitigation {mitigation.name!r} edits the model through its lens, found none; dissect it")
        own, name = _with_features(lens, mitigation.attribute, found), mitigation.attribute

        def intervene(batch: Batch) -> Intervention:
            steering = Steering(batch.assigned, (mitigation.strength,) * len(batch.assigned))
            edit: Edit = DiffLensEdit(own, name, "add", steering)
            if mitigation.equal_norm:
                edit = EqualNorm(edit, DiffLensEdit(lens, name, "add", steering))
            window = window_of(mitigation.window, batch.steps)
            return Intervention(batch.assigned, window, mitigation.reverse_step, edits={lens.hookpoint: edit})

        return intervene


@dataclass(frozen=True)
class EqualNorm:
    """An edit whose change of each image's map has the norm of another edit's change."""

    edit: Edit
    other: Edit

    def __call__(self, step: int, h: Tensor) -> Tensor:
        """Edit maps ``(B, C, H, W)``."""
        before = h.float()
        change, wanted = self.edit(step, before) - before, self.other(step, before) - before
        norm = change.flatten(1).norm(dim=1)
        scale = torch.where(norm > 0, wanted.flatten(1).norm(dim=1) / norm.clamp(min=torch.finfo(norm.dtype).tiny), 0.0)
        return h + (scale.view(-1, 1, 1, 1) * change).to(h.dtype)


class FeatureControlFit:
    """Chooses latents by their sums over all steps and positions in a first round, and averages them in a second."""

    def rounds(self, request: FitRequest) -> int:
        """Return 2."""
        return 2

    def part(
        self, tools: FitTools, request: FitRequest, prompt: Prompt, before: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Sum the latents (N,) of each group's images, then the chosen ones (S, P, F)."""
        section, lens, generator = _section(request), tools.lens(), tools.generator
        seeds = [derive_seed("feature_control", prompt.id, i) for i in range(section.images_per_group)]
        sums = {COUNT: torch.tensor(float(len(seeds)), dtype=torch.float64)}
        for row, group in enumerate(request.groups):
            text = text_naming(section, group, request.template, prompt)
            adder = _LatentAdder(lens, before[CHOSEN][row] if before else None)
            for start in range(0, len(seeds), request.sampling.batch):
                own = seeds[start : start + request.sampling.batch]
                generator.sample([text] * len(own), own, observers={lens.hookpoint: adder})
            sums[f"{FIRING if before else TOTAL}/{group}"] = adder.total()
        if not before:
            sums[ATTRIBUTED] = _attributed(lens, section.attribute)
        return sums

    def join(self, request: FitRequest, sums: Mapping[str, Tensor], before: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Choose the latents (G, F), then return their mean activations (S, P, F) by group too.

        Raises:
            ValueError: Fewer latents can be chosen than are asked for.
        """
        section = _section(request)
        if before:
            means = {f"{FIRING}/{g}": (sums[f"{FIRING}/{g}"] / sums[COUNT]).float() for g in request.groups}
            return {**before, **means}
        totals = torch.stack([sums[f"{TOTAL}/{group}"] for group in request.groups])
        return {CHOSEN: chosen_latents(section, totals, sums[ATTRIBUTED] > 0)}

    def is_finished(self, request: FitRequest, found: Mapping[str, Tensor]) -> bool:
        """Return whether the mean activations are known."""
        return any(key.startswith(f"{FIRING}/") for key in found)


def chosen_latents(section: FeatureControlConfig, totals: Tensor, attributed: Tensor) -> Tensor:
    """Return the latents (G, F) of each group.

    Args:
        section: The choice.
        totals: (G, N) sum of each latent over the images of each group.
        attributed: (N,) whether attribution chose a latent for any group; a random choice leaves these out.

    Raises:
        ValueError: Fewer latents can be chosen than are asked for.
    """
    groups, wanted = len(totals), section.features_per_group
    if section.choice == "random":
        free = ((totals.sum(0) > 0) & ~attributed).nonzero().flatten()
        if len(free) < groups * wanted:
            raise ValueError(
                f"expected {groups * wanted} active latents that attribution did not choose, found {len(free)}; lower "
                "features_per_group"
            )
        numbers = torch.Generator().manual_seed(derive_seed("feature_control", "random"))
        return free[torch.randperm(len(free), generator=numbers)[: groups * wanted]].view(groups, wanted)
    if totals.shape[1] < wanted:
        raise ValueError(f"expected at most the {totals.shape[1]} latents of the lens, found {wanted}; lower it")
    others = (totals.sum(0) - totals) / max(1, groups - 1)
    return (totals - others if section.choice == "firing_difference" else totals).topk(wanted, dim=1).indices


class _LatentAdder:
    """Sums latents over images in float64: all of them over steps and positions, or some by step and position."""

    def __init__(self, lens: Lens, chosen: Tensor | None) -> None:
        self._lens, self._chosen = lens, chosen
        self._sums: dict[int, Tensor] = {}

    def __call__(self, step: int, h: Tensor) -> None:
        latents = self._lens.sae.latents_of_map(h.float()).double().cpu()  # (B, P, N)
        own = latents.sum((0, 1)) if self._chosen is None else latents[..., self._chosen].sum(0)
        self._sums[step] = self._sums[step] + own if step in self._sums else own

    def total(self) -> Tensor:
        """Return ``(N,)``, or ``(S, P, F)``."""
        by_step = torch.stack([self._sums[step] for step in sorted(self._sums)])
        return by_step.sum(0) if self._chosen is None else by_step


def _attributed(lens: Lens, attribute: str) -> Tensor:
    marks = torch.zeros(lens.sae.shape.n_latents, dtype=torch.float64)
    for features in lens.features[attribute].values():
        marks[[feature.latent for feature in features]] = 1
    return marks


def _with_features(lens: Lens, attribute: str, found: Mapping[str, Tensor]) -> Lens:
    """Return the lens with other features for one attribute."""
    features, firing = {}, {}
    for group, latents in zip(lens.groups[attribute], found[CHOSEN].tolist(), strict=True):
        mean = found[f"{FIRING}/{group}"]
        per_step = mean.mean(1)
        features[group] = tuple(
            BiasFeature(latent, 0.0, tuple(per_step[:, column].tolist())) for column, latent in enumerate(latents)
        )
        firing[group] = mean
    return replace(lens, features={attribute: features}, firing={attribute: firing})


def _section(request: FitRequest) -> FeatureControlConfig:
    if not isinstance(request.mitigation, FeatureControlConfig):
        raise TypeError(f"expected a section of feature_control, found {request.mitigation!r}")
    return request.mitigation
