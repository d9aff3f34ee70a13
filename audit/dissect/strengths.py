"""Edit strengths: the strengths tried in a search, their effects and side effects, and the selection of one.

This module loads no network: a driver selects strengths from the results of its workers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

Control = Literal["full", "partial", "none"]
Source = Literal["searched", "predicted"]

LADDER = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
"""Strengths to try, from weak to strong; 1 adds the mean activation of the features in images of their group."""
SUFFICIENT = 0.92
"""Mean probability of the assigned group from which an edit is strong enough."""
CONTROLLED_FROM = 0.5
"""Mean probability of the assigned group below which an edit does not control a prompt: most images show another."""
UNTELLABLE = 0.1
"""Largest difference that is not significant with a dozen trial images. An edit with a smaller effect is not used. Of
two edits whose worth differs by less, a sufficient one is preferred to a weaker one that is not sufficient."""
PATIENCE = 2
"""Number of consecutive strengths without improvement after which the search for a group ends."""

Strengths = dict[str, dict[str, dict[str, "GroupStrength"]]]
"""Attribute → prompt id → group → strength."""


@dataclass(frozen=True)
class Tried:
    """The result of one strength for one group of one prompt, compared with unedited images of the same seeds.

    Attributes:
        strength: Strength of the edit.
        shown: Mean probability of the assigned group; it is 0 for an image without a face.
        changed: Other attribute → share of the images whose perceived group changed. Unedited images have the same
            noise, so strength 0 changes nothing, and all changes are caused by the edit.
        lost: Share of the images that lost their face.
    """

    strength: float
    shown: float
    changed: dict[str, float]
    lost: float = 0.0

    @property
    def side_effect(self) -> float:
        """Largest share of images in which another attribute changed, or the face was lost."""
        return max([self.lost, *self.changed.values()])

    def worth(self, budget: float) -> float:
        """Return the share of images that show their group, minus the side effect divided by ``budget``."""
        return self.shown - self.side_effect / budget


@dataclass(frozen=True)
class GroupStrength:
    """The strength of one prompt's edit towards one group, and its source.

    Attributes:
        strength: The selected strength; 0 means no edit.
        source: ``searched`` with trial images, or ``predicted`` from the prompt's first denoising step.
        tried: All strengths that were tried, from weak to strong; empty for a predicted strength.
    """

    strength: float
    source: Source
    tried: tuple[Tried, ...] = ()

    @property
    def drawn(self) -> Tried | None:
        """The trial result of the strength, None if it was not tried."""
        return next((tried for tried in self.tried if tried.strength == self.strength), None)

    @property
    def control(self) -> Control | None:
        """Whether the images show the group they are steered to; ``none``: most do not. None if it was not tried."""
        if self.drawn is None:
            return None
        return (
            "full" if self.drawn.shown >= SUFFICIENT else "partial" if self.drawn.shown >= CONTROLLED_FROM else "none"
        )

    def as_data(self) -> dict[str, Any]:
        """Return it as plain data; derived values are included for readers and ignored by ``of_data``."""
        drawn = self.drawn
        return {
            "strength": self.strength,
            "source": self.source,
            "control": self.control,
            "shown": None if drawn is None else drawn.shown,
            "side_effect": None if drawn is None else drawn.side_effect,
            "tried": [asdict(tried) for tried in self.tried],
        }

    @classmethod
    def of_data(cls, data: Mapping[str, Any]) -> GroupStrength:
        """Read it from plain data."""
        return cls(data["strength"], data["source"], tuple(Tried(**tried) for tried in data["tried"]))


def is_finished(tried: Sequence[Tried], budget: float) -> bool:
    """Return whether the search can stop: the edit is sufficient, or side effects grow faster than the effect."""
    if tried[-1].shown >= SUFFICIENT:
        return True
    worth = [rung.worth(budget) for rung in tried]
    return len(worth) - 1 - worth.index(max(worth)) >= PATIENCE


def choose_strength(tried: Sequence[Tried], budget: float) -> GroupStrength:
    """Select the tried strength with the largest worth; 0 if its effect is not significant with the trial images.

    Of equal strengths the weakest is selected. A sufficient strength is preferred if the difference in worth is not
    significant.

    A stronger edit has a larger worth as long as the share of images that show their group grows by more than
    ``1 / budget`` times the share in which anything else changes.

    Args:
        tried: All tried strengths, from weak to strong, strength 0 first.
        budget: Images that may change in another way for each image that is moved to its group.
    """
    unedited, best = tried[0], max(tried, key=lambda rung: rung.worth(budget))
    if best.shown - unedited.shown <= UNTELLABLE:
        best = unedited
    enough = next((rung for rung in tried if rung.shown >= SUFFICIENT), best)
    if enough.worth(budget) >= max(best.worth(budget) - UNTELLABLE, unedited.worth(budget)):
        best = enough
    return GroupStrength(best.strength, "searched", tuple(tried))


def choose_strengths(tried: Mapping[str, Sequence[Tried]], budget: float) -> dict[str, GroupStrength]:
    """Select the strength of every group of one prompt.

    If a group cannot be controlled, no images are steered to groups whose share in the unedited images is above that of
    equal shares. Otherwise these groups would gain images from the others, and the shares would become less equal.

    Args:
        tried: Group → all tried strengths, from weak to strong, strength 0 first.
        budget: Images that may change in another way for each image that is moved to its group.
    """
    chosen = {group: choose_strength(rungs, budget) for group, rungs in tried.items()}
    if all(found.control != "none" for found in chosen.values()):
        return chosen
    return {
        group: replace(found, strength=0.0) if found.tried[0].shown > 1 / len(tried) else found
        for group, found in chosen.items()
    }


def strengths_as_data(strengths: Mapping[str, Mapping[str, Mapping[str, GroupStrength]]]) -> dict[str, Any]:
    """Return strengths as plain data."""
    return {
        attribute: {
            prompt: {group: found.as_data() for group, found in by_group.items()}
            for prompt, by_group in prompts.items()
        }
        for attribute, prompts in strengths.items()
    }


def strengths_of_data(data: Mapping[str, Mapping[str, Mapping[str, Mapping[str, Any]]]]) -> Strengths:
    """Read strengths from plain data."""
    return {
        attribute: {
            prompt: {group: GroupStrength.of_data(found) for group, found in by_group.items()}
            for prompt, by_group in prompts.items()
        }
        for attribute, prompts in data.items()
    }
