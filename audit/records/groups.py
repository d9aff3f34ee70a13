"""Groups of one attribute in one arm: shares, fairness discrepancy, bounds and corrections."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from audit.records.estimates import Estimate, LikeThese, Range

FINDING_LEVEL = 0.05
"""A departure from the target is a finding where its adjusted p-value is at most this."""


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
