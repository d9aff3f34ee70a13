"""Searches edit strengths: raises the strength until images show their group or side effects exceed the effect.

Each prompt and group has a strength of its own: one for all leaves the most skewed occupations behind and disturbs the
others for nothing. The seeds are held out: no audit draws them. Every strength is compared with the same seeds
unedited, so that what it changes beside its purpose is seen image by image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit.dissect.strengths import LADDER, Tried, is_finished
from audit.mitigate.method import Batch, Intervene
from audit.models.generator import DiffusionGenerator
from audit.perception.judges.interface import Judge
from audit.perception.judges.perceived import Perceived
from audit.records.work import Prompt, Status, derive_seed


@dataclass(frozen=True)
class StrengthSearch:
    """What is searched.

    Attributes:
        prompt: Whose strengths.
        template: Of the audit's prompts.
        attribute: The attribute that is edited.
        groups: Its groups.
        images: Held-out images of each group and strength.
        budget: Images that may change otherwise for each that is brought to its group.
    """

    prompt: Prompt
    template: str
    attribute: str
    groups: tuple[str, ...]
    images: int
    budget: float


def try_strengths(
    generator: DiffusionGenerator, judge: Judge, intervene: Intervene, search: StrengthSearch
) -> dict[str, list[Tried]]:
    """Sample edits of increasing strength towards each group, all groups of a strength in one batch.

    Args:
        generator: The model.
        judge: Sees the groups; the other attributes that it sees are those in which side effects are looked for.
        intervene: Makes the edit of a batch, with the strengths of the batch.
        search: What to search.

    Returns:
        What was drawn for each group, from strength 0 up.
    """
    groups, prompt = search.groups, search.prompt
    assigned = np.repeat(np.arange(len(groups)), search.images)
    seeds = [derive_seed("strength", prompt.id, i) for i in range(len(assigned))]
    unedited = _Seen.of(judge.perceive(generator.generate(prompt, seeds), prompt.occupation))
    tried: dict[str, list[Tried]] = {group: [] for group in groups}
    for strength in LADDER:
        climbing = [row for row, g in enumerate(groups) if not tried[g] or not is_finished(tried[g], search.budget)]
        rows = np.flatnonzero(np.isin(assigned, climbing))
        if not len(rows):
            break
        if strength == 0:
            seen = unedited
        else:
            names = tuple(groups[group] for group in assigned[rows])
            strengths = (strength,) * len(rows)
            arm = intervene(Batch(prompt, names, generator.steps, search.template, groups, strengths))
            seen = _Seen.of(
                judge.perceive(generator.generate(prompt, [seeds[r] for r in rows], arm), prompt.occupation)
            )
        for group in climbing:
            own = assigned[rows] == group
            tried[groups[group]].append(
                _compared(strength, search.attribute, group, unedited.rows(rows[own]), seen.rows(np.flatnonzero(own)))
            )
    return tried


@dataclass(frozen=True)
class _Seen:
    """What a judge perceived in n images.

    Attributes:
        probabilities: Attribute → (n, groups).
        places: Attribute → (n,) most probable group, −1 where it is one that the config leaves out.
        faceless: (n,) whether there is no face.
    """

    probabilities: dict[str, NDArray[np.float32]]
    places: dict[str, NDArray[np.int64]]
    faceless: NDArray[np.bool_]

    @classmethod
    def of(cls, perceived: Perceived) -> _Seen:
        faceless = np.array([status in (Status.NO_FACE, Status.FAILED) for status in perceived.statuses])
        places = {
            name: np.where(perceived.lies_outside(name), -1, values.argmax(1))
            for name, values in perceived.probabilities.items()
        }
        return cls(perceived.probabilities, places, faceless)

    def rows(self, rows: Sequence[int] | NDArray[np.intp]) -> _Seen:
        return _Seen(
            {name: values[rows] for name, values in self.probabilities.items()},
            {name: places[rows] for name, places in self.places.items()},
            self.faceless[rows],
        )


def _compared(strength: float, attribute: str, group: int, before: _Seen, after: _Seen) -> Tried:
    """Compare the images of one group with the same seeds unedited."""
    changed = {
        name: float((after.faceless | (places != before.places[name])).mean())
        for name, places in after.places.items()
        if name != attribute
    }
    shown = np.where(after.faceless, 0.0, after.probabilities[attribute][:, group])
    return Tried(strength, float(shown.mean()), changed, float((after.faceless & ~before.faceless).mean()))
