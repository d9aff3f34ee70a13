"""Figures of perceived groups for gates, for one arm and attribute, with intervals that cover all images.

Every figure is computed from the classified images. Its interval also covers all possible groups of the other images,
and the uncertainty of the judge's confusion matrix if one is known (:mod:`audit.measure.unclassified.all_images`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from audit.measure.discrepancy.estimate import display
from audit.measure.discrepancy.group_measures import MEASURES, MOST_GROUPS
from audit.measure.shares.classifier_error import ConfusionMatrix, IllConditioned
from audit.measure.unclassified.all_images import AllImages
from audit.planning.targets import Targets, pooled_target, target_of
from audit.records.attributes import Attribute
from audit.results.arm_rows import ArmRows
from audit.results.gates.verdicts import GateInput, Interval, NoData
from audit.results.two_stages import Stages

Floats = NDArray[np.float64]
Reading = GateInput | NoData

NO_IMAGES = NoData("no image could be classified")


@dataclass(frozen=True)
class GroupFigures:
    """Computes figures of perceived groups from the rows of one arm.

    Attributes:
        rows: The rows of the arm.
        attribute: The attribute.
        targets: The distribution that counts as fair, by prompt and attribute.
        matrix: The judge's confusion matrix for a correction of its errors; None for figures as perceived.
        stages: Two-stage sampling, None if the number of images was fixed.
        left_alone: Whether a confusion matrix is known and not used.
    """

    rows: ArmRows
    attribute: Attribute
    targets: Targets
    matrix: ConfusionMatrix | None = None
    stages: Stages | None = None
    left_alone: bool = False

    def share(self, group: str, prompt_id: str | None) -> Reading:
        """Return the share of a group in the images of a prompt, or in all images."""

        def interval(images: AllImages, confidence: float) -> Interval:
            staged = self._staged(group, prompt_id, confidence) if not images.unknown.any() else None
            return staged or images.share_interval(place, confidence)

        place, images = self.attribute.groups.index(group), self._images(prompt_id)
        return self._reading(images, lambda known: float(known.shares()[0, place]), interval)

    def measure(self, name: str, prompt_id: str | None) -> Reading:
        """Return a measure of ``MEASURES`` for the images of a prompt, or for all images pooled.

        The target of a pool is the distribution of all its images, classified or not, if every prompt is on target.
        """
        measure, images = MEASURES[name], self._images(prompt_id)
        target = images.targets[0]
        if target.size > MOST_GROUPS or not measure.defined_for(target):
            return NoData(f"it is undefined for a target with a share of 0, or for more than {MOST_GROUPS} groups")
        return self._reading(
            images,
            lambda known: float(measure.function(known.shares()[0], target)),
            lambda images, confidence: images.measure_interval(measure, confidence),
            "all prompts pooled, so opposite skews cancel" if prompt_id is None else "",
        )

    def discrepancy(self, prompt_id: str) -> Reading:
        """Return the fairness discrepancy of a prompt."""
        images = self._images(prompt_id)
        if images.counts.sum() < 2:
            return NO_IMAGES
        return self._reading(images, lambda known: display(float(known.squares()[0])), AllImages.discrepancy_interval)

    def mean_discrepancy(self) -> Reading:
        """Return the root mean square of the prompts' discrepancies, as in the report."""
        targets = np.array([target_of(self.targets, prompt, self.attribute) for prompt in self.rows.prompts])
        images = replace(self._images(None), owners=self.rows.prompt_numbers(), targets=targets, prompts=None)
        measured = images.classified(least=2).size
        if measured < 2:
            return NoData(
                "a mean over prompts needs at least two prompts with classified images; set prompt to a single one"
            )

        def interval(images: AllImages, confidence: float) -> Interval:
            kept = images if images.unknown.any() else images.classified(least=2)
            low, high = kept.mean_square_interval(confidence)
            return display(low), display(high)

        return self._reading(
            images,
            lambda known: display(float(known.classified(least=2).squares().mean())),
            interval,
            f"root mean square over {measured} prompts",
        )

    def _reading(
        self,
        images: AllImages,
        value: Callable[[AllImages], float],
        interval: Callable[[AllImages, float], Interval],
        note: str = "",
    ) -> Reading:
        """Return a figure of the classified images with an interval that covers all images."""
        known = images.classified()
        if not known.codes.size:
            return NO_IMAGES
        try:
            figure = value(known)
        except IllConditioned as error:
            return NoData(
                f"the judge's errors cannot be corrected: {error}; set `correct: false` to use the shares as perceived"
            )
        missing = float(images.unknown.sum() / images.codes.size)
        return GateInput(
            value=figure,
            interval_at=lambda confidence: interval(images, confidence),
            n=known.codes.size,
            note="; ".join(filter(None, (note, self._correction(known, value)))),
            unclassified=missing,
            classified_at=(lambda confidence: interval(known, confidence)) if missing else None,
            corrected=self.matrix is not None,
        )

    def _correction(self, known: AllImages, value: Callable[[AllImages], float]) -> str:
        """Describe the correction for the judge's errors, if these are known."""
        if self.matrix is not None:
            return f"corrected for the judge's errors; as perceived: {value(replace(known, matrix=None)):.3f}"
        return "as perceived, not corrected for the judge's known errors" if self.left_alone else ""

    def _images(self, prompt_id: str | None) -> AllImages:
        """Return the images of a prompt, or all images, as a single sample."""
        here = slice(None) if prompt_id is None else self.rows.prompts[prompt_id]
        codes, assigned = self.rows.codes(self.attribute.name)[here], self.rows.stratum_codes()
        strata = None
        if assigned is not None:
            strata = (self.rows.prompt_numbers() * (assigned.max() + 1) + assigned)[here]
        owners = np.zeros(len(codes), dtype=np.int64)
        prompts = self.rows.prompt_numbers() if prompt_id is None else None
        return AllImages(codes, owners, self._target(prompt_id)[None], strata, self.matrix, prompts)

    def _target(self, prompt_id: str | None) -> Floats:
        if prompt_id is not None:
            return np.array(target_of(self.targets, prompt_id, self.attribute))
        images = {prompt: here.stop - here.start for prompt, here in self.rows.prompts.items()}
        return np.array(pooled_target(self.targets, images, self.attribute))

    def _staged(self, group: str, prompt_id: str | None, confidence: float) -> Interval | None:
        """Return the interval of a two-stage design, None if the design is made for another share."""
        if self.stages is None or self.matrix is not None:
            return None
        found = self.stages.interval(self.rows, self.attribute.name, group, prompt_id, confidence)
        return None if found is None else (found.low, found.high)
