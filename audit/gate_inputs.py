"""What each gate is judged on: figures of the summary, with an interval at any confidence that the gates ask for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from audit.arm_rows import ArmRows
from audit.changes import variations
from audit.gates import Gate, GateInput, Interval, NoData
from audit.group_figures import GroupFigures, Reading
from audit.measure.classifier_error import ConfusionMatrix
from audit.measure.group_measures import MEASURES
from audit.measure.intervals import mean_interval, share_estimate
from audit.measure.kernel import KernelDistance
from audit.measure.over_prompts import mean_over_prompts
from audit.records import BASELINE, Attribute, AttributeShift, Estimate, QualityResult
from audit.stages import Stages
from audit.targets import Targets


@dataclass(frozen=True)
class GateReader:
    """Reads the figure of a gate off the rows of the arms.

    Attributes:
        arms: Arm → its rows.
        attributes: Attributes with their groups.
        targets: The distribution that counts as fair, by prompt and attribute.
        quality: Arm → its quality figures.
        stages: Two-stage sampling, None where the number of images was fixed.
        shifts: How far each arm moved each attribute, and how far chance alone would.
        confusions: Attribute → the judge's confusion matrix, where it is known.
    """

    arms: Mapping[str, ArmRows]
    attributes: Sequence[Attribute]
    targets: Targets
    quality: Mapping[str, QualityResult]
    stages: Stages | None = None
    shifts: Sequence[AttributeShift] = ()
    confusions: Mapping[str, ConfusionMatrix] = field(default_factory=dict)

    def read(self, gate: Gate) -> Reading:
        """Return what ``gate`` is judged on."""
        kind = gate.measure.partition(":")[0]
        readers: dict[str, Callable[[Gate], Reading]] = {
            "fairness_discrepancy": self._discrepancy,
            "share": self._share,
            "unclassified_share": self._unclassified,
            "clip_i": self._clip,
            "kid": self._kid,
            "prompt_shown": self._prompt_shown,
            "attribute_shift": self._shift,
            **dict.fromkeys(MEASURES, self._group_measure),
        }
        return readers[kind](gate)

    def _discrepancy(self, gate: Gate) -> Reading:
        """Of a prompt the distance itself; of an arm the root mean square over its prompts, as the report prints it."""
        figures = self._figures(gate)
        return figures.mean_discrepancy() if gate.prompt_id is None else figures.discrepancy(gate.prompt_id)

    def _share(self, gate: Gate) -> Reading:
        return self._figures(gate).share(gate.measure.partition(":")[2], gate.prompt_id)

    def _group_measure(self, gate: Gate) -> Reading:
        return self._figures(gate).measure(gate.measure, gate.prompt_id)

    def _figures(self, gate: Gate) -> GroupFigures:
        """Return the arm's figures, corrected for the judge's errors where these are known and the gate allows it."""
        rows, attribute = self._of(gate)
        matrix = self.confusions.get(attribute.name) if gate.correct else None
        return GroupFigures(rows, attribute, self.targets, matrix, self.stages)

    def _unclassified(self, gate: Gate) -> Reading:
        known = self.arms[gate.arm].complete(gate.prompt_id)
        if not known.size:
            return NoData("there is no image")
        missing = int((~known).sum())
        return GateInput(
            missing / known.size, lambda confidence: _ends(share_estimate(missing, known.size, confidence)), known.size
        )

    def _clip(self, gate: Gate) -> Reading:
        scores = self.arms[gate.arm].scores["clip_i"]
        values = scores[~np.isnan(scores)]
        if values.size < 2:
            return NoData("fewer than two images have a similarity")
        return GateInput(
            float(values.mean()), lambda confidence: _ends(mean_interval(values, confidence)), int(values.size)
        )

    def _kid(self, gate: Gate) -> Reading:
        kid = self.quality[gate.arm].kid
        if kid is None:
            return NoData("there are too few images for a kernel distance")
        distance = KernelDistance(kid.value, kid.extra["standard_error"], kid.extra["degrees"])
        return GateInput(kid.value, distance.interval, kid.n)

    def _prompt_shown(self, gate: Gate) -> Reading:
        shown = self.quality[gate.arm].prompt_shown
        if shown is None:
            return NoData("the judge cannot tell what the prompt asked for")
        count = round(shown.value * shown.n)
        return GateInput(shown.value, lambda confidence: _ends(share_estimate(count, shown.n, confidence)), shown.n)

    def _shift(self, gate: Gate) -> Reading:
        """Chance adds to a total variation, by its floor at most: that much lower the interval begins.

        With no change at all E|p̂ − q̂| is the floor, and E|p̂ − q̂| ≤ |p − q| + E|(p̂ − q̂) − (p − q)| otherwise.
        """
        rows, attribute = self._of(gate)
        moved = variations(self.arms[BASELINE], rows, attribute.name)
        if len(moved) < 2:
            return NoData("a mean over prompts needs two of them with classified images in both arms")
        [floor] = [s.floor for s in self.shifts if (s.arm, s.attribute) == (gate.arm, attribute.name)]

        def interval_at(confidence: float) -> Interval:
            low, high = _ends(mean_over_prompts(moved, confidence))
            return max(0.0, low - floor), high

        note = f"mean over {len(moved)} prompts, of which chance adds {floor:.3f} at most"
        return GateInput(float(np.mean(moved)), interval_at, int(rows.known(attribute.name).sum()), note=note)

    def _of(self, gate: Gate) -> tuple[ArmRows, Attribute]:
        attribute = next(attribute for attribute in self.attributes if attribute.name == gate.attribute)
        return self.arms[gate.arm], attribute


def _ends(estimate: Estimate) -> tuple[float, float]:
    return estimate.low, estimate.high
