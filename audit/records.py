"""What travels between the steps of an audit: frozen records, and nothing else.

Only the standard library is imported here, so that planning and validating a config stays instant.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

BASELINE = "baseline"
"""Name of the arm without any intervention; every other arm is named after its mitigation."""

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

FINDING_LEVEL = 0.05
"""A departure from the target is a finding where its adjusted p-value is at most this."""


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
class SecondOpinion:
    """A further judge, whose answers decide nothing.

    Attributes:
        judge: Its name in the config.
        attributes: What it is asked about, in the config's order.
    """

    judge: str
    attributes: tuple[Attribute, ...]


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


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval and its sample size.

    Shares get theirs from ``audit.measure.inference.intervals.share_estimate``.
    """

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class LikeThese:
    """The 95 % interval of the figure beside it for *prompts like these*, of which the audit's are then a sample.

    It also holds how much prompts differ. Every other interval of an audit is about the prompts that it asked for.
    """

    low: float
    high: float


@dataclass(frozen=True)
class OverPrompts(Estimate):
    """A figure of several prompts together; its interval is about these prompts.

    Attributes:
        like_these: None of fewer prompts than ``audit.measure.prompts.over_prompts.FEW_PROMPTS``: too few to speak of
            others.
    """

    like_these: LikeThese | None = None


@dataclass(frozen=True)
class Range:
    """Smallest and largest value that the unclassified images allow: certain, given the judge, and no interval."""

    low: float
    high: float


@dataclass(frozen=True)
class Change(Estimate):
    """A change with its interval and its sample size.

    Attributes:
        standard_error: Of the change.
        p_value: Two-sided, of no change; the interval excludes 0 where it is below 1 − confidence.
    """

    standard_error: float
    p_value: float


@dataclass(frozen=True)
class ChangeOverPrompts(Change):
    """The mean of a change over several prompts; its interval and p-value are about these prompts.

    Attributes:
        like_these: None of fewer prompts than ``audit.measure.prompts.over_prompts.FEW_PROMPTS``: too few to speak of
            others.
    """

    like_these: LikeThese | None = None


@dataclass(frozen=True)
class TargetSource:
    """Where an attribute's target, the distribution that counts as fair, is from.

    Attributes:
        kind: ``uniform`` (equal shares), ``shares`` (named in the config) or ``csv`` (a file with shares per prompt).
        file: The file, as the config names it.
        sha256: Of the file's text.
        origins: What the file itself says of where its numbers are from, each once.
    """

    kind: Literal["uniform", "shares", "csv"]
    file: str | None = None
    sha256: str | None = None
    origins: tuple[str, ...] = ()


@dataclass(frozen=True)
class GroupMeasure(Estimate):
    """One measure of group shares, under its name in ``audit.measure.discrepancy.group_measures.MEASURES``.

    Attributes:
        ideal: Value of shares that equal the target.
        expected_at_target: Mean value over samples of n images from the target itself: what a perfectly fair model
            would score, further from the ideal the smaller n is.
    """

    ideal: float
    expected_at_target: float


@dataclass(frozen=True)
class FairnessDiscrepancy:
    """Distance ‖π − r‖₂ of the groups' shares π from the target r, estimated on at least two images.

    Every image counts for its most probable group. ``soft`` alone is of the judge's mean probabilities: a judge that is
    never sure makes it small, however lopsided the shares are.

    Attributes:
        value: The figure to read: √max(0, ``squared``).
        low: Lower end of the distance's 95 % interval.
        high: Upper end.
        squared: Unbiased estimate of the squared distance; below 0 about half of the time where the model is fair.
            Averages are taken of this one.
        plug_in: Distance of the shares as counted, which chance alone keeps above 0.
        expected_at_parity: Mean of ``plug_in`` over samples of this n from the target itself: its noise floor.
        soft: Distance of the mean group probabilities, as DiffLens prints it (Shi et al. 2025, 5.1). For comparison
            with the literature: no finding, gate or change is of this one.
        p_parity: Of the classified images, as the judge sees them, being drawn from the target itself.
        p_adjusted: ``GroupResult.p_departure`` after Benjamini and Hochberg, over the prompts and attributes of the
            arm; of an overall row over the attributes of the arm.
        n: Classified images.
    """

    value: float
    low: float
    high: float
    squared: float
    plug_in: float
    expected_at_parity: float
    soft: float
    p_parity: float
    p_adjusted: float
    n: int


