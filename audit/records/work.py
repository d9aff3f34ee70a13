"""The work of an audit: prompts, image keys and their seeds, shards, and the receipts that workers return."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum

BASELINE = "baseline"
"""Name of the arm without any intervention; every other arm is named after its mitigation."""


@dataclass(frozen=True)
class Prompt:
    """One prompt of an audit.

    Attributes:
        id: Short name, unique in the audit and safe in file names, for example ``doctor``.
        text: The full text that conditions the model.
        occupation: The occupation that the text names.
    """

    id: str
    text: str
    occupation: str


@dataclass(frozen=True)
class PairPrompt(Prompt):
    """A prompt that names two occupations; ``occupation`` is both of them, as in ``doctor and nurse``.

    Attributes:
        first: The occupation that the config names first.
        second: The other one.
    """

    first: str
    second: str


@dataclass(frozen=True, order=True)
class ImageKey:
    """Identity of an image across arms; it determines the noise of the image and pairs the arms."""

    prompt_id: str
    index: int

    def seed(self, audit_seed: int) -> int:
        """Return the seed of this image in [0, 2**63), the same in every arm, shard plan and worker."""
        return derive_seed(audit_seed, self.prompt_id, self.index)


def derive_seed(*parts: int | str) -> int:
    """Hash ``parts`` to a seed in [0, 2**63); equal parts give equal seeds on every machine."""
    text = "\x1f".join(str(part) for part in parts)
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


@dataclass(frozen=True)
class Shard:
    """A fixed list of image keys of one prompt: the unit of work, retry and resume.

    Attributes:
        prompt: The prompt that all images of the shard share.
        number: Position of the shard within its prompt.
        indices: Image indices, in the order of the batch.
    """

    prompt: Prompt
    number: int
    indices: tuple[int, ...]

    @property
    def id(self) -> str:
        """Name of the shard and of its file."""
        return f"{self.prompt.id}-{self.number:04d}"

    @property
    def keys(self) -> tuple[ImageKey, ...]:
        """Image keys in batch order."""
        return tuple(ImageKey(self.prompt.id, index) for index in self.indices)


class Status(StrEnum):
    """Outcome of generating and judging one image.

    ``OUTSIDE_GROUPS`` belongs to one attribute: the judge's most probable answer is a group that the config does not
    audit. The image is not counted in any group of this attribute, but keeps its groups of the other attributes. The
    other statuses belong to the whole image. ``UNLABELLED`` is for labels by hand: an attribute has no label.
    """

    CLASSIFIED = "classified"
    OUTSIDE_GROUPS = "outside_groups"
    LOW_CONFIDENCE = "low_confidence"
    NO_FACE = "no_face"
    FAILED = "failed"
    UNLABELLED = "unlabelled"


@dataclass(frozen=True)
class ShardReceipt:
    """The result that a worker returns for a finished shard: a few hundred bytes, never an image.

    Attributes:
        shard_id: The shard.
        images: Number of generated images, over all arms.
        seconds: Wall time of the worker.
        statuses: Images by status, over all arms.
        too_large: Batch sizes for which memory was too small, in the order of the attempts; the shard was then made in
            batches of half the last size.
        node: The node of the worker, as ``<address> <node id>``; empty outside a cluster.
    """

    shard_id: str
    images: int
    seconds: float
    statuses: dict[str, int]
    too_large: tuple[int, ...] = ()
    node: str = ""
