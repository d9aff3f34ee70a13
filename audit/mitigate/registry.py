"""The methods of intervention by name, and the interventions of an audit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from audit.config.mitigations.registry import MitigationConfig
from audit.dissect.lens import Lens
from audit.mitigate.edits.difflens import DiffLens
from audit.mitigate.edits.feature_control import FeatureControl
from audit.mitigate.edits.gated_cross_attention import GatedCrossAttention
from audit.mitigate.edits.mean_difference import MeanDifference
from audit.mitigate.edits.projection import Projecting
from audit.mitigate.guidance.fair_diffusion import FairDiffusion
from audit.mitigate.method import Intervene, Method
from audit.mitigate.texts.fair_pca import FairPca
from audit.mitigate.texts.prompt import PromptMethod
from audit.mitigate.trained.entanglement_free_attention import EntanglementFreeAttention
from audit.mitigate.trained.finetuning import Finetuning
from audit.mitigate.trained.h_distribution import HDistribution
from audit.mitigate.trained.latent_direction import LatentDirection
from audit.mitigate.trained.latent_editing import LatentEditing
from audit.mitigate.weights.uce import Uce

METHODS: Mapping[str, Method] = {
    "difflens": Projecting(DiffLens()),
    "prompt": PromptMethod(),
    "mean_difference": Projecting(MeanDifference()),
    "feature_control": Projecting(FeatureControl()),
    "gated_cross_attention": GatedCrossAttention(),
    "fair_pca": FairPca(),
    "fair_diffusion": FairDiffusion(),
    "uce": Uce(),
    "latent_direction": LatentDirection(),
    "latent_editing": LatentEditing(),
    "h_distribution": HDistribution(),
    "entanglement_free_attention": EntanglementFreeAttention(),
    "finetuning": Finetuning(),
}
"""Name → method; the section of a method in the config has this name as ``method``."""


def ready_interventions(
    mitigations: Sequence[MitigationConfig], lens: Lens | None, fits: Mapping[str, Path]
) -> dict[str, Intervene]:
    """Load what the mitigations of an audit, and the parts of joint arms, need on a worker.

    Args:
        mitigations: The mitigations, each of one attribute.
        lens: Lens of the model, None if no method needs one.
        fits: Directory of the finished fit by the name of the mitigation.

    Returns:
        Functions that make the intervention of a batch, by the name of the mitigation.

    Raises:
        ValueError: A lens or a fit is missing.
    """
    return {one.name: METHODS[one.method].ready(one, lens, fits.get(one.name)) for one in mitigations}
