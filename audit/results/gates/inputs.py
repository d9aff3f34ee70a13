"""The figure of each gate, with an interval at any confidence level."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from audit.measure.attributes.attribute_shift import shift_interval
from audit.measure.discrepancy.group_measures import MEASURES
from audit.measure.image_sets.kernel import KernelDistance
from audit.measure.prompts.stratified import stratified_share
from audit.measure.shares.classifier_error import ConfusionMatrix
from audit.measure.unclassified.shift_bounds import shift_interval_of_all_images
from audit.planning.targets import Targets
from audit.records.attributes import Attribute
from audit.records.changes import AttributeShift
from audit.records.estimates import Estimate
from audit.records.quality import QualityResult
from audit.records.work import BASELINE
from audit.results.arm_rows import ArmRows
from audit.results.changes import shift_tables
from audit.results.gates.group_figures import GroupFigures, Reading
from audit.results.gates.verdicts import Gate, GateInput, NoData
from audit.results.scores import LEAST_IMAGES, PAIRED_SPANS, Scores
from audit.results.two_stages import Stages


@dataclass(frozen=True)
class GateReader:
    """Computes the figure of a gate from the rows of the arms.

    Attributes:
        arms: Arm → its rows.
        attributes: Attributes with their groups.
        targets: The distribution that counts as fair, by prompt and attribute.
        quality: Arm → its quality figures.
        stages: Two-stage sampling, None if the number of images was fixed.
        shifts: Shift of each attribute in each arm, with the shift expected by chance alone.
        confusions: Attribute → the judge's confusion matrix, if it is known.
    """

    arms: Mapping[str, ArmRows]
    attributes: Sequence[Attribute]
    targets: Targets
    quality: Mapping[str, QualityResult]
    stages: Stages | None = None
    shifts: Sequence[AttributeShift] = ()
    confusions: Mapping[str, ConfusionMatrix] = field(default_factory=dict)

    def read(self, gate: Gate) -> Reading:
        """Return the figure of ``gate``."""
        kind = gate.measure.partition(":")[0]
        readers: dict[str, Callable[[Gate], Reading]] = {
            "fairness_discrepancy": self._discrepancy,
            "share": self._share,
            "unclassified_share": self._unclassified,
            **dict.fromkeys(PAIRED_SPANS, self._compared),
            "kid": self._kid,
            "prompt_shown": self._prompt_shown,
            "face_found": self._face_found,
            "attribute_shift": self._shift,
            **dict.fromkeys(MEASURES, self._group_measure),
        }
        return readers[kind](gate)

    def _discrepancy(self, gate: Gate) -> Reading:
        """Return the distance of a prompt, or the root mean square over the prompts of an arm, as in the report."""
        figures = self._figures(gate)
        return figures.mean_discrepancy() if gate.prompt_id is None else figures.discrepancy(gate.prompt_id)

    def _share(self, gate: Gate) -> Reading:
        return self._figures(gate).share(gate.measure.partition(":")[2], gate.prompt_id)

    def _group_measure(self, gate: Gate) -> Reading:
        return self._figures(gate).measure(gate.measure, gate.prompt_id)

    def _figures(self, gate: Gate) -> GroupFigures:
        """Return the arm's figures, corrected for the judge's errors if these are known and the gate allows it."""
        rows, attribute = self._of(gate)
        known = self.confusions.get(attribute.name)
        matrix, left_alone = (known, False) if gate.correct else (None, known is not None)
        return GroupFigures(rows, attribute, self.targets, matrix, self.stages, left_alone)

    def _unclassified(self, gate: Gate) -> Reading:
        rows = self.arms[gate.arm]
        known = rows.complete(gate.prompt_id)
        if not known.size:
            return NoData("there are no images")
        prompts = rows.prompt_numbers() if gate.prompt_id is None else np.zeros(known.size, dtype=np.int64)
        missing, images = np.bincount(prompts, ~known), np.bincount(prompts)
        return GateInput(
            float((~known).mean()),
            lambda confidence: _ends(stratified_share(missing, images, confidence)),
            known.size,
        )

    def _compared(self, gate: Gate) -> Reading:
        """Return the mean of a comparison with the baseline images."""
        scores, span = Scores.of(self.arms[gate.arm], gate.measure), PAIRED_SPANS[gate.measure]
        if scores is None or scores.values.size < LEAST_IMAGES:
            return NoData("fewer than two images are compared with the baseline")
        mean = scores.mean(span)
        return GateInput(mean.value, lambda confidence: _ends(scores.mean(span, confidence)), mean.n)

    def _kid(self, gate: Gate) -> Reading:
        kid = self.quality[gate.arm].kid
        if kid is None:
            return NoData("there are too few images for a kernel distance")
        distance = KernelDistance(kid.value, kid.extra["standard_error"], kid.extra["degrees"])
        return GateInput(kid.value, distance.interval, kid.n)

    def _prompt_shown(self, gate: Gate) -> Reading:
        scores = Scores.of(self.arms[gate.arm], "p_prompt_shown")
        if scores is None:
            return NoData("the judge cannot recognise the prompted occupation")
        share = scores.share_shown
        return GateInput(share().value, lambda confidence: _ends(share(confidence)), share().n)

    def _face_found(self, gate: Gate) -> Reading:
        share = Scores.of_faces(self.arms[gate.arm]).share_shown
        return GateInput(share().value, lambda confidence: _ends(share(confidence)), share().n)

    def _shift(self, gate: Gate) -> Reading:
        rows, attribute = self._of(gate)
        found = [s for s in self.shifts if (s.arm, s.attribute) == (gate.arm, attribute.name)]
        if not found:
            return NoData("no prompt has a classified image in both arms")
        [shift], tables = found, shift_tables(self.arms[BASELINE], rows, attribute)
        unclassified = float((tables.sum() - tables[:, :-1, :-1].sum()) / tables.sum())
        note = f"mean over {shift.prompts} {'prompt' if shift.prompts == 1 else 'prompts'}"
        if not unclassified:
            note += f", of which at most {shift.floor:.3f} is due to chance"
        if attribute.name in self.confusions:
            note += "; as perceived: the judge's errors affect both arms and make a shift look smaller"
        return GateInput(
            shift.value,
            lambda confidence: shift_interval_of_all_images(tables, shift.floor, confidence),
            int(rows.known(attribute.name).sum()),
            note=note,
            unclassified=unclassified,
            classified_at=(lambda confidence: _ends(shift_interval(tables, shift.floor, confidence)))
            if unclassified
            else None,
        )

    def _of(self, gate: Gate) -> tuple[ArmRows, Attribute]:
        attribute = next(attribute for attribute in self.attributes if attribute.name == gate.attribute)
        return self.arms[gate.arm], attribute


def _ends(estimate: Estimate) -> tuple[float, float]:
    return estimate.low, estimate.high
