"""The complete result of an audit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from audit.records.arms.clip_d import GroupSimilarity
from audit.records.arms.counterfactuals import CounterfactualPair
from audit.records.arms.joint import JointResult
from audit.records.arms.off_path import OffPath
from audit.records.attributes import TargetSource
from audit.records.changes import AttributeShift, GroupChange, MissingDifference
from audit.records.groups import GroupResult
from audit.records.intersections import Intersection
from audit.records.located.location import LocationMap
from audit.records.opinions import JudgeAgreement, SecondView
from audit.records.quality import QualityResult
from audit.records.verdicts import Verdict

SCHEMA_VERSION = 3
"""The current version of ``audit.json``."""

COUNTED_SINCE = 3
"""The first version whose fairness discrepancies, gates and changes use counted shares; older ones use mean
probabilities."""

POPULATION = (
    "All figures and intervals are for exactly the prompts of this audit: an interval covers the variation that other "
    "noise seeds would cause. An interval for prompts like these treats the prompts as a sample, so it also covers the "
    "variation between prompts; it is given for figures of eight prompts or more."
)
"""The population that the figures describe; stated once in the report, in ``audit.json`` and in lists of figures."""


@dataclass(frozen=True)
class FeatureFinding:
    """One bias feature and its effect on each occupation.

    Attributes:
        attribute: For example ``gender``.
        group: The group whose probability it raises.
        latent: Index in the sparse autoencoder.
        score: Attribution to the group's probability, mean over the lens's samples and steps.
        mean_firing: Mean activation over all positions of the lens's samples that show the group, including inactive
            positions, and over the sampler steps at which the feature is active at all.
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
    """The outcome of two-stage sampling: a pilot of every prompt, then the images that its share needed.

    Attributes:
        attribute: The attribute whose share determines the sample size.
        group: The group whose share it is.
        half_width: Required half-width of the share's 95 % interval.
        widest: Half-width of the widest such interval, None if no image was classified.
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
        """Images of a single stage divided by the images made: 2 means that half of them were saved."""
        return self.single_stage * len(self.images) / sum(self.images.values())


@dataclass(frozen=True)
class AuditResult:
    """All results of an audit; ``audit.json`` is this record.

    Attributes:
        lens: The lens's card as plain data (``name``, ``quality``, ``settings``, …) with ``features``, a list of
            FeatureFinding records as plain data; empty if no lens was used.
        changes: The changes of each edited arm, by prompt and as the mean over prompts.
        shifts: The shift of each attribute in each edited arm, with the shift expected by chance alone.
        intersections: Pairs of attributes in each arm: first all prompts together, then the prompts with the strongest
            association, up to a limit per arm and pair.
        joint: Joint distribution of the attributes that one arm steers together, in this arm and in the baseline: over
            all images, then for each prompt; empty without such an arm.
        off_path: How far the edits of each arm leave what the model makes without them; empty in older files.
        clip_d: CLIP-D of every arm, attribute and group; empty without a CLIP model and in older files.
        counterfactuals: Pairs of arms whose prompts name different groups of one attribute.
        missing: Edited arm → whether its share of unclassified images differs from the baseline's.
        verdicts: Verdicts per gate; empty if the config names no gates.
        agreement: Agreement of each second judge with the main judge, by arm and attribute.
        second_views: The view of each second judge on each finding.
        targets: Attribute → source of its target; the shares themselves are in the rows.
        two_stage: Outcome of two-stage sampling, None if the number of images was fixed.
        strengths: Edited arm → prompt id → group → strength that was searched for the arm, with its trials, as plain
            data; strengths of edits through a lens are in ``lens``.
        location: The location map of the model, None if there is none.
        schema_version: Version of the file that the result was read from. For an older version, some parts are
            recomputed and some are absent, see ``reports.export.old_schema``.
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
    joint: tuple[JointResult, ...] = ()
    off_path: tuple[OffPath, ...] = ()
    clip_d: tuple[GroupSimilarity, ...] = ()
    counterfactuals: tuple[CounterfactualPair, ...] = ()
    missing: dict[str, MissingDifference] = field(default_factory=dict)
    verdicts: tuple[Verdict, ...] = ()
    agreement: tuple[JudgeAgreement, ...] = ()
    second_views: tuple[SecondView, ...] = ()
    targets: dict[str, TargetSource] = field(default_factory=dict)
    two_stage: TwoStageSampling | None = None
    strengths: dict[str, Any] = field(default_factory=dict)
    location: LocationMap | None = None
    schema_version: int = SCHEMA_VERSION
