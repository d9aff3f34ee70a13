"""Decides, from what the baseline images show, which images an arm changes and what its captions must keep.

An arm with ``if_needed`` looks at the image without the intervention first. The baseline of the same noise is this
image, so that an audit does not sample it again.

Legend: B rows of a batch, n images of the shard.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit.config.mitigations.arms import ArmConfig, keeping_blocks, kept_attributes, parts_of
from audit.generation.settings import ShardSettings
from audit.models.intervention import Intervention
from audit.planning.plan import kept_phrase, text_with, window_of
from audit.records.work import Prompt

Groups = tuple[str | None, ...]
"""Group of each image, None if it shows none of the audited ones."""

Phrases = tuple[Mapping[str, str], ...]
"""Attribute → phrase for the group that must stay, of each image."""


@dataclass(frozen=True)
class Shown:
    """What the baseline images show.

    Attributes:
        groups: Attribute → group of each of the B images.
    """

    groups: Mapping[str, Groups]

    @classmethod
    def of(cls, codes: Mapping[str, NDArray[np.int64]], settings: ShardSettings, batch: int) -> Shown:
        """Return the groups of the n images, the last one repeated as in their batch.

        Args:
            codes: Attribute → index of the group of each of the n images, negative for none.
            settings: Settings of the shard.
            batch: B.
        """
        found = {}
        for name, own in codes.items():
            names = settings.groups(name)
            shown = [names[code] if code >= 0 else None for code in own.tolist()]
            found[name] = (*shown, *shown[-1:] * (batch - len(shown)))
        return cls(found)

    def stay(self, arm: ArmConfig, assigned: Mapping[str, Sequence[str | None]]) -> NDArray[np.bool_]:
        """Return which images the arm leaves as they are, shape (B,): those that show all their assigned groups.

        Args:
            arm: The arm; without ``if_needed`` it leaves none.
            assigned: Steered attribute → group of each image.
        """
        found = np.full(len(next(iter(assigned.values()))), arm.if_needed is not None)
        for name, own in assigned.items():
            found &= [shown == to for shown, to in zip(self.groups[name], own, strict=True)]
        return found

    def phrases(self, arm: ArmConfig, settings: ShardSettings) -> Phrases:
        """Return the phrases that keep what the images show; an attribute without a group has none."""
        names = kept_attributes(arm, tuple(one.name for one in settings.attributes))
        return tuple(_phrases(arm, names, row) for row in zip(*(self.groups[name] for name in names), strict=True))


def keeping(
    arm: ArmConfig, phrases: Phrases, assigned: Mapping[str, Groups], prompt: Prompt, template: str, steps: int
) -> tuple[Intervention, ...]:
    """Return the intervention whose captions keep what must stay; empty if the arm has captions that do so.

    They name the assigned group too: left open, it would be drawn anew where the intervention does not act.

    Args:
        arm: The arm, which acts beside this.
        phrases: Of each of the B images.
        assigned: Steered attribute → group of each image.
        prompt: Their prompt.
        template: Template of the prompts.
        steps: Denoising steps.
    """
    blocks = keeping_blocks(arm)
    if blocks is None or not any(phrases):
        return ()
    named = zip(phrases, zip(*assigned.values(), strict=True), strict=True)
    texts = tuple(text_with(template, prompt, {**own, **_phrases(arm, assigned, cell)}) for own, cell in named)
    nobody = (None,) * len(phrases)
    first = min(window_of(part.acting_window, steps).start for part in parts_of(arm))
    if not blocks:
        return (Intervention(nobody, range(steps), texts=texts),)
    return (Intervention(nobody, range(first, steps), block_texts=dict.fromkeys(blocks, texts)),)


def _phrases(arm: ArmConfig, attributes: Iterable[str], groups: Sequence[str | None]) -> dict[str, str]:
    """Return how a caption names the group of each attribute; an image without one has no phrase."""
    pairs = zip(attributes, groups, strict=True)
    return (
        {}
        if arm.if_needed is None
        else {name: kept_phrase(arm.if_needed, name, group) for name, group in pairs if group is not None}
    )
