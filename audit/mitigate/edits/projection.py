"""Projection of an edit's change onto the directions that unedited activations use.

Steering can push activations where the model never puts them, and pictures then show artefacts. With ``project`` the
change of a map, h' − h, keeps only its part in the leading principal components of unedited activations, position by
position: h + B Bᵀ (h' − h). The components are those of the channels over all positions and steps, about the mean of
each step, so that one small matrix serves maps of any size. Its fit samples the prompts as they are.

Legend: B images, C channels, H W the map, S steps, K kept components.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from audit.config.mitigations.section import PROJECTION_IMAGES, ProjectableEdit
from audit.dissect.lens import Lens
from audit.mitigate.fitted_tensors import fitted_tensors
from audit.mitigate.method import Batch, Intervene, Method, RoundsFit, TrainedFit, in_rounds
from audit.mitigate.tools import FitTools
from audit.models.intervention import Edit, Intervention
from audit.planning.fits import FitRequest
from audit.records.work import Prompt, derive_seed

_OWN = "projection/"
"""Prefix of the tensors of this fit among those of the method's own."""

_COUNT, _SUM, _OUTER, _BASIS, _VARIANCE = "count", "sum", "outer", "basis", "variance"


class Projecting:
    """A method whose edits are projected if its section asks for that.

    Args:
        method: The method; its own fit is made together with that of the projection.
    """

    def __init__(self, method: Method) -> None:
        own = method.fit
        if isinstance(own, TrainedFit):
            raise TypeError("expected a method that is fitted in rounds, found one that is trained")
        self._method = method
        self.fit: RoundsFit | TrainedFit | None = ProjectionFit(None if own is None else in_rounds(own))

    def ready(self, mitigation: ProjectableEdit, lens: Lens | None, fitted: Path | None) -> Intervene:
        """Load what the method needs, and the components.

        Raises:
            ValueError: There is no lens or no fit.
        """
        intervene = self._method.ready(mitigation, lens, fitted)
        if mitigation.project is None:
            return intervene
        bases = _bases(fitted_tensors(mitigation.name, fitted), mitigation.project)

        def projected(batch: Batch) -> Intervention:
            own = intervene(batch)
            return replace(own, edits={path: ProjectedEdit(edit, bases[path]) for path, edit in own.edits.items()})

        return projected


@dataclass(frozen=True)
class ProjectedEdit:
    """An edit whose change is projected onto the rows of a basis.

    Attributes:
        edit: The edit.
        basis: Orthonormal rows (K, C).
    """

    edit: Edit
    basis: Tensor

    def __call__(self, step: int, h: Tensor) -> Tensor:
        """Edit maps ``(B, C, H, W)``; an image that the edit leaves as it is stays so, bit for bit."""
        after = self.edit(step, h)
        change = after.float() - h.float()
        kept = (self.basis.T @ (self.basis @ change.flatten(2))).view(h.shape)
        unchanged = (after == h).flatten(1).all(1).view(-1, 1, 1, 1)
        return torch.where(unchanged, h, h + kept.to(h.dtype))


