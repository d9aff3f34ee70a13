"""Counts of a location map: how often images follow a place, by activation patching.

Two prompts name two groups of one attribute and are sampled from the same noise. A third run samples one prompt while
one place takes its values from the run of the other prompt, in the conditional half alone. If the image then shows the
group of the other prompt, this place carries the attribute (Meng et al. 2022).

Two controls bound what the counts can mean. With values of the *same* run nothing may change, bit for bit. With values
of a run of *another* occupation that names the same group, the attribute should stay: what changes then, changes by
itself.

An image is counted only if its unpatched runs show the groups that their prompts name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from audit.analyses.analysis import Instruments, Part, present
from audit.planning.plan import group_phrase, named_text
from audit.records.located.places import Place
from audit.records.work import Prompt, derive_seed

if TYPE_CHECKING:
    from torch import Tensor

    from audit.analyses.patching import Images, Recorded

Control = Literal["none", "same_run", "other_prompt"]

FOLLOWED, COUNTED, SAMPLED = "followed", "counted", "sampled"
"""Arrays of a part, each of shape (questions, 2): images by direction of the exchange."""
CHANGED, CONTROLLED = "changed", "controlled"
"""Arrays of a part, each (questions, 2): images that changed under the control, and those that it counts."""
BYTES = "bytes"
"""Array of a part (questions,): most bytes kept of one image."""

Codes = NDArray[np.int64]


@dataclass(frozen=True)
class Question:
    """Do images follow one place, between two groups of one attribute?

    Attributes:
        attribute: The attribute.
        groups: All of its groups, in the order of the judge.
        exchanged: The two groups that are exchanged.
        place: The place.
    """

    attribute: str
    groups: tuple[str, ...]
    exchanged: tuple[str, str]
    place: Place

    @property
    def pair(self) -> tuple[str, tuple[str, str]]:
        """The attribute and the exchanged groups: questions with equal pairs share their unpatched runs."""
        return self.attribute, self.exchanged

    @property
    def codes(self) -> tuple[int, int]:
        """The exchanged groups as the judge counts them."""
        return self.groups.index(self.exchanged[0]), self.groups.index(self.exchanged[1])


@dataclass(frozen=True)
class LocationRequest:
    """What is counted.

    Attributes:
        questions: The questions.
        prompts: Prompts; each is sampled with both groups named.
        template: Template of the prompts.
        images: Seeds of each prompt.
        batch: Most images in a batch.
        control: Which control is sampled beside the exchange.
    """

    questions: tuple[Question, ...]
    prompts: tuple[Prompt, ...]
    template: str
    images: int
    batch: int
    control: Control = "none"

    def as_data(self) -> dict[str, Any]:
        """Return what determines all parts, as plain data; each task names its questions and prompts itself."""
        return {"template": self.template, "images": self.images, "batch": self.batch, "control": self.control}

    @property
    def digest(self) -> str:
        """Short hash of the questions."""
        text = json.dumps([asdict(question) for question in self.questions], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:10]


@dataclass(frozen=True)
class LocationTask:
    """All questions for one prompt.

    Attributes:
        prompt: The prompt.
        other: Another occupation, for the control.
        questions: Short hash of the questions.
    """

    prompt: Prompt
    other: Prompt
    questions: str

    @property
    def id(self) -> str:
        """Name of the task."""
        return f"{self.prompt.id}.{self.other.id}.{self.questions}"


@dataclass(frozen=True)
class Counts:
    """Counts of one question over all prompts, each by direction: first group → second, and back.

    Attributes:
        question: The question.
        followed: Images that follow.
        counted: Images whose unpatched runs show the groups that their prompts name.
        sampled: All images.
        changed: Images that changed under the control.
        controlled: Images that the control counts.
        bytes_per_image: Bytes kept of one image to patch the place.
    """

    question: Question
    followed: tuple[int, int]
    counted: tuple[int, int]
    sampled: tuple[int, int]
    changed: tuple[int, int]
    controlled: tuple[int, int]
    bytes_per_image: int


class LocationAnalysis:
    """The analysis, see :class:`audit.analyses.analysis.SamplingAnalysis`."""

    name = "location"
    section = "location"

    def tasks(self, request: LocationRequest) -> tuple[LocationTask, ...]:
        """Return one task for each prompt; the other occupation of its control is that of the next prompt."""
        others = (*request.prompts[1:], *request.prompts[:1])
        return tuple(LocationTask(*pair, request.digest) for pair in zip(request.prompts, others, strict=True))

    def part(self, instruments: Instruments, request: LocationRequest, task: LocationTask) -> dict[str, NDArray[Any]]:
        """Count the images of one prompt for all questions."""
        names = (FOLLOWED, COUNTED, SAMPLED, CHANGED, CONTROLLED)
        part: dict[str, NDArray[Any]] = {name: np.zeros((len(request.questions), 2), dtype=np.int64) for name in names}
        part[BYTES] = np.zeros(len(request.questions), dtype=np.int64)
        for units in _batches(request, task.prompt):
            _Batch(instruments, request, task, units).count(part)
        return part

    def combine(self, request: LocationRequest, parts: Iterable[Part | None]) -> tuple[Counts, ...]:
        """Add the counts of all prompts; one record for each question.

        Raises:
            ValueError: If the part of a task is missing.
        """
        found = list(present(self.tasks(request), parts))
        return tuple(
            Counts(
                question=question,
                followed=_added(found, FOLLOWED, row),
                counted=_added(found, COUNTED, row),
                sampled=_added(found, SAMPLED, row),
                changed=_added(found, CHANGED, row),
                controlled=_added(found, CONTROLLED, row),
                bytes_per_image=max(int(part[BYTES][row]) for part in found),
            )
            for row, question in enumerate(request.questions)
        )


def _added(parts: Sequence[Part], name: str, row: int) -> tuple[int, int]:
    first, second = sum(part[name][row].astype(np.int64) for part in parts)
    return int(first), int(second)


@dataclass(frozen=True)
class _Unit:
    """Two images with one seed, each of which names one of two groups."""

    pair: tuple[str, tuple[str, str]]
    seed: int


def _batches(request: LocationRequest, prompt: Prompt) -> list[list[_Unit]]:
    """Split the pairs of images of a prompt into batches; the pairs of all attributes share batches."""
    pairs = dict.fromkeys(question.pair for question in request.questions)
    seeds = [derive_seed("location", prompt.id, i) for i in range(request.images)]
    units = [_Unit(pair, seed) for pair in pairs for seed in seeds]
    size = max(1, request.batch // 2)
    return [units[start : start + size] for start in range(0, len(units), size)]


class _Batch:
    """The images of some pairs: first all that name the first group of their pair, then their partners."""

    def __init__(
        self, instruments: Instruments, request: LocationRequest, task: LocationTask, units: Sequence[_Unit]
    ) -> None:
        self._instruments, self._request, self._task, self._units = instruments, request, task, units
        self._count = len(units)

    def count(self, part: Mapping[str, NDArray[np.int64]]) -> None:
        """Add the counts of all questions about these images to a part."""
        from audit.analyses.patching import Recorded, groups_of_places

        generator, images = self._instruments.generator, self._images(self._task.prompt)
        pairs = {unit.pair for unit in self._units}
        places = list(dict.fromkeys(question.place for question in self._request.questions if question.pair in pairs))
        for group in groups_of_places(generator, images.texts[0], places, len(images.seeds)):
            plain = Recorded.sample(generator, images, group)
            shown = _Shown(self, plain.pictures)
            for place in group:
                self._exchange(part, place, plain, shown)
            if self._request.control == "other_prompt" and self._task.other != self._task.prompt:
                other = Recorded.sample(generator, self._images(self._task.other), group)
                for place in group:
                    self._with_other_prompt(part, place, other, shown)

    def _exchange(self, part: Mapping[str, NDArray[np.int64]], place: Place, plain: Recorded, shown: _Shown) -> None:
        """Let the images of a place's questions take it from their partners."""
        rows, generator = self._rows(place), self._instruments.generator
        partners = [(row + self._count) % (2 * self._count) for row in rows]
        patched = _Shown(self, plain.into(generator, plain.images.only(rows), place, partners), rows)
        for number, question in self._questions(place):
            own = self._rows_of(question)
            named = question.codes
            first, second = (shown.codes(question, half) for half in own)
            counted = (first == named[0]) & (second == named[1])
            for direction, half in enumerate(own):
                follow = counted & (patched.codes(question, half) == named[1 - direction])
                part[FOLLOWED][number, direction] += int(follow.sum())
                part[COUNTED][number, direction] += int(counted.sum())
                part[SAMPLED][number, direction] += len(half)
            part[BYTES][number] = plain.maps[place.at_all_steps].bytes_per_image
        if self._request.control == "same_run":
            again = plain.into(generator, plain.images, place)
            differs = (again != plain.pictures).flatten(1).any(1).numpy()
            for number, question in self._questions(place):
                for direction, half in enumerate(self._rows_of(question)):
                    part[CHANGED][number, direction] += int(differs[half].sum())
                    part[CONTROLLED][number, direction] += len(half)

    def _with_other_prompt(
        self, part: Mapping[str, NDArray[np.int64]], place: Place, other: Recorded, shown: _Shown
    ) -> None:
        """Let images take a place from another occupation that names the same group."""
        rows = self._rows(place)
        images = self._images(self._task.prompt).only(rows)
        patched = _Shown(self, other.into(self._instruments.generator, images, place, rows), rows)
        for number, question in self._questions(place):
            for direction, half in enumerate(self._rows_of(question)):
                counted = shown.codes(question, half) == question.codes[direction]
                changed = counted & (patched.codes(question, half) != question.codes[direction])
                part[CHANGED][number, direction] += int(changed.sum())
                part[CONTROLLED][number, direction] += int(counted.sum())

    def _images(self, prompt: Prompt) -> Images:
        from audit.analyses.patching import Images

        texts = tuple(
            named_text(self._request.template, prompt.occupation, group_phrase(attribute, exchanged[direction]))
            for direction in (0, 1)
            for attribute, exchanged in (unit.pair for unit in self._units)
        )
        return Images(texts, tuple(unit.seed for unit in self._units) * 2)

    def _questions(self, place: Place) -> list[tuple[int, Question]]:
        pairs = {unit.pair for unit in self._units}
        asked = enumerate(self._request.questions)
        return [(number, one) for number, one in asked if one.place == place and one.pair in pairs]

    def _rows(self, place: Place) -> list[int]:
        """Return the rows of all images that a place's questions are about."""
        pairs = {question.pair for _, question in self._questions(place)}
        own = [row for row, unit in enumerate(self._units) if unit.pair in pairs]
        return [*own, *(row + self._count for row in own)]

    def _rows_of(self, question: Question) -> tuple[list[int], list[int]]:
        """Return the rows of a question's images by the group that they name."""
        own = [row for row, unit in enumerate(self._units) if unit.pair == question.pair]
        return own, [row + self._count for row in own]

    def perceive(self, pictures: Tensor) -> Any:  # noqa: ANN401 - groups by attribute
        """Judge pictures of the task's prompt."""
        return self._instruments.judge.perceive(pictures, self._task.prompt.occupation)


class _Shown:
    """The groups that the judge sees in the pictures of some rows."""

    def __init__(self, batch: _Batch, pictures: Tensor, rows: Sequence[int] | None = None) -> None:
        self._perceived = batch.perceive(pictures)
        numbers = range(len(pictures)) if rows is None else rows
        self._at = {row: number for number, row in enumerate(numbers)}

    def codes(self, question: Question, rows: Sequence[int]) -> Codes:
        """Return the groups of rows, -1 for those that the judge cannot name."""
        codes: Codes = self._perceived.codes(question.attribute)
        return codes[[self._at[row] for row in rows]]
