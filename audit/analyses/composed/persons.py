"""Persons of sampled pictures: how many there are, and each one's groups and embedding.

Who has which occupation is not decided here but from the embeddings, by :mod:`audit.results.compositions.matching`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from audit.analyses.analysis import Part, PictureInstruments, batches, present
from audit.analyses.pictures import LENGTHS, VECTORS, WEBP, PicturesTask, embedders, pictures_of, webp
from audit.config.judges import FacesConfig
from audit.config.sections import ModelConfig, QualityConfig
from audit.records.work import ImageKey, PairPrompt, Prompt

if TYPE_CHECKING:
    from torch import Tensor

    from audit.perception.embedders.clip import ClipEmbedder
    from audit.perception.judges.interface import Judge
    from audit.perception.persons.finder import PersonFinder

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]

MOST = 2
"""Persons of a picture that are looked at."""

PEOPLE, SCALE, CODES = "people", "scale", "codes."
"""Further arrays of a part; there is one of codes for each attribute."""


@dataclass(frozen=True)
class PersonsRequest:
    """What is sampled.

    Attributes:
        prompts: Prompts about one person, and about two.
        attributes: Attribute → its groups, in the order of the judge.
        images: Images of each prompt.
        batch: Images in a batch.
        seed: Seed of the noise.
        model: The model.
        faces: How faces are found, and persons by them; not used in drawings.
        quality: Names the CLIP model.
        signature: Name of the CLIP model and of the finder, and of their weights.
    """

    prompts: tuple[Prompt, ...]
    attributes: Mapping[str, tuple[str, ...]]
    images: int
    batch: int
    seed: int
    model: ModelConfig
    faces: FacesConfig
    quality: QualityConfig
    signature: str

    def as_data(self) -> dict[str, Any]:
        """Return what determines all parts, as plain data; each task names the text of its prompt itself."""
        return {name: getattr(self, name) for name in ("batch", "seed", "signature")}


class PersonsTask(PicturesTask):
    """One batch of a prompt; a pair and a prompt about one person may have the same id and text."""

    @property
    def id(self) -> str:
        """Name of the task."""
        return f"{'pair' if isinstance(self.prompt, PairPrompt) else 'alone'}.{super().id}"


@dataclass(frozen=True)
class Persons:
    """The persons in the images of one prompt, from left to right.

    Attributes:
        people: (n,) persons found in each image.
        vectors: (n, 2, d) embedding of each person; NaN if the image does not show as many persons as the prompt names.
        codes: Attribute → (n, 2) index of the perceived group of each person, −1 for none.
        scale: Factor of cosines before a softmax, of the CLIP model.
        webp: The pictures.
    """

    people: Ints
    vectors: Floats
    codes: Mapping[str, Ints]
    scale: float
    webp: tuple[bytes, ...]


class PersonsAnalysis:
    """The analysis, see :class:`audit.analyses.analysis.PictureAnalysis`."""

    name = "persons"
    section = "compose"

    def tasks(self, request: PersonsRequest) -> tuple[PersonsTask, ...]:
        """Return one task for each batch."""
        return tuple(PersonsTask(*batch) for batch in batches(request.prompts, request.images, request.batch))

    def part(self, instruments: PictureInstruments, request: PersonsRequest, task: PersonsTask) -> dict[str, Any]:
        """Sample one batch, and find, judge and embed its persons."""
        generator, prompt = instruments.generator, task.prompt
        if generator.reader is not None:
            generator.reader.check([prompt.text])
        numbers = range(task.first, task.first + task.count)
        images = generator.generate(prompt, [ImageKey(prompt.id, number).seed(request.seed) for number in numbers])
        found = _finder(request.faces.model_dump_json(), request.model.model_dump_json()).find(images)
        clip = _clip(request)
        vectors, codes = looked_at(Crops.of(found, prompt), instruments.judge, clip, request.attributes)
        pictures = [webp(image) for image in images]
        return {
            PEOPLE: np.array([len(own) for own in found]),
            VECTORS: vectors,
            SCALE: np.array([clip.logit_scale]),
            LENGTHS: np.array([len(one) for one in pictures]),
            WEBP: np.frombuffer(b"".join(pictures), np.uint8),
            **{f"{CODES}{name}": own for name, own in codes.items()},
        }

    def combine(self, request: PersonsRequest, parts: Iterable[Part | None]) -> dict[tuple[str, bool], Persons]:
        """Join the parts of each prompt, by its id and whether it names two occupations."""
        tasks = self.tasks(request)
        kept: dict[tuple[str, bool], list[Part]] = {}
        for task, part in zip(tasks, present(tasks, parts), strict=True):
            kept.setdefault((task.prompt.id, isinstance(task.prompt, PairPrompt)), []).append(part)
        return {key: _joined(own, tuple(request.attributes)) for key, own in kept.items()}


@dataclass(frozen=True)
class Crops:
    """The persons of a batch whose images show as many persons as the prompt names.

    Attributes:
        images: Images of the batch.
        owners: Image and place of each person.
        crops: Each person.
        prompt: The prompt.
    """

    images: int
    owners: tuple[tuple[int, int], ...]
    crops: tuple[Tensor, ...]
    prompt: Prompt

    @classmethod
    def of(cls, found: Sequence[Sequence[Tensor]], prompt: Prompt) -> Crops:
        """Take the persons that were found in each image of a prompt."""
        named = MOST if isinstance(prompt, PairPrompt) else 1
        owners = tuple((row, place) for row, own in enumerate(found) if len(own) == named for place in range(named))
        return cls(len(found), owners, tuple(found[row][place] for row, place in owners), prompt)


def looked_at(
    persons: Crops, judge: Judge, clip: ClipEmbedder, attributes: Mapping[str, tuple[str, ...]]
) -> tuple[Floats, dict[str, Ints]]:
    """Return the embedding of each person (n, 2, d), NaN for none, and the codes of each attribute (n, 2)."""
    prompt = persons.prompt
    codes = {name: np.full((persons.images, MOST), -1, np.int64) for name in attributes}
    vectors = np.full((persons.images, MOST, len(clip.text(prompt.occupation))), np.nan, np.float32)
    if persons.crops:
        rows, places = np.array(persons.owners).T
        vectors[rows, places] = np.concatenate(_each_size(clip.images, persons.crops))
        seen = _each_size(lambda batch: judge.perceive(batch, prompt.occupation), persons.crops)
        for name in attributes:
            codes[name][rows, places] = np.concatenate([one.codes(name) for one in seen])
    return vectors, codes


def _clip(request: PersonsRequest) -> ClipEmbedder:
    _, clip = embedders(request.model, request.quality, "clip", clip=True)
    assert clip is not None  # noqa: S101 - the request is made for a model with CLIP alone
    return clip


def _joined(parts: Sequence[Part], attributes: Sequence[str]) -> Persons:
    return Persons(
        people=np.concatenate([part[PEOPLE] for part in parts]),
        vectors=np.concatenate([part[VECTORS] for part in parts]).astype(np.float64),
        codes={name: np.concatenate([part[f"{CODES}{name}"] for part in parts]) for name in attributes},
        scale=float(parts[0][SCALE][0]),
        webp=tuple(picture for part in parts for picture in pictures_of(part)),
    )


def _each_size(look: Callable[[Tensor], Any], crops: Sequence[Tensor]) -> list[Any]:
    """Look at crops: at all of them at once if they have one size, otherwise one by one."""
    import torch

    if len({crop.shape for crop in crops}) == 1:
        return [look(torch.stack(list(crops)))]
    return [look(crop[None]) for crop in crops]


@lru_cache(maxsize=1)
def _finder(faces: str, model: str) -> PersonFinder:
    """Load the finder, once for all tasks of a worker."""
    from audit.perception.persons.finder import load_finder

    return load_finder(FacesConfig.model_validate_json(faces), ModelConfig.model_validate_json(model))