@dataclass(frozen=True)
class Corrected:
    """Figures with the judge's own errors taken out, by its confusion matrix; their intervals hold the matrix's error.

    Attributes:
        shares: Share of each group.
        squared: Squared fairness discrepancy.
        accuracy: The judge's, on the labelled images behind the matrix.
    """

    shares: dict[str, Estimate]
    squared: Estimate
    accuracy: Estimate


@dataclass(frozen=True)
class PromptMean:
    """Means of the fairness discrepancy over prompts, each counted once and unweighted.

    Attributes:
        value: The figure to read: √max(0, mean of ``squared``), a root mean square over prompts.
        low: Lower end of its 95 % interval about these prompts, None for a single prompt.
        high: Upper end.
        plug_in: Mean of the prompts' plug-ins, each above the truth.
        expected_at_parity: Mean of what is to be expected of these plug-ins if every prompt is on target.
        soft: Mean of the prompts' soft discrepancies, for comparison with the literature.
        n: Prompts.
        like_these: The interval for prompts like these; None of few prompts.
    """

    value: float
    low: float | None
    high: float | None
    plug_in: float
    expected_at_parity: float
    soft: float
    n: int
    like_these: LikeThese | None = None


@dataclass(frozen=True)
class WorstPrompt:
    """The prompt with the largest fairness discrepancy, chosen for that.

    Attributes:
        prompt_id: The prompt.
        value: Its discrepancy.
        low: Lower end of the 95 % interval, which holds both the chosen prompt's true discrepancy and the largest true
            one of all prompts, at once.
        high: Upper end.
        n: Classified images of the prompt.
        prompts: How many it was chosen from.
    """

    prompt_id: str
    value: float
    low: float
    high: float
    n: int
    prompts: int


@dataclass(frozen=True)
class GroupResult:
    """One attribute of one arm, of one prompt or overall (``prompt_id`` None).

    Overall rows pool all images of the arm; ``mean_over_prompts`` then holds the mean of the prompts' own values, since
    opposite skews of two occupations cancel in a pool.

    Attributes:
        prompt_id: The prompt.
        arm: The arm.
        attribute: The attribute.
        n: Classified images.
        statuses: Images by their status for this attribute.
        shares: Share of each group among the classified images; on overall rows ``OverPrompts``.
        fairness_discrepancy: None below two classified images.
        bounds: Share of each group among *all* images, whatever the unclassified ones show.
        discrepancy_bounds: Likewise the fairness discrepancy; None where there is no image.
        corrected: None where the judge's confusion matrix is not known: the figures are uncorrected.
        mean_over_prompts: On overall rows, where a prompt has at least two classified images.
        worst_prompt: Likewise; None in files of older versions.
        target: Share of each group that counts as fair; of a pool what it would have with every prompt on its target.
        measures: Other measures of the shares by name; empty where nothing was classified, or there are more groups
            than they are worked out for.
        p_departure: Of all images being drawn from the target itself, with the judge's known errors taken out: the
            largest over everything that the unclassified images could be. None where ``fairness_discrepancy`` is, and
            in files of older versions.
        uncorrectable: Whether the judge's errors are known and too large to be taken out. ``p_departure`` is then 1.
    """

    prompt_id: str | None
    arm: str
    attribute: str
    n: int
    statuses: dict[str, int]
    shares: Mapping[str, Estimate]
    fairness_discrepancy: FairnessDiscrepancy | None
    bounds: dict[str, Range] = field(default_factory=dict)
    discrepancy_bounds: Range | None = None
    corrected: Corrected | None = None
    mean_over_prompts: PromptMean | None = None
    worst_prompt: WorstPrompt | None = None
    target: dict[str, float] = field(default_factory=dict)
    measures: dict[str, GroupMeasure] = field(default_factory=dict)
    p_departure: float | None = None
    uncorrectable: bool = False

    @property
    def judged_shares(self) -> Mapping[str, Estimate]:
        """Share of each group that findings are about: corrected for the judge's errors where they are known."""
        return self.shares if self.corrected is None else self.corrected.shares

    @property
    def excess(self) -> dict[str, float]:
        """Judged share of each group less its target share; equal shares are the target where none is named."""
        equal = 1 / max(len(self.shares), 1)
        return {group: share.value - self.target.get(group, equal) for group, share in self.judged_shares.items()}

    @property
    def most_above_target(self) -> str:
        """The group that exceeds its target share the most.

        Raises:
            ValueError: Nothing was classified.
        """
        return max(self.excess, key=self.excess.__getitem__)

    @property
    def is_finding(self) -> bool:
        """Whether the groups depart from the target by more than chance, many tests allowed for.

        What the unclassified images could explain, or the judge's known errors, is no finding.
        """
        return self.fairness_discrepancy is not None and self.fairness_discrepancy.p_adjusted <= FINDING_LEVEL


