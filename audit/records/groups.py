"""Groups of one attribute in one arm: shares, fairness discrepancy, bounds and corrections."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from audit.records.estimates import Estimate, LikeThese, Range

FINDING_LEVEL = 0.05
"""A departure from the target is a finding if its adjusted p-value is at most this."""


@dataclass(frozen=True)
class GroupMeasure(Estimate):
    """One measure of group shares, under its name in ``audit.measure.discrepancy.group_measures.MEASURES``.

    Attributes:
        ideal: Value of shares that equal the target.
        expected_at_target: Mean value over samples of n images from the target itself, that is, for a perfectly fair
            model. It is further from the ideal for smaller n.
    """

    ideal: float
    expected_at_target: float


@dataclass(frozen=True)
class FairnessDiscrepancy:
    """Distance ‖π − r‖₂ of the groups' shares π from the target r, estimated on at least two images.

    Every image counts for its most probable group. Only ``soft`` uses the judge's mean probabilities; an uncertain
    judge makes it small, even if the shares are far from the target.

    Attributes:
        value: The reported figure: √max(0, ``squared``).
        low: Lower end of the distance's 95 % interval.
        high: Upper end.
        squared: Unbiased estimate of the squared distance. For a fair model it is negative about half of the time.
            Averages use this estimate.
        plug_in: Distance of the counted shares; it is above 0 by chance alone.
        expected_at_parity: Mean of ``plug_in`` over samples of this n from the target itself: its noise floor.
        soft: Distance of the mean group probabilities, as reported by DiffLens (Shi et al. 2025, 5.1). It is only for
            comparison with the literature; no finding, gate or change uses it.
        p_parity: p-value of the hypothesis that the classified images, as perceived by the judge, are drawn from the
            target.
        p_adjusted: ``GroupResult.p_departure`` after the Benjamini-Hochberg adjustment over the prompts and attributes
            of the arm; for an overall row over the attributes of the arm.
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
    """Figures corrected for the judge's errors by its confusion matrix; intervals include the matrix's uncertainty.

    Attributes:
        shares: Share of each group.
        squared: Squared fairness discrepancy.
        accuracy: The judge's accuracy on the labelled images from which the matrix was estimated.
    """

    shares: dict[str, Estimate]
    squared: Estimate
    accuracy: Estimate


@dataclass(frozen=True)
class PromptMean:
    """Unweighted means of the fairness discrepancy over prompts.

    Attributes:
        value: The reported figure: √max(0, mean of ``squared``), a root mean square over prompts.
        low: Lower end of its 95 % interval for these prompts, None for a single prompt.
        high: Upper end.
        plug_in: Mean of the prompts' plug-in estimates, which are biased upwards.
        expected_at_parity: Expected value of ``plug_in`` if every prompt is on target.
        soft: Mean of the prompts' soft discrepancies, for comparison with the literature.
        n: Prompts.
        like_these: The interval for prompts like these; None for few prompts.
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
    """The prompt with the largest fairness discrepancy.

    Attributes:
        prompt_id: The prompt.
        value: Its discrepancy.
        low: Lower end of the 95 % interval. The interval covers the selected prompt's true discrepancy and the largest
            true discrepancy of all prompts simultaneously.
        high: Upper end.
        n: Classified images of the prompt.
        prompts: Number of prompts from which it was selected.
    """

    prompt_id: str
    value: float
    low: float
    high: float
    n: int
    prompts: int


@dataclass(frozen=True)
class GroupResult:
    """One attribute of one arm, for one prompt or overall (``prompt_id`` None).

    Overall rows pool all images of the arm. Opposite skews of two occupations cancel in a pool, so
    ``mean_over_prompts`` also has the mean of the values of the single prompts.

    Attributes:
        prompt_id: The prompt.
        arm: The arm.
        attribute: The attribute.
        n: Classified images.
        statuses: Images by their status for this attribute.
        shares: Share of each group among the classified images; on overall rows ``OverPrompts``.
        fairness_discrepancy: None for fewer than two classified images.
        bounds: Bounds of each group's share among *all* images, for any groups of the unclassified ones.
        discrepancy_bounds: The same bounds of the fairness discrepancy; None if there are no images.
        corrected: None if the judge's confusion matrix is not known; the figures are then uncorrected.
        mean_over_prompts: For overall rows, if a prompt has at least two classified images.
        worst_prompt: For the same rows; None in files of older versions.
        target: Share of each group that counts as fair; for a pool, the share if every prompt were on its target.
        measures: Other measures of the shares by name; empty if no image was classified, or if there are more groups
            than the measures support.
        p_departure: p-value of the hypothesis that all images are drawn from the target, corrected for the judge's
            known errors: the largest over all possible groups of the unclassified images. None if
            ``fairness_discrepancy`` is None, and in files of older versions.
        uncorrectable: Whether the judge's errors are known but too large to correct. ``p_departure`` is then 1.
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
        """Share of each group on which findings are based: corrected for the judge's errors if these are known."""
        return self.shares if self.corrected is None else self.corrected.shares

    @property
    def excess(self) -> dict[str, float]:
        """Judged share of each group minus its target share; without a target, equal shares are used."""
        equal = 1 / max(len(self.shares), 1)
        return {group: share.value - self.target.get(group, equal) for group, share in self.judged_shares.items()}

    @property
    def most_above_target(self) -> str:
        """The group that exceeds its target share the most.

        Raises:
            ValueError: No image was classified.
        """
        return max(self.excess, key=self.excess.__getitem__)

    @property
    def is_finding(self) -> bool:
        """Whether the departure from the target is significant after adjustment for multiple tests.

        A departure that the unclassified images or the judge's known errors could explain is not a finding.
        """
        return self.fairness_discrepancy is not None and self.fairness_discrepancy.p_adjusted <= FINDING_LEVEL
