"""Images of prompts as embeddings, named groups and small pictures: what an open set is found in."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from audit.analyses.analysis import Instruments, Part, PictureInstruments, batches, present
from audit.config.sections import ModelConfig, QualityConfig
from audit.models.files.untrusted_model import UnfitModelError
from audit.records.work import ImageKey, Prompt

if TYPE_CHECKING:
    from torch import Tensor

    from audit.models.files.text_reader import TextReader
    from audit.perception.embedders.clip import ClipEmbedder
    from audit.perception.embedders.features import FeatureEmbedder

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]

SIDE = 96
"""Pixels of the longer side of a kept picture; smaller images stay as they are."""

CLIP, VECTORS, LENGTHS, WEBP, CODES = "clip", "vectors", "lengths", "webp", "codes."
"""Arrays of a part; there is one of codes for each attribute."""


@dataclass(frozen=True)
class PicturesRequest:
    """What is sampled.

    Attributes:
        prompts: The prompts.
        attributes: Attribute → its groups, in the order of the judge.
        images: Images of each prompt.
        batch: Images in a batch.
        seed: Seed of the noise.
        model: The model, whose bundle may have networks that embed images.
        quality: Names the networks.
        embedder: Network of the embeddings.
        signature: Its name, and that of its weights.
        clip: Whether images are embedded by CLIP too, for words.
    """

    prompts: tuple[Prompt, ...]
    attributes: Mapping[str, tuple[str, ...]]
    images: int
    batch: int
    seed: int
    model: ModelConfig
    quality: QualityConfig
    embedder: Literal["features", "clip"]
    signature: str
    clip: bool

    def as_data(self) -> dict[str, Any]:
        """Return what determines all parts, as plain data; each task names the text of its prompt itself."""
        names = ("batch", "seed", "embedder", "signature", "clip")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class PicturesTask:
    """One batch of a prompt.

    Attributes:
        prompt: The prompt.
        first: Number of its first image.
        count: Number of images.
    """

    prompt: Prompt
    first: int
    count: int

    @property
    def id(self) -> str:
        """Name of the task; the text belongs to it, because another template gives a prompt the same id."""
        text = hashlib.sha256(self.prompt.text.encode()).hexdigest()[:10]
        return f"{self.prompt.id}.{text}.{self.first:06d}.{self.count}"


@dataclass(frozen=True)
class Pictures:
    """Images of all prompts, in the order of the prompts and then of their numbers.

    Attributes:
        prompts: (n,) index of each image's prompt.
        numbers: (n,) its number in the prompt.
        vectors: (n, d) embeddings.
        clip: (n, c) embeddings by CLIP; (n, 0) without.
        codes: Attribute → (n,) index of the perceived group, −1 for none.
        webp: The pictures.
    """

    prompts: Ints
    numbers: Ints
    vectors: Floats
    clip: Floats
    codes: Mapping[str, Ints]
    webp: tuple[bytes, ...]


class PicturesAnalysis:
    """The analysis, see :class:`audit.analyses.analysis.SamplingAnalysis`."""

    name = "pictures"
    section = "explore"

    def tasks(self, request: PicturesRequest) -> tuple[PicturesTask, ...]:
        """Return one task for each batch."""
        return tuple(PicturesTask(*batch) for batch in batches(request.prompts, request.images, request.batch))

    def part(self, instruments: Instruments, request: PicturesRequest, task: PicturesTask) -> dict[str, Any]:
        """Sample, judge and embed one batch."""
        numbers = range(task.first, task.first + task.count)
        seeds = [ImageKey(task.prompt.id, number).seed(request.seed) for number in numbers]
        images = instruments.generator.generate(task.prompt, seeds)
        seen = instruments.judge.perceive(images, task.prompt.occupation)
        features, clip = embedders(request.model, request.quality, request.embedder, request.clip)
        by_clip = clip.images(images) if clip is not None else np.zeros((task.count, 0), np.float32)
        pictures = [webp(image) for image in images]
        return {
            VECTORS: features.embed(images) if features is not None else by_clip,
            CLIP: by_clip if request.clip else by_clip[:, :0],
            LENGTHS: np.array([len(one) for one in pictures]),
            WEBP: np.frombuffer(b"".join(pictures), np.uint8),
            **{f"{CODES}{name}": seen.codes(name) for name in request.attributes},
        }

    def combine(self, request: PicturesRequest, parts: Iterable[Part | None]) -> Pictures:
        """Join the parts."""
        kept = list(present(self.tasks(request), parts))
        return Pictures(
            prompts=np.repeat(np.arange(len(request.prompts)), request.images),
            numbers=np.tile(np.arange(request.images), len(request.prompts)),
            vectors=np.concatenate([part[VECTORS] for part in kept]).astype(np.float64),
            clip=np.concatenate([part[CLIP] for part in kept]).astype(np.float64),
            codes={name: np.concatenate([part[f"{CODES}{name}"] for part in kept]) for name in request.attributes},
            webp=tuple(picture for part in kept for picture in pictures_of(part)),
        )


@dataclass(frozen=True)
class TextsRequest:
    """Texts that CLIP embeds.

    Attributes:
        texts: The texts; the first one can be read.
        model: The model, whose bundle may have a CLIP model.
        quality: Names the CLIP model.
        signature: Its name, and that of its weights.
    """

    texts: tuple[str, ...]
    model: ModelConfig
    quality: QualityConfig
    signature: str

    def as_data(self) -> dict[str, Any]:
        """Return what determines the part, as plain data."""
        return {"texts": list(self.texts), "signature": self.signature}


@dataclass(frozen=True)
class TextsTask:
    """All texts."""

    id: str = "texts"


class TextsAnalysis:
    """Embeds texts by CLIP, see :class:`audit.analyses.analysis.SamplingAnalysis`."""

    name = "texts"
    section = "explore"

    def tasks(self, request: TextsRequest) -> tuple[TextsTask, ...]:
        """Return one task for all texts."""
        return (TextsTask(),)

    def part(self, instruments: PictureInstruments, request: TextsRequest, task: TextsTask) -> dict[str, Floats]:
        """Embed the texts as unit rows; a text that CLIP or the model would cut has NaN, because it says less there."""
        _, clip = embedders(request.model, request.quality, "clip", clip=True)
        assert clip is not None  # noqa: S101 - the request is made for a model with CLIP alone
        readers = [reader for reader in (clip.reader, instruments.generator.reader) if reader is not None]
        width = len(clip.text(request.texts[0]))
        rows = [clip.text(text) if _is_read(text, readers) else np.full(width, np.nan) for text in request.texts]
        return {VECTORS: np.stack(rows)}

    def combine(self, request: TextsRequest, parts: Iterable[Part | None]) -> Floats:
        """Return the embeddings (texts, c), NaN for a text that would be cut."""
        [part] = present(self.tasks(request), parts)
        return part[VECTORS].astype(np.float64)


@lru_cache(maxsize=1)
def _loaded(model: str, quality: str, features: bool, clip: bool) -> tuple[FeatureEmbedder | None, ClipEmbedder | None]:
    from audit.perception.embedders.clip import load_clip
    from audit.perception.embedders.features import load_features

    sections = ModelConfig.model_validate_json(model), QualityConfig.model_validate_json(quality)
    return (
        load_features(sections[1], sections[0]) if features else None,
        load_clip(sections[1], sections[0]) if clip else None,
    )


def embedders(
    model: ModelConfig, quality: QualityConfig, embedder: str, clip: bool
) -> tuple[FeatureEmbedder | None, ClipEmbedder | None]:
    """Return the networks that embed images, loaded once for all tasks of a worker.

    Args:
        model: The model.
        quality: Names the networks.
        embedder: ``features`` or ``clip``.
        clip: Whether CLIP is needed besides.
    """
    features = embedder == "features"
    return _loaded(model.model_dump_json(), quality.model_dump_json(), features, clip or not features)


def _is_read(text: str, readers: Iterable[TextReader]) -> bool:
    try:
        for reader in readers:
            reader.check([text])
    except UnfitModelError:
        return False
    return True


def webp(image: Tensor) -> bytes:
    """Return a uint8 image ``(3, H, W)`` as a small WebP picture, at most ``SIDE`` pixels on its longer side."""
    from PIL import Image

    picture, data = Image.fromarray(image.permute(1, 2, 0).cpu().numpy()), io.BytesIO()
    picture.thumbnail((SIDE, SIDE))
    picture.save(data, "WEBP", quality=80)
    return data.getvalue()


def pictures_of(part: Part) -> Iterable[bytes]:
    """Return the pictures of a part that holds them one after another, with their lengths."""
    ends = np.cumsum(part[LENGTHS])
    data = part[WEBP].tobytes()
    return (data[int(end - size) : int(end)] for end, size in zip(ends, part[LENGTHS], strict=True))
