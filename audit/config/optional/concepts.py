"""The section ``concepts`` of a config: dictionaries of what blocks add, composition over steps, edits by stage."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from audit.config.fields import EachOnce, Fraction, GroupName, GrowingSection, ModulePath, Section, Text
from audit.config.optional.segmenters import SegmenterConfig

Strengths = Annotated[tuple[Annotated[float, Field(gt=0, le=1e6)], ...], Field(strict=False, min_length=1), EachOnce]


class StagesConfig(GrowingSection):
    """Edits of concepts in early, middle and final steps."""

    later: ClassVar[tuple[str, ...]] = ("styles",)

    block: ModulePath | None = None
    """Block whose update is edited; the middle one of ``concepts.blocks`` if unset."""
    prompts: int = Field(8, ge=1, le=10_000)
    """Prompts whose images are edited, the first ones of the audit."""
    images: int = Field(8, ge=1, le=10_000)
    """Images of each of these prompts."""
    calibration_images: int = Field(2, ge=1, le=10_000)
    """Other images of each of these prompts, on which strengths are chosen."""
    attributes: Annotated[tuple[GroupName, ...], Field(strict=False, min_length=1), EachOnce] | None = None
    """Attributes whose groups are edited in the whole picture; all audited ones if unset."""
    styles: Annotated[tuple[Text, ...], Field(strict=False, max_length=32), EachOnce] = ()
    """Looks of a whole picture, as a prompt names them after a comma (``oil painting``). CLIP says which pictures show
    them."""
    strengths: Strengths = (2.0, 6.0, 20.0, 60.0)
    """Strengths that are tried, each in every window: at 1, an edit is about as large as what the block adds."""
    features: int = Field(10, ge=1, le=10_000)
    """Latents of a dictionary that make up one concept."""
    least_similarity: Fraction = 0.7
    """Least mean similarity to the unedited images (CLIP-I) of a strength that is chosen, if any has it."""


class ConceptsConfig(Section):
    """What ``difflens-audit concepts`` measures."""

    blocks: Annotated[tuple[ModulePath, ...], Field(strict=False, max_length=12), EachOnce] = ()
    """Blocks whose updates (output minus input) are read. If empty, an attention of the last down block that has one,
    of the mid block, and of the first up block that has one."""
    steps: int = Field(9, ge=2, le=1000)
    """Steps that are recorded, evenly from the first to the last."""
    prompts: int = Field(20, ge=1, le=10_000)
    """Prompts whose images are recorded, the first ones of the audit."""
    images: int = Field(24, ge=4, le=100_000)
    """Images of each of these prompts: half of them train, a sixth sets thresholds, a third is measured."""
    expansion: int = Field(8, ge=1, le=256)
    """Latents of a dictionary for each channel."""
    k: int = Field(10, ge=1, le=1024)
    """Latents that are active at one place of a map."""
    sae_steps: int = Field(400, ge=1, le=1_000_000)
    """Training steps of each dictionary."""
    named_above: Fraction = 0.5
    """A latent is named after a part if the intersection over union of both is above this."""
    segmenter: SegmenterConfig = SegmenterConfig()
    stages: StagesConfig | None = None
    """Edits by stage; without this section none are made."""
