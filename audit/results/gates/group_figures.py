"""What gates on perceived groups are judged on: figures of one arm and attribute, with intervals that hold all images.

Every figure is that of the classified images. Its interval holds what the other images leave open as well, and the
error of the judge's confusion matrix where one is known (:mod:`audit.measure.unclassified.all_images`).
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
    """Reads figures of perceived groups off the rows of one arm.

    Attributes:
        rows: The arm.
        attribute: The attribute.
        targets: The distribution that counts as fair, by prompt and attribute.
        matrix: The judge's confusions where its errors are to be taken out; None to take its answers as they are.
        stages: Two-stage sampling, None where the number of images was fixed.
        left_alone: Whether a confusion matrix is known and not used.
    """

    rows: ArmRows
    attribute: Attribute
    targets: Targets
    matrix: ConfusionMatrix | None = None
    stages: Stages | None = None
    left_alone: bool = False

    def share(self, group: str, prompt_id: str | None) -> Reading:
        """Return the share of a group in the images of a prompt, or in all of them."""

        def interval(images: AllImages, confidence: float) -> Interval:
            staged = self._staged(group, prompt_id, confidence) if not images.unknown.any() else None
            return staged or images.share_interval(place, confidence)

        place, images = self.attribute.groups.index(group), self._images(prompt_id)
        return self._reading(images, lambda known: float(known.shares()[0, place]), interval)

    def measure(self, name: str, prompt_id: str | None) -> Reading:
        """Return a measure of ``MEASURES`` of the images of a prompt, or of all of them pooled.

        The target of a pool is what all its images would have with every prompt on its own target, classified or not.
        """
        measure, images = MEASURES[name], self._images(prompt_id)
        target = images.targets[0]
        if target.size > MOST_GROUPS or not measure.defined_for(target):
            return NoData(f"it is undefined for a target that wants none of a group, or more than {MOST_GROUPS} groups")
        return self._reading(
            images,
            lambda known: float(measure.function(known.shares()[0], target)),
            lambda images, confidence: images.measure_interval(measure, confidence),
            "all prompts pooled, where opposite skews cancel" if prompt_id is None else "",
        )

    def discrepancy(self, prompt_id: str) -> Reading:
        """Return the fairness discrepancy of a prompt."""
        images = self._images(prompt_id)
        if images.counts.sum() < 2:
            return NO_IMAGES
        return self._reading(images, lambda known: display(float(known.squares()[0])), AllImages.discrepancy_interval)

    def mean_discrepancy(self) -> Reading:
        """Return the root mean square of the prompts' discrepancies, as the report prints it."""
        targets = np.array([target_of(self.targets, prompt, self.attribute) for prompt in self.rows.prompts])
        images = replace(self._images(None), owners=self.rows.prompt_numbers(), targets=targets, prompts=None)
        measured = images.classified(least=2).size
        if measured < 2:
            return NoData("a mean over prompts needs two of them with classified images; gate the prompt itself")

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
        """Return a figure of the classified images with the interval of all of them."""
        known = images.classified()
        if not known.codes.size:
            return NO_IMAGES
        try:
            figure = value(known)
        except IllConditioned as error:
            return NoData(f"the judge's errors cannot be taken out: {error}; `correct: false` judges what it perceived")
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
        """Say what became of the judge's own errors, where they are known."""
        if self.matrix is not None:
            return f"corrected for the judge's own errors, as perceived {value(replace(known, matrix=None)):.3f}"
        return "as perceived, with the judge's known errors in it" if self.left_alone else ""

    def _images(self, prompt_id: str | None) -> AllImages:
        """Return the images of a prompt, or of all, as a single sample."""
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
        """Return the interval of a two-stage design, where the share is the one that it was made for."""
        if self.stages is None or self.matrix is not None:
            return None
        found = self.stages.interval(self.rows, self.attribute.name, group, prompt_id, confidence)
        return None if found is None else (found.low, found.high)
