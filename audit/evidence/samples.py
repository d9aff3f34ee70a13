"""Random samples of every prompt: drawn from the run's name before the images exist, kept, and drawn again by a reader.

The indices of a prompt are ordered by a hash of the run's name, the prompt and the index, and the first ones are the
sample. All arms have the same sample, because an index has the same noise in every arm.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from audit.records.work import derive_seed
from audit.storage.run_directory import IMAGES, RunDirectory, image_name

SAMPLES = "samples.json"

RULE = (
    "Sort the indices 0 … images - 1 of a prompt by the number that the first 8 bytes of "
    "BLAKE2b(digest_size=8) of the text 'RUN_ID<US>sample<US>PROMPT_ID<US>INDEX' make (big endian, shifted right by "
    "one bit; <US> is the character U+001F), and take the first ones. The run's name is fixed before an image is made."
)

_MOST_IMAGES = 1_000_000
"""Limit of images of a prompt, as in a config; a record from elsewhere can claim more."""

_INDEX = re.compile(r"(\d{5,})-")


@dataclass(frozen=True)
class DrawnSamples:
    """The sample of each prompt.

    Attributes:
        run_id: Name of the run.
        count: Wanted images per prompt and arm.
        images: Prompt id → images among which the sample was drawn; with two-stage sampling the pilot.
        drawn: Prompt id → indices of the sample, in the order of the draw.
    """

    run_id: str
    count: int
    images: dict[str, int]
    drawn: dict[str, tuple[int, ...]]

    @classmethod
    def of(cls, run_id: str, images: Mapping[str, int], count: int) -> DrawnSamples:
        """Draw the sample of each prompt."""
        drawn = {prompt: ordered(run_id, prompt, range(number))[:count] for prompt, number in images.items()}
        return cls(run_id, count, dict(images), drawn)

    def as_data(self) -> dict[str, Any]:
        """Return plain data with the rule, so that a reader can repeat the draw."""
        drawn = {prompt: list(indices) for prompt, indices in self.drawn.items()}
        return {"rule": RULE, "run_id": self.run_id, "count": self.count, "images": self.images, "drawn": drawn}


def ordered(run_id: str, prompt: str, indices: Iterable[int]) -> tuple[int, ...]:
    """Return indices of a prompt in the order of the draw."""
    return tuple(sorted(indices, key=lambda index: derive_seed(run_id, "sample", prompt, index)))


def draw_samples(run: RunDirectory, images: Mapping[str, int], count: int) -> Mapping[str, tuple[int, ...]]:
    """Draw the samples of a run before its first image, store them in it, and return the indices by prompt.

    A run that has drawn already keeps its samples.
    """
    if run.has(SAMPLES):
        stored = run.read_json(SAMPLES)["drawn"]
        return {prompt: tuple(indices) for prompt, indices in stored.items()}
    samples = DrawnSamples.of(run.path.name, images, count)
    run.write_json(SAMPLES, samples.as_data())
    return samples.drawn


@dataclass(frozen=True)
class SamplePictures:
    """The pictures of the samples of a finished run.

    Attributes:
        record: The draw as plain data, with the prompts whose sample could not be taken from all images.
        pictures: Name of a picture in the run → its content.
    """

    record: dict[str, Any]
    pictures: dict[str, bytes]


def sample_pictures(
    run: RunDirectory, run_id: str, images: Mapping[str, int], arms: Sequence[str], least: int
) -> SamplePictures:
    """Return the pictures of the samples.

    A run of an older release, or one whose config draws fewer, has not kept the pictures of a sample. The sample of
    such a prompt is drawn by the same rule from the pictures that were kept, and the record says so.

    Args:
        run: The run.
        run_id: Its name when it was made.
        images: Prompt id → images in each arm.
        arms: The arms.
        least: Pictures per prompt and arm, if there are so many images.
    """
    stored = run.read_json(SAMPLES) if run.has(SAMPLES) else {}
    planned = {prompt: int((stored.get("images") or {}).get(prompt, number)) for prompt, number in images.items()}
    record = DrawnSamples.of(run_id, planned, max(least, int(stored.get("count", 0)))).as_data()
    pictures: dict[str, bytes] = {}
    from_kept = {}
    for prompt, drawn in record["drawn"].items():
        found = _read(run, prompt, drawn, arms)
        if len(found) < len(drawn) * len(arms):
            kept = _kept(run, prompt)
            record["drawn"][prompt] = list(ordered(run_id, prompt, kept)[: record["count"]])
            from_kept[prompt] = sorted(kept)
            found = _read(run, prompt, record["drawn"][prompt], arms)
        pictures |= found
    return SamplePictures(record | {"arms": list(arms), "drawn_from_kept_pictures": from_kept}, pictures)


def _read(run: RunDirectory, prompt: str, indices: Iterable[int], arms: Iterable[str]) -> dict[str, bytes]:
    names = [image_name(prompt, index, arm) for index in indices for arm in arms]
    return {name: data for name in names if (data := run.read_picture(name)) is not None}


def _kept(run: RunDirectory, prompt: str) -> set[int]:
    matches = (_INDEX.match(name) for name in run.storage.names(f"{IMAGES}/{prompt}"))
    return {int(match[1]) for match in matches if match}


def _range(images: int) -> range:
    if images > _MOST_IMAGES:
        raise TypeError(f"{images} images of one prompt")
    return range(images)


def wrong_draws(record: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the prompts whose recorded sample is not the one that the rule draws.

    Raises:
        ValueError: If the record is incomplete.
    """
    try:
        run_id, count, kept = record["run_id"], record["count"], record.get("drawn_from_kept_pictures", {})
        return tuple(
            prompt
            for prompt, drawn in record["drawn"].items()
            if tuple(drawn) != ordered(run_id, prompt, kept.get(prompt, _range(record["images"][prompt])))[:count]
        )
    except (AttributeError, LookupError, TypeError) as error:
        raise ValueError(f"{SAMPLES}: expected the record of a draw, found another one ({error})") from error
