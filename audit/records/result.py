"""The result of an audit, with all of its parts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from audit.records.attributes import TargetSource
from audit.records.changes import AttributeShift, GroupChange, MissingDifference
from audit.records.groups import GroupResult
from audit.records.intersections import Intersection
from audit.records.opinions import JudgeAgreement, SecondView
from audit.records.quality import QualityResult
from audit.records.verdicts import Verdict

SCHEMA_VERSION = 3
"""The version of ``audit.json`` that is written."""

COUNTED_SINCE = 3
"""The first version with fairness discrepancies, gates and changes of counted shares; before, of mean probabilities."""

POPULATION = (
    "Every figure and every interval is about these prompts, the ones that the audit asked for: an interval holds what "
    "other noise would have changed. An interval for prompts like these takes them for a sample of such prompts, so it "
    "also holds how much prompts differ; it stands beside figures of eight prompts or more."
)
"""Whom the figures of an audit speak of; said once in the report, in ``audit.json`` and wherever figures are listed."""


@dataclass(frozen=True)
class FeatureFinding:
    """One bias feature and the occupations that it carries.

    Attributes:
        attribute: For example ``gender``.
        group: The group whose probability it raises.
        latent: Index in the sparse autoencoder.
        score: Attribution to the group's probability, mean over the lens's samples and steps.
        mean_firing: Mean value over all positions of the lens's samples that show the group, silent ones included, and
            over the sampler steps at which it fires at all.
        by_prompt: Attribution for each occupation prompt in the audit's baseline arm, minus the mean over the prompts.
    """

    attribute: str
    group: str
    latent: int
    score: float
    mean_firing: float
    by_prompt: dict[str, float]


@dataclass(frozen=True)
class TwoStageSampling:
    """What two-stage sampling made: a pilot of every prompt, then the images that its share needed.

    Attributes:
        attribute: The attribute whose share the design was made for.
        group: The group whose share it was.
        half_width: Half the length that the share's 95 % interval was to have.
        widest: Half the length of the widest such interval, None where nothing was classified.
        pilot: Images of each prompt and arm in the first stage.
        single_stage: Images of each prompt and arm that a single stage needs for the same half-width.
        images: Prompt id → images in each arm, both stages together.
    """

    attribute: str
    group: str
    half_width: float
    widest: float | None
    pilot: int
    single_stage: int
    images: dict[str, int]

    @property
    def saving(self) -> float:
        """Images of a single stage by those that were made: 2 where half of them were saved."""
        return self.single_stage * len(self.images) / sum(self.images.values())


@dataclass(frozen=True)
class AuditResult:
    """All that an audit found; ``audit.json`` is this record.

    Attributes:
        lens: The lens's card as plain data (``name``, ``quality``, ``settings``, …), empty where no lens was used, with
            ``features``: a list of FeatureFinding records as plain data.
        changes: What each edited arm changed, by prompt and as the mean over prompts.
        shifts: How far each edited arm moved each attribute, with what chance alone would show.
        intersections: Pairs of attributes in each arm: all prompts together, and after them the prompts where the two
            most clearly go together, up to a number per arm and pair.
        missing: Edited arm → whether it leaves another share of its images unclassified than the baseline.
        verdicts: Verdicts per gate; empty while a config names no gates.
        agreement: How far each further judge agrees with the one that decides, by arm and attribute.
        second_views: What each further judge says of each finding.
        targets: Attribute → where its target is from; the shares themselves stand in the rows.
        two_stage: What two-stage sampling made, None where the number of images was fixed.
        schema_version: Of the file that the result was read from. Of an older one, some parts are worked out again and
            some are absent, see ``reports.export.old_schema``.
    """

    run_id: str
    config: dict[str, Any]
    provenance: dict[str, Any]
    results: tuple[GroupResult, ...]
    overall: tuple[GroupResult, ...]
    quality: tuple[QualityResult, ...]
    lens: dict[str, Any]
    changes: tuple[GroupChange, ...] = ()
    shifts: tuple[AttributeShift, ...] = ()
    intersections: tuple[Intersection, ...] = ()
    missing: dict[str, MissingDifference] = field(default_factory=dict)
    verdicts: tuple[Verdict, ...] = ()
    agreement: tuple[JudgeAgreement, ...] = ()
    second_views: tuple[SecondView, ...] = ()
    targets: dict[str, TargetSource] = field(default_factory=dict)
    two_stage: TwoStageSampling | None = None
    schema_version: int = SCHEMA_VERSION
