"""Location map: which places of a model carry an attribute, by activation patching.

Two prompts name two groups of one attribute and are sampled from the same noise. A third run samples one prompt while
one hookpoint takes its values from the run of the other prompt, at all steps and in the conditional half alone. If the
image then shows the group of the other prompt, this place carries the attribute (Meng et al. 2022).

An image is counted only if its two unpatched runs show the groups that their prompts name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from audit.analyses.analysis import Instruments, Part
from audit.config.slices import Attributes
from audit.measure.inference.intervals import share_estimate
from audit.planning.plan import group_phrase, named_text
from audit.records.estimates import Estimate
from audit.records.work import Prompt, derive_seed

if TYPE_CHECKING:
    from torch import Tensor

    from audit.perception.judges.interface import Judge

FOLLOWED, COUNTED, SAMPLED = "followed", "counted", "sampled"
"""Arrays of a part, each of shape (attributes, 2): by direction of the exchange."""

Codes = NDArray[np.int64]


@dataclass(frozen=True)
class LocationRequest:
    """What a location map is made for.

    Attributes:
        attributes: Attributes with their groups; the first and the last group of each are exchanged.
        prompts: Prompts; each is sampled with both groups named.
        template: Template of the prompts.
        hookpoints: Modules whose output is exchanged, one at a time.
        images: Seeds of each prompt, attribute and direction.
        batch: Images in a batch.
    """

    attributes: Attributes
    prompts: tuple[Prompt, ...]
    template: str
    hookpoints: tuple[str, ...]
    images: int
    batch: int

    def as_data(self) -> dict[str, Any]:
        """Return everything that determines one part, as plain data.

        Prompts and hookpoints are left out, because each part has its own: a larger request reuses finished parts.
        """
        return {
            "attributes": {name: list(groups) for name, groups in self.attributes.items()},
            "template": self.template,
            "images": self.images,
            "batch": self.batch,
        }


@dataclass(frozen=True)
class LocationTask:
    """One prompt and one hookpoint, for all attributes.

    Attributes:
        prompt: The prompt.
        hookpoint: The hookpoint.
    """

    prompt: Prompt
    hookpoint: str

    @property
    def id(self) -> str:
        """Name of the task."""
        return f"{self.prompt.id}.{self.hookpoint}"


@dataclass(frozen=True)
class PlaceShare:
    """How often images follow one place.

    Attributes:
        attribute: The attribute.
        groups: The two groups that were exchanged.
        hookpoint: The place.
        share: Share of the counted images that show the group of the other prompt; None if no image was counted.
        counted: Images whose two unpatched runs show the groups that their prompts name.
        sampled: All images of the place, over both directions.
    """

    attribute: str
    groups: tuple[str, str]
    hookpoint: str
    share: Estimate | None
    counted: int
    sampled: int


@dataclass(frozen=True)
class LocationMap:
    """The location map of a model.

    Attributes:
        places: One row for each attribute and hookpoint, in the order of the request.
    """

    places: tuple[PlaceShare, ...]


class LocationAnalysis:
    """The analysis, see :class:`audit.analyses.analysis.SamplingAnalysis`."""

    name = "location"
    section = "locate"

    def tasks(self, request: LocationRequest) -> tuple[LocationTask, ...]:
        """Return one task for each prompt and hookpoint; the first prompts have all their hookpoints first."""
        return tuple(LocationTask(prompt, path) for prompt in request.prompts for path in request.hookpoints)

    def part(self, instruments: Instruments, request: LocationRequest, task: LocationTask) -> dict[str, NDArray[Any]]:
        """Count the images that follow one hookpoint, by attribute and direction."""
        from audit.analyses.patching import swapped_images

        seeds = [derive_seed("location", task.prompt.id, i) for i in range(request.images)]
        counts = np.zeros((len(request.attributes), 3, 2), dtype=np.int64)
        for row, (attribute, groups) in enumerate(request.attributes.items()):
            texts = _texts(request.template, task.prompt, attribute, ends(groups))
            for start in range(0, len(seeds), request.batch):
                own = seeds[start : start + request.batch]
                plain, patched = swapped_images(instruments.generator, texts, own, task.hookpoint)
                shown = [_codes(instruments.judge, images, task.prompt, attribute) for images in (*plain, *patched)]
                counts[row] += followed((shown[0], shown[1]), (shown[2], shown[3]), (0, len(groups) - 1))
        return {name: counts[:, place] for place, name in enumerate((FOLLOWED, COUNTED, SAMPLED))}

    def combine(self, request: LocationRequest, parts: Iterable[Part | None]) -> LocationMap:
        """Add the counts of all prompts and return a share for each attribute and hookpoint.

        Raises:
            ValueError: If the part of a task is missing.
        """
        sums: dict[str, dict[str, NDArray[np.int64]]] = {}
        for task, part in zip(self.tasks(request), parts, strict=True):
            if part is None:
                raise ValueError(f"expected a part for task {task.id}, found none; run the analysis again")
            own = sums.setdefault(task.hookpoint, {})
            for name in (FOLLOWED, COUNTED, SAMPLED):
                own[name] = own.get(name, np.int64(0)) + part[name].sum(axis=1)
        return LocationMap(
            tuple(
                _place(attribute, ends(groups), path, {name: int(counts[row]) for name, counts in sums[path].items()})
                for row, (attribute, groups) in enumerate(request.attributes.items())
                for path in request.hookpoints
            )
        )


def ends(groups: Sequence[str]) -> tuple[str, str]:
    """Return the two groups of an attribute that are exchanged: the first and the last."""
    return groups[0], groups[-1]


def followed(plain: tuple[Codes, Codes], patched: tuple[Codes, Codes], named: tuple[int, int]) -> NDArray[np.int64]:
    """Count images that follow the exchange.

    Args:
        plain: Groups of the unpatched images of both prompts, each (B,).
        patched: Groups of the patched images of both prompts, each (B,).
        named: The groups that the prompts name.

    Returns:
        Images that followed, counted images and sampled images, by prompt: shape (3, 2).
    """
    counted = (plain[0] == named[0]) & (plain[1] == named[1])
    follow = [int((counted & (patched[i] == named[1 - i])).sum()) for i in (0, 1)]
    return np.array([follow, [int(counted.sum())] * 2, [len(counted)] * 2], dtype=np.int64)


def _texts(template: str, prompt: Prompt, attribute: str, groups: tuple[str, str]) -> tuple[str, str]:
    first, last = (named_text(template, prompt.occupation, group_phrase(attribute, group)) for group in groups)
    return first, last


def _codes(judge: Judge, images: Tensor, prompt: Prompt, attribute: str) -> Codes:
    return judge.perceive(images, prompt.occupation).codes(attribute)


def _place(attribute: str, groups: tuple[str, str], hookpoint: str, counts: Mapping[str, int]) -> PlaceShare:
    share = share_estimate(counts[FOLLOWED], counts[COUNTED]) if counts[COUNTED] else None
    return PlaceShare(attribute, groups, hookpoint, share, counts[COUNTED], counts[SAMPLED])