class ProjectionFit:
    """Sums products of channels over unedited images, in the first round of the method's own fit.

    Args:
        own: The method's own fit; None if it has none.
    """

    def __init__(self, own: RoundsFit | None) -> None:
        self._own = own

    def rounds(self, request: FitRequest) -> int:
        """Return the rounds of the method's own fit, at least one."""
        return 1 if self._own is None else self._own.rounds(request)

    def part(
        self, tools: FitTools, request: FitRequest, prompt: Prompt, before: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return the sums of one prompt."""
        own = {} if self._own is None else self._own.part(tools, request, prompt, _without_own(before))
        return own if before or _share(request) is None else own | _sums(tools, request, prompt)

    def join(self, request: FitRequest, sums: Mapping[str, Tensor], before: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the method's own fit with all components at each place, the largest variance first.

        Raises:
            ValueError: A map holds numbers that are not finite.
        """
        found = {} if self._own is None else self._own.join(request, _without_own(sums), _without_own(before))
        kept = {name: tensor for name, tensor in before.items() if name.startswith(_OWN)}
        return found | kept | _components({name: sum_ for name, sum_ in sums.items() if name.startswith(_OWN)})

    def is_finished(self, request: FitRequest, found: Mapping[str, Tensor]) -> bool:
        """Return whether the method's own fit is finished."""
        return self._own is None or self._own.is_finished(request, _without_own(found))


class _Products:
    """Sums channels, and products of channels, over images and positions, in float64."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._count = torch.zeros(steps, dtype=torch.float64)
        self._sum = self._outer = torch.zeros(0)

    def __call__(self, step: int, h: Tensor) -> None:
        rows = h.double().flatten(2).transpose(1, 2).reshape(-1, h.shape[1])
        if not len(self._sum):
            channels = h.shape[1]
            self._sum = torch.zeros(self._steps, channels, dtype=torch.float64)
            self._outer = torch.zeros(channels, channels, dtype=torch.float64)
        self._count[step] += len(rows)
        self._sum[step] += rows.sum(0).cpu()
        self._outer += (rows.T @ rows).cpu()

    def sums(self, path: str) -> dict[str, Tensor]:
        """Return the sums by name."""
        named = {_COUNT: self._count, _SUM: self._sum, _OUTER: self._outer}
        return {f"{_OWN}{path}/{name}": tensor for name, tensor in named.items()}


def _sums(tools: FitTools, request: FitRequest, prompt: Prompt) -> dict[str, Tensor]:
    section, generator = request.mitigation, tools.generator
    paths = (tools.lens().hookpoint,) if section.uses_lens else section.edited_modules
    products = {path: _Products(generator.steps) for path in paths}
    seeds = [derive_seed("projection", prompt.id, i) for i in range(PROJECTION_IMAGES)]
    for start in range(0, len(seeds), request.sampling.batch):
        own = seeds[start : start + request.sampling.batch]
        generator.sample([prompt.text] * len(own), own, observers=dict[str, Any](products))
    return {name: tensor for path, one in products.items() for name, tensor in one.sums(path).items()}


def _components(sums: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return basis (C, C), rows by falling variance, and variances (C,) of each place."""
    found = {}
    for path in dict.fromkeys(name.removeprefix(_OWN).rpartition("/")[0] for name in sums):
        count, total, outer = (sums[f"{_OWN}{path}/{name}"] for name in (_COUNT, _SUM, _OUTER))
        within = outer - (total / count[:, None].sqrt()).T @ (total / count[:, None].sqrt())
        if not bool(within.isfinite().all()):
            raise ValueError(f"expected finite maps, found NaN or infinity at {path}; try another model.dtype")
        variances, vectors = torch.linalg.eigh(within / count.sum())
        found[f"{_OWN}{path}/{_BASIS}"] = vectors.flip(1).T.float().contiguous()
        found[f"{_OWN}{path}/{_VARIANCE}"] = variances.flip(0).clamp(min=0).float().contiguous()
    return found


def _bases(found: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """Return the fewest components (K, C) of each place that explain a share of the variance."""
    bases = {}
    for name, variances in found.items():
        if name.startswith(_OWN) and name.endswith(f"/{_VARIANCE}"):
            path = name.removeprefix(_OWN).removesuffix(f"/{_VARIANCE}")
            explained = variances.double().cumsum(0) / variances.double().sum()
            kept = min(int((explained < share * (1 - 1e-9)).sum()) + 1, len(variances))
            bases[path] = found[f"{_OWN}{path}/{_BASIS}"][:kept]
    return bases


def _without_own(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(_OWN)}


def _share(request: FitRequest) -> float | None:
    return request.mitigation.project if isinstance(request.mitigation, ProjectableEdit) else None
