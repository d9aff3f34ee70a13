"""Decides, from what the baseline images show, which images an arm changes and what its captions must keep.

An arm with ``if_needed`` looks at the image without the intervention first. The baseline of the same noise is this
image, so that an audit does not sample it again.

Legend: B rows of a batch, n images of the shard.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
        """Return the phrases that keep what the images show; empty if the arm keeps nothing.

        An image has no phrase for an attribute of which it shows no group.
        """
        section, names = arm.if_needed, kept_attributes(arm, tuple(one.name for one in settings.attributes))
        if section is None or not names:
            return ()
        rows = zip(*(self.groups[name] for name in names), strict=True)
        return tuple(
            {
                name: kept_phrase(section, name, group)
                for name, group in zip(names, row, strict=True)
                if group is not None
            }
            for row in rows
        )


def keeping(arm: ArmConfig, phrases: Phrases, prompt: Prompt, template: str, steps: int) -> tuple[Intervention, ...]:
    """Return the intervention whose captions name the groups that must stay; empty if no caption names them alone.

    Args:
        arm: The arm, which acts beside this.
        phrases: Of each of the B images.
        prompt: Their prompt.
        template: Template of the prompts.
        steps: Denoising steps.
    """
    blocks = keeping_blocks(arm)
    if blocks is None or not phrases:
        return ()
    texts, unassigned = tuple(text_with(template, prompt, own) for own in phrases), (None,) * len(phrases)
    if not blocks:
        return (Intervention(unassigned, range(steps), texts=texts),)
    first = min(window_of(part.acting_window, steps).start for part in parts_of(arm))
    return (Intervention(unassigned, range(first, steps), block_texts=dict.fromkeys(blocks, texts)),)
