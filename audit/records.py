"""What travels between the steps of an audit: frozen records, and nothing else.

Only the standard library is imported here, so that planning and validating a config stays instant.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

BASELINE = "baseline"
"""Name of the arm without any intervention; every other arm is named after its mitigation."""


@dataclass(frozen=True)
class Attribute:
    """A perceived attribute and its groups, as one named classifier sees them.

    Attributes:
        name: For example ``gender``; always *perceived presentation*, never identity.
        groups: Group names in the order of every probability vector of this attribute.
    """

    name: str
    groups: tuple[str, ...]


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
    """What became of one image on its way to a perceived group."""

    CLASSIFIED = "classified"
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
    """

    shard_id: str
    images: int
    seconds: float
    statuses: dict[str, int]


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval and its sample size."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class FairnessDiscrepancy:
    """Distance of the mean group distribution from the target.

    Attributes:
        value: The figure to read: the soft plug-in of DiffLens (Shi et al. 2025, section 5.1).
        plug_in_soft: L2 distance of the mean group probabilities from the target.
        plug_in_hard: The same for the shares of the most probable group.
        expected_at_parity: Mean of ``plug_in_hard`` over samples of this n from the target itself: the noise floor.
        n: Classified images.
    """

    value: float
    plug_in_soft: float
    plug_in_hard: float
    expected_at_parity: float
    n: int


@dataclass(frozen=True)
class GroupResult:
    """One attribute of one arm, of one prompt or overall (``prompt_id`` None).

    Overall rows pool all images of the arm; ``mean_over_prompts`` then holds the mean of the prompts' own values, since
    opposite skews of two occupations cancel in a pool.
    """

    prompt_id: str | None
    arm: str
    attribute: str
    n: int
    statuses: dict[str, int]
    shares: dict[str, Estimate]
    fairness_discrepancy: FairnessDiscrepancy | None
    mean_over_prompts: float | None = None


@dataclass(frozen=True)
class Measurement:
    """A quality figure with the signature of how it was made.

    Attributes:
        value: The figure.
        n: Images (or pairs) behind it.
        signature: ``metric:…|net:…|n:…``: network, resize, estimator, version.
        low: Lower end of the 95 % interval, where there is one.
        high: Upper end.
        extra: Figures that belong to the same measurement under names of their own, for example ``rescaled`` for
            (cos + 1) / 2, ``noise_floor`` for the split-half value of the baseline.
    """

    value: float
    n: int
    signature: str
    low: float | None = None
    high: float | None = None
    extra: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class QualityResult:
    """What an arm cost or kept: CLIP-I and Fréchet/kernel distances against the baseline arm, CLIP-T per arm.

    Attributes:
        arm: The arm.
        clip_i: Paired image similarity to the baseline arm, None for the baseline itself.
        clip_t: Image-text similarity.
        fid: Fréchet distance to the baseline arm (None for the baseline), ``extra`` has ``noise_floor`` and, where the
            config names a reference, ``to_reference``.
        kid: Kernel distance, likewise.
        prompt_shown: Share of images that show the prompted occupation as the judge sees it, where it can.
        attribute_shift: By attribute, the mean over prompts of the total variation between the arm's and the baseline's
            group shares.
    """

    arm: str
    clip_i: Measurement | None
    clip_t: Measurement | None
    fid: Measurement | None
    kid: Measurement | None
    prompt_shown: Estimate | None
    attribute_shift: dict[str, float]


@dataclass(frozen=True)
class FeatureFinding:
    """One bias feature and the occupations that it carries.

    Attributes:
        attribute: For example ``gender``.
        group: The group whose probability it raises.
        latent: Index in the sparse autoencoder.
        score: Attribution to the group's probability, mean over the lens's samples and steps.
        mean_firing: Mean value where the latent fires.
        by_prompt: Attribution for each occupation prompt in the audit's baseline arm, minus the mean over the prompts.
    """

    attribute: str
    group: str
    latent: int
    score: float
    mean_firing: float
    by_prompt: dict[str, float]


@dataclass(frozen=True)
class AuditResult:
    """All that an audit found; ``audit.json`` is this record.

    Attributes:
        lens: The lens's card as plain data (``name``, ``quality``, ``settings``, …), empty where no lens was used, with
            ``features``: a list of FeatureFinding records as plain data.
        verdicts: Verdicts per gate; empty while a config names no gates.
    """

    run_id: str
    config: dict[str, Any]
    provenance: dict[str, Any]
    results: tuple[GroupResult, ...]
    overall: tuple[GroupResult, ...]
    quality: tuple[QualityResult, ...]
    lens: dict[str, Any]
    verdicts: tuple[dict[str, Any], ...] = ()
    schema_version: int = 1
