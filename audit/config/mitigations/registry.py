"""One intervention of a config: the key ``method`` selects its section."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Discriminator, Tag

from audit.config.mitigations.edits import (
    DiffLensConfig,
    FeatureControlConfig,
    GatedCrossAttentionConfig,
    MeanDifferenceConfig,
)
from audit.config.mitigations.guidance import FairDiffusionConfig
from audit.config.mitigations.texts import FairPcaConfig, PromptConfig
from audit.config.mitigations.trained import HDistributionConfig, LatentDirectionConfig, LatentEditingConfig
from audit.config.mitigations.weights import UceConfig

METHOD_TAG = "method:"
"""Prefix of the tag of a method's section in pydantic's errors; no key of a config starts with it."""


def _tag(value: object) -> str:
    """Return the tag of a mitigation's section: its method, or DiffLens if it names none."""
    method: Any = value.get("method", "difflens") if isinstance(value, dict) else getattr(value, "method", "difflens")
    return f"{METHOD_TAG}{method}"


MitigationConfig = Annotated[
    Annotated[DiffLensConfig, Tag(_tag({"method": "difflens"}))]
    | Annotated[PromptConfig, Tag(_tag({"method": "prompt"}))]
    | Annotated[MeanDifferenceConfig, Tag(_tag({"method": "mean_difference"}))]
    | Annotated[FeatureControlConfig, Tag(_tag({"method": "feature_control"}))]
    | Annotated[GatedCrossAttentionConfig, Tag(_tag({"method": "gated_cross_attention"}))]
    | Annotated[FairPcaConfig, Tag(_tag({"method": "fair_pca"}))]
    | Annotated[FairDiffusionConfig, Tag(_tag({"method": "fair_diffusion"}))]
    | Annotated[UceConfig, Tag(_tag({"method": "uce"}))]
    | Annotated[LatentDirectionConfig, Tag(_tag({"method": "latent_direction"}))]
    | Annotated[LatentEditingConfig, Tag(_tag({"method": "latent_editing"}))]
    | Annotated[HDistributionConfig, Tag(_tag({"method": "h_distribution"}))],
    Discriminator(_tag),
]
"""One intervention."""

SearchableConfig = MeanDifferenceConfig | PromptConfig
"""One intervention whose strength can be searched without a lens."""