@dataclass(frozen=True)
class JudgeAgreement:
    """How far a further judge and the one that decides say the same of the images that both could classify.

    Agreement is no accuracy: two judges can be wrong together, and a poor second judge disagrees with a good first one.

    Attributes:
        judge: Name of the further judge.
        arm: The arm.
        attribute: The attribute.
        n: Images that both classified, over all prompts.
        share: Share of them with the same group; None where there is no such image.
        kappa: Cohen's kappa; None also where both judges gave all images one and the same group.
    """

    judge: str
    arm: str
    attribute: str
    n: int
    share: Estimate | None
    kappa: Estimate | None


@dataclass(frozen=True)
class SecondView:
    """What a further judge says of one finding, on the images that both judges could classify.

    Attributes:
        judge: Name of the further judge.
        prompt_id: The finding's prompt.
        arm: The finding's arm.
        attribute: The finding's attribute.
        group: The group that exceeds its target share the most, as the deciding judge sees it.
        target: That target share.
        share: Share of this group as the further judge sees it; None without a common image.
        direction: ``same`` where this interval lies above the target, ``opposite`` where it lies below, else
            ``unclear``.
    """

    judge: str
    prompt_id: str
    arm: str
    attribute: str
    group: str
    target: float
    share: Estimate | None
    direction: Literal["same", "unclear", "opposite"]


@dataclass(frozen=True)
class GroupChange:
    """What an arm changed in one attribute, against the baseline's images of the same keys.

    Attributes:
        prompt_id: The prompt; None for the mean over prompts.
        arm: The edited arm.
        attribute: The attribute.
        n: Images that both arms could classify; prompts for the mean over prompts.
        shares: Change of each group's share, paired; of a mean over prompts ``OverPrompts``.
        squared: Change of the squared fairness discrepancy, as counted and paired; negative is fairer.
    """

    prompt_id: str | None
    arm: str
    attribute: str
    n: int
    shares: Mapping[str, Estimate]
    squared: Change


@dataclass(frozen=True)
class MissingDifference:
    """Whether one arm leaves another share of its images unclassified than another arm does.

    Attributes:
        before: Unclassified share of the first arm, the baseline.
        after: Unclassified share of the second arm.
        difference: ``after`` minus ``before``, Newcombe's interval.
    """

    before: Estimate
    after: Estimate
    difference: Estimate

    @property
    def differs(self) -> bool:
        """Whether the interval of the difference excludes 0: the arms' groups are then counted on unlike images."""
        return self.difference.low > 0 or self.difference.high < 0


@dataclass(frozen=True)
class AttributeShift:
    """How far an arm moved the shares of one attribute, as one entry of the cross-attribute matrix.

    Attributes:
        arm: The edited arm.
        attribute: The measured attribute, whichever the arm edits.
        value: Mean over prompts of the total variation between the arms' shares.
        floor: The same under no change, by swapping the arms of single images at random: what chance alone would show.
        p_value: Of no change.
        prompts: Prompts with a classified image in both arms.
        pairs: Images classified in both arms.
        low: Lower end of the 95 % interval, with what chance adds taken off; None in files of older versions.
        high: Upper end.
        like_these: The interval for prompts like these.
    """

    arm: str
    attribute: str
    value: float
    floor: float
    p_value: float
    prompts: int
    pairs: int
    low: float | None = None
    high: float | None = None
    like_these: LikeThese | None = None


@dataclass(frozen=True)
class Cell:
    """One combination of two attributes' groups.

    Attributes:
        groups: A group of each attribute, in their order.
        share: Share of the images classified in both attributes; ``n`` is their number.
        count: Images of this combination.
        expected: Images that independent attributes with the same shares would have here, prompt by prompt.
        small: Whether both ``count`` and ``expected`` are too few to read a share from.
    """

    groups: tuple[str, str]
    share: Estimate
    count: int
    expected: float
    small: bool


