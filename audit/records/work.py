"""The work of an audit: prompts, image keys and their seeds, shards, and what a worker hands back."""

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


@dataclass(frozen=True, order=True)
class ImageKey:
    """Identity of an image across arms: it fixes the image's own noise and pairs the arms."""

    prompt_id: str
    index: int

    def seed(self, audit_seed: int) -> int:
        """Return this image's own seed in [0, 2**63), the same in every arm, shard plan and worker."""
        return derive_seed(audit_seed, self.prompt_id, self.index)


def derive_seed(*parts: int | str) -> int:
    """Hash ``parts`` to a seed in [0, 2**63); equal parts give equal seeds on every machine."""
    text = "\x1f".join(str(part) for part in parts)
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


@dataclass(frozen=True)
class Shard:
    """A fixed list of image keys of one prompt: the unit of work, of retry and of resume.

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
    """What became of one image on its way to a perceived group.

    ``OUTSIDE_GROUPS`` belongs to one attribute: the judge's most probable answer is a group that the config leaves out.
    The image is counted under no other group, and still has its groups of the other attributes. The other statuses
    belong to the image as a whole.
    """

    CLASSIFIED = "classified"
    OUTSIDE_GROUPS = "outside_groups"
    LOW_CONFIDENCE = "low_confidence"
    NO_FACE = "no_face"
    FAILED = "failed"


@dataclass(frozen=True)
class ShardReceipt:
    """What a worker hands back for a finished shard: a few hundred bytes, never an image.

    Attributes:
        shard_id: Which shard.
        images: Images made, over all arms.
        seconds: Wall time of the worker.
        statuses: Images by status, over all arms.
        too_large: Batches for which memory was too small, in the order in which they were tried; the shard was made in
            batches of half of the last one.
        node: Where it was done, as ``<address> <node id>``; empty outside a cluster.
    """

    shard_id: str
    images: int
    seconds: float
    statuses: dict[str, int]
    too_large: tuple[int, ...] = ()
    node: str = ""
