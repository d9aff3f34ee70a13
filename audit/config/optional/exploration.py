"""The section ``explore`` of a config: directions of prompts inside the model, without training and without labels."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from audit.config.fields import EachOnce, Fraction, GroupName, Section, Text
from audit.config.optional.open_set import OpenSetConfig
from audit.config.optional.stress import StressConfig


class AxisConfig(Section):
    """Two ends of an axis, in words that are put before the neutral noun: ``cold``, ``warm``."""

    low: Text
    """Words of the end with score −1."""
    high: Text
    """Words of the end with score +1."""


class PicturesConfig(Section):
    """Pictures whose places on the axes are read; off without a folder."""

    folder: Text | None = None
    """Folder of pictures (PNG, JPEG, WebP) of any size, also in folders below it. Each is scaled to cover the size that
    the model samples, and its middle is kept."""
    images: int = Field(24, ge=8, le=1_000)
    """Images that the model makes of the neutral prompt and of both ends of each axis. Pictures are compared with
    them."""
    step: int | None = Field(None, ge=1, le=999)
    """Step at whose noise level pictures are read, counted from 0. If unset, half of the steps. At step 0 hardly
    anything of a picture is left."""


class ExploreConfig(Section):
    """What ``difflens-audit explore`` reads from the model."""

    hookpoint: Text | None = None
    """Module whose output is read. If unset, the first decoder block of a U-Net (``up_blocks.0``), and
    ``lens.hookpoint`` for any other network."""
    step: int = Field(0, ge=0, le=999)
    """Denoising step that is read, counted from 0. Step 0 takes one call of the denoiser."""
    seeds: int = Field(16, ge=1, le=10_000)
    """Noise seeds, the same for every prompt."""
    neutral: Text = "person"
    """Noun of the neutral prompt, with which all others are compared."""
    axes: dict[GroupName, AxisConfig] = Field({}, max_length=50)
    """Further axes. Each audited attribute has one from its first to its last group."""
    descriptors: Annotated[tuple[Text, ...], Field(strict=False, max_length=1000), EachOnce] = ()
    """Words that are compared with every prompt, beside the audited groups: ``friendly``, ``poor``."""
    modifiers: Annotated[tuple[Text, ...], Field(strict=False, max_length=100), EachOnce] = ()
    """Words that are put before what every prompt is about (``confident``, ``poor``), to see which of them moves which
    prompt on which axis."""
    names: int = Field(0, ge=0, le=1000)
    """Strongest bias features of each group that get the name of a prompt or descriptor, if the audit has a lens; 0 for
    none. They are read at a third of the steps."""
    check_prompts: int = Field(8, ge=0, le=1000)
    """Prompts of which images are sampled and judged, to measure how well scores predict perceived shares; 0 for
    none."""
    check_images: int = Field(24, ge=1, le=100_000)
    """Images of each of these prompts."""
    false_discovery_rate: Fraction = 0.05
    """Rate at which differences from the neutral prompt are marked."""
    open_set: OpenSetConfig = OpenSetConfig()
    stress: StressConfig = StressConfig()
    pictures: PicturesConfig = PicturesConfig()

    @model_serializer(mode="wrap")
    def _without_unused(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out later sections that ask for nothing, so that names of older explorations stay as they are."""
        unused = {name for name in ("open_set", "stress") if not getattr(self, name).images}
        unused |= set() if self.pictures.folder else {"pictures"}
        return {name: value for name, value in plain(self).items() if name not in unused}