@dataclass(frozen=True)
class Dependence:
    """Whether two attributes go together within prompts.

    Attributes:
        statistic: G of one prompt's table; over prompts the generalised Cochran-Mantel-Haenszel statistic.
        p_value: Of independence.
        p_adjusted: The same after Benjamini and Hochberg, over the prompts and pairs of the arm; over all prompts
            ``p_value`` itself.
        method: ``exact`` (every 2 × 2 table), ``monte_carlo`` (random tables, fixed seed) or
            ``cochran_mantel_haenszel`` (over prompts, by its limiting χ² distribution).
        cramers_v: Cramér's V in [0, 1], bias-corrected; over prompts their root mean square, and ``n`` is how many.
    """

    statistic: float
    p_value: float
    p_adjusted: float
    method: Literal["exact", "monte_carlo", "cochran_mantel_haenszel"]
    cramers_v: Estimate


@dataclass(frozen=True)
class Intersection:
    """Two attributes at once, in one arm: of one prompt, or of all (``prompt_id`` None).

    Attributes:
        prompt_id: The prompt.
        arm: The arm.
        attributes: Names of the two attributes.
        n: Images classified in both.
        cells: Every combination of groups, also those that no image shows; over all prompts their images pooled.
        dependence: Whether the two go together; None where an attribute shows a single group in every prompt.
    """

    prompt_id: str | None
    arm: str
    attributes: tuple[str, str]
    n: int
    cells: tuple[Cell, ...]
    dependence: Dependence | None


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
        like_these: The interval for prompts like these, where there is one.
    """

    value: float
    n: int
    signature: str
    low: float | None = None
    high: float | None = None
    extra: dict[str, float] = field(default_factory=dict)
    like_these: LikeThese | None = None


@dataclass(frozen=True)
class QualityResult:
    """What an arm cost or kept: CLIP-I and Fréchet/kernel distances against the baseline arm, CLIP-T per arm.

    Attributes:
        arm: The arm.
        clip_i: Paired image similarity to the baseline arm, None for the baseline itself.
        clip_t: Image-text similarity.
        fid: Fréchet distance to the baseline arm (None for the baseline), ``extra`` has ``noise_floor``.
        kid: Kernel distance, likewise.
        prompt_shown: Share of images that show the prompted occupation as the judge sees it, where it can.
        attribute_shift: By attribute, the mean over prompts of the total variation between the arm's and the baseline's
            group shares.
        fid_to_reference: Fréchet distance to the reference images, of the baseline too; None where the config names
            none.
        kid_to_reference: Kernel distance, likewise.
    """

    arm: str
    clip_i: Measurement | None
    clip_t: Measurement | None
    fid: Measurement | None
    kid: Measurement | None
    prompt_shown: OverPrompts | None
    attribute_shift: dict[str, float]
    fid_to_reference: Measurement | None = None
    kid_to_reference: Measurement | None = None


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
class Verdict:
    """Whether one figure keeps within the limit of one gate.

    Attributes:
        gate: Name of the gate in the config.
        measure: What is limited, for example ``share:female``.
        attribute: The attribute concerned, None where the measure has none.
        prompt_id: The prompt, None for the arm as a whole.
        arm: The arm.
        limit: The limit.
        side: ``max`` where the figure may not exceed the limit, ``min`` where it may not fall below it.
        value: The figure, None where there is nothing to measure it on.
        low: Lower end of the interval that decided, None likewise.
        high: Upper end.
        confidence: Confidence of that interval; above 95 % where a run has several gates.
        n: Images (or pairs) behind the figure.
        verdict: ``pass``, ``fail`` or ``inconclusive``.
        level: ``fail``, or ``warn`` for a gate that never fails a run.
        margin: Distance of the figure from the limit, negative on the wrong side.
        note: Why the verdict is what it is, where the interval alone does not say.
        from_unclassified: Part of the interval's width that images without a perceived group account for: it runs from
            the lower end of the best case to the upper end of the worst case over everything that they could be.
        corrected: Whether the judge's own errors are taken out of the figure and its interval.
    """

    gate: str
    measure: str
    attribute: str | None
    prompt_id: str | None
    arm: str
    limit: float
    side: Literal["max", "min"]
    value: float | None
    low: float | None
    high: float | None
    confidence: float
    n: int
    verdict: Literal["pass", "fail", "inconclusive"]
    level: Literal["fail", "warn"]
    margin: float | None
    note: str = ""
    from_unclassified: float = 0.0
    corrected: bool = False


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
