"""The section ``explore.open_set``: attributes that no list names, and words of lists, in a prompt's images."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from audit.config.fields import Fraction, Section, Text

WordList = Literal["isco08", "winobias", "descriptors", "social_triggers", "objects", "places"]
"""Bundled lists of words."""


class OpenSetConfig(Section):
    """What is looked for in sampled images of every prompt."""

    images: int = Field(0, ge=0, le=100_000)
    """Images of each prompt: the first half finds, the second half confirms. 0 looks for nothing; from 64 on, large
    differences are found."""
    margin: Fraction = 0.1
    """Difference between the rate in a prompt and in the other prompts that is too small to matter. A finding is a
    difference that is larger, by test."""
    embedder: Literal["auto", "features", "clip"] = "auto"
    """Network that embeds images: that of ``quality.features`` or of ``quality.clip``. ``auto`` takes the features if
    there are any."""
    rare: int = Field(3, ge=0, le=100)
    """Rare features of each prompt that are shown."""
    lists: Annotated[tuple[WordList, ...], Field(strict=False)] = ()
    """Bundled lists whose words are scored in the images by the CLIP model of ``quality.clip``."""
    vocabulary: Text | None = None
    """Text file with further words, one on each line; ``#`` starts a comment."""
    checked_words: int = Field(20, ge=0, le=1000)
    """Most words of which images are sampled to check that the model and CLIP know them. A finding of a word without a
    check is not reported."""
    word_images: int = Field(24, ge=8, le=10_000)
    """Images of each of these words."""
