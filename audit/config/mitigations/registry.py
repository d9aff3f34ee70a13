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
from audit.config.mitigations.trained import (
    EntanglementFreeAttentionConfig,
    HDistributionConfig,
    LatentDirectionConfig,
    LatentEditingConfig,
)
from audit.config.mitigations.weights import FinetuningConfig, UceConfig

METHOD_TAG = "method:"
"""Prefix of the tag of a method's section in pydantic's errors; no key of a config starts with it."""


def tag_of(value: object) -> str:
    """Return the tag of a mitigation's section: its method, or DiffLens if it names none."""
    method: Any = value.get("method", "difflens") if isinstance(value, dict) else getattr(value, "method", "difflens")
    return f"{METHOD_TAG}{method}"


Methods = (
    Annotated[DiffLensConfig, Tag(tag_of({"method": "difflens"}))]
    | Annotated[PromptConfig, Tag(tag_of({"method": "prompt"}))]
    | Annotated[MeanDifferenceConfig, Tag(tag_of({"method": "mean_difference"}))]
    | Annotated[FeatureControlConfig, Tag(tag_of({"method": "feature_control"}))]
    | Annotated[GatedCrossAttentionConfig, Tag(tag_of({"method": "gated_cross_attention"}))]
    | Annotated[FairPcaConfig, Tag(tag_of({"method": "fair_pca"}))]
    | Annotated[FairDiffusionConfig, Tag(tag_of({"method": "fair_diffusion"}))]
    | Annotated[UceConfig, Tag(tag_of({"method": "uce"}))]
    | Annotated[LatentDirectionConfig, Tag(tag_of({"method": "latent_direction"}))]
    | Annotated[LatentEditingConfig, Tag(tag_of({"method": "latent_editing"}))]
    | Annotated[HDistributionConfig, Tag(tag_of({"method": "h_distribution"}))]
    | Annotated[EntanglementFreeAttentionConfig, Tag(tag_of({"method": "entanglement_free_attention"}))]
    | Annotated[FinetuningConfig, Tag(tag_of({"method": "finetuning"}))]
)
"""The sections, each with its tag."""

MitigationConfig = Annotated[Methods, Discriminator(tag_of)]
"""One intervention."""

SearchableConfig = MeanDifferenceConfig | PromptConfig
"""One intervention whose strength can be searched without a lens."""
