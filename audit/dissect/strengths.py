"""Edit strengths: what was drawn while one was searched, what it did beside its purpose, and which one is handed out.

Nothing here loads a network: a driver chooses strengths from the answers of its workers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Control = Literal["full", "partial", "none"]
Source = Literal["searched", "predicted"]

LADDER = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
"""Strengths that are tried, from weak to strong: 1 makes features fire as they do for their own group."""
SUFFICIENT = 0.92
"""Mean probability of the assigned group at which an edit is strong enough."""
CONTROLLED_FROM = 0.5
"""Mean probability of the assigned group below which an edit does not control a prompt: most images show another."""
UNTELLABLE = 0.1
"""Difference of worth that a dozen trial images cannot tell: within it, an edit that suffices goes before a weaker one
that does not."""
PATIENCE = 2
"""Rungs in a row that may fail to be worth more than a weaker one before the search of a group ends."""

Strengths = dict[str, dict[str, dict[str, "GroupStrength"]]]
"""Attribute → prompt id → group → strength."""


@dataclass(frozen=True)
class Tried:
    """One strength that was drawn for one group of one prompt, compared with the same seeds unedited.

    Attributes:
        strength: Of the edit.
        shown: Mean probability of the assigned group; an image without a face shows none.
        changed: Other attribute → share of the images whose perceived group changed. The same seed unedited has the
            same noise, so that strength 0 changes nothing: all of it is the edit's.
        lost: Share of the images that lost their face.
    """

    strength: float
    shown: float
    changed: dict[str, float]
    lost: float = 0.0

    @property
    def side_effect(self) -> float:
        """Largest share of images in which anything but the attribute itself changed."""
        return max([self.lost, *self.changed.values()])

    def worth(self, budget: float) -> float:
        """Images that show their group, less those that the side effects cost at ``budget`` of them per image."""
        return self.shown - self.side_effect / budget


@dataclass(frozen=True)
class GroupStrength:
    """The strength of one prompt's edit towards one group, and where it comes from.

    Attributes:
        strength: What is handed out; 0 leaves the images alone.
        source: ``searched``: it was drawn. ``predicted``: from the prompt's first denoising step.
        tried: Everything that was drawn, from weak to strong; empty where the strength is predicted.
    """

    strength: float
    source: Source
    tried: tuple[Tried, ...] = ()

    @property
    def drawn(self) -> Tried | None:
        """What the strength did when it was drawn, None where it was not."""
        return next((tried for tried in self.tried if tried.strength == self.strength), None)

    @property
    def control(self) -> Control | None:
        """Whether the images show the group they are steered to; ``none``: most do not. None where nobody looked."""
        if self.drawn is None:
            return None
        return (
            "full" if self.drawn.shown >= SUFFICIENT else "partial" if self.drawn.shown >= CONTROLLED_FROM else "none"
        )

    def as_data(self) -> dict[str, Any]:
        """Return it as plain data; what follows from the rest is there to be read, and ignored by ``of_data``."""
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
        """Read plain data back."""
        return cls(data["strength"], data["source"], tuple(Tried(**tried) for tried in data["tried"]))


def is_finished(tried: Sequence[Tried], budget: float) -> bool:
    """Whether climbing on is pointless: the edit suffices, or side effects have been growing faster than the effect."""
    if tried[-1].shown >= SUFFICIENT:
        return True
    worth = [rung.worth(budget) for rung in tried]
    return len(worth) - 1 - worth.index(max(worth)) >= PATIENCE


def choose_strength(tried: Sequence[Tried], budget: float) -> GroupStrength:
    """Hand out what was drawn and is worth most; of equals the weakest, and one that suffices if it is worth as much.

    Going from one strength to the next is worth it while the share of images that show their group grows by more than
    ``1 / budget`` times the share in which anything else changes.

    Args:
        tried: What was drawn, from weak to strong, strength 0 first.
        budget: Images that may change otherwise for each that is brought to its group.
    """
    best = max(tried, key=lambda rung: rung.worth(budget))
    enough = next((rung for rung in tried if rung.shown >= SUFFICIENT), best)
    if enough.worth(budget) >= max(best.worth(budget) - UNTELLABLE, tried[0].worth(budget)):
        best = enough
    return GroupStrength(best.strength, "searched", tuple(tried))


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
    """Read strengths back."""
    return {
        attribute: {
            prompt: {group: GroupStrength.of_data(found) for group, found in by_group.items()}
            for prompt, by_group in prompts.items()
        }
        for attribute, prompts in data.items()
    }
