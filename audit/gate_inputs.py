"""What each gate is judged on: figures of the summary, with an interval at any confidence that the gates ask for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit.arm_rows import ArmRows
from audit.changes import shift_tables
from audit.gates import Gate, GateInput, NoData
from audit.group_results import prompt_squares
from audit.measure import fairness
from audit.measure.attribute_shift import shift_interval
from audit.measure.bounds import discrepancy_bounds, share_bounds
from audit.measure.discrepancy import debiased_squared, discrepancy_interval, display
from audit.measure.group_measures import MEASURES, MOST_GROUPS
from audit.measure.intervals import share_estimate
from audit.measure.kernel import KernelDistance
from audit.records import BASELINE, Attribute, AttributeShift, Estimate, QualityResult, Range
from audit.scores import LEAST_IMAGES, Scores
from audit.stages import Stages
from audit.targets import Targets, pooled_target, target_of

Reading = GateInput | NoData

NO_IMAGES = NoData("no image could be classified")


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
    """

    arms: Mapping[str, ArmRows]
    attributes: Sequence[Attribute]
    targets: Targets
    quality: Mapping[str, QualityResult]
    stages: Stages | None = None
    shifts: Sequence[AttributeShift] = ()

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
        if gate.prompt_id is None:
            return self._mean_discrepancy(gate)
        rows, attribute = self._of(gate)
        target = target_of(self.targets, gate.prompt_id, attribute)
        labels = rows.labels(attribute.name, gate.prompt_id)
        if len(labels) < 2:
            return NO_IMAGES
        bounds = self._discrepancy_bounds(gate, gate.prompt_id)
        return GateInput(
            value=display(debiased_squared(labels, target, rows.strata(attribute.name, gate.prompt_id))),
            interval_at=lambda confidence: discrepancy_interval(labels, target, confidence),
            n=len(labels),
            worst_case=(bounds.low, bounds.high),
            unclassified=_unclassified_share(rows, attribute, gate.prompt_id),
        )

    def _mean_discrepancy(self, gate: Gate) -> Reading:
        rows, attribute = self._of(gate)
        squares = prompt_squares(rows, attribute, self.targets)
        if len(squares.targets) < 2:
            return NoData("a mean over prompts needs two of them with classified images; gate the prompt itself")
        worst = [self._discrepancy_bounds(gate, prompt) for prompt in rows.prompts]

        return GateInput(
            value=display(float(squares.values.mean())),
            interval_at=lambda confidence: _displayed(squares.of_these_prompts(confidence)),
            n=len(rows.classified(attribute.name)),
            note=f"root mean square over {len(squares.targets)} prompts",
            worst_case=(_root_mean_square([b.low for b in worst]), _root_mean_square([b.high for b in worst])),
            unclassified=_unclassified_share(rows, attribute, None),
        )

    def _share(self, gate: Gate) -> Reading:
        rows, attribute = self._of(gate)
        counts, n = _counts(rows, attribute, gate.prompt_id)
        if not n:
            return NO_IMAGES
        name = gate.measure.partition(":")[2]
        group = attribute.groups.index(name)
        bounds = share_bounds(counts, rows.counts(attribute.name, gate.prompt_id))[group]
        count = int(counts[group])

        def interval(confidence: float) -> tuple[float, float]:
            staged = self.stages and self.stages.interval(rows, attribute.name, name, gate.prompt_id, confidence)
            return _ends(staged or share_estimate(count, n, confidence))

        return GateInput(
            value=count / n,
            interval_at=interval,
            n=n,
            worst_case=(bounds.low, bounds.high),
            unclassified=_unclassified_share(rows, attribute, gate.prompt_id),
        )

    def _group_measure(self, gate: Gate) -> Reading:
        rows, attribute = self._of(gate)
        counts, n = _counts(rows, attribute, gate.prompt_id)
        measure = MEASURES[gate.measure]
        if not n:
            return NO_IMAGES
        target = self._target(rows, attribute, gate.prompt_id, classified=True)
        if len(target) > MOST_GROUPS or not measure.defined_for(np.array(target)):
            return NoData(f"it is undefined for a target that wants none of a group, or more than {MOST_GROUPS} groups")
        # Where the unclassified images change what the pool is held against, they have no bounds.
        known = self._target(rows, attribute, gate.prompt_id, classified=False) == target
        bounds = measure.bounds(counts, len(rows.known(attribute.name, gate.prompt_id)) - n, target) if known else None
        return GateInput(
            value=measure.of(counts, target).value,
            interval_at=lambda confidence: _ends(measure.of(counts, target, confidence)),
            n=n,
            note="all prompts pooled, where opposite skews cancel" if gate.prompt_id is None else "",
            worst_case=(bounds.low, bounds.high) if bounds else None,
            unclassified=_unclassified_share(rows, attribute, gate.prompt_id),
        )

    def _unclassified(self, gate: Gate) -> Reading:
        known = self.arms[gate.arm].complete(gate.prompt_id)
        if not known.size:
            return NoData("there is no image")
        missing = int((~known).sum())
        return GateInput(
            missing / known.size, lambda confidence: _ends(share_estimate(missing, known.size, confidence)), known.size
        )

    def _clip(self, gate: Gate) -> Reading:
        scores = Scores.of(self.arms[gate.arm], "clip_i")
        if scores is None or scores.values.size < LEAST_IMAGES:
            return NoData("fewer than two images have a similarity")
        mean = scores.mean_cosine
        return GateInput(mean().value, lambda confidence: _ends(mean(confidence)), mean().n)

    def _kid(self, gate: Gate) -> Reading:
        kid = self.quality[gate.arm].kid
        if kid is None:
            return NoData("there are too few images for a kernel distance")
        distance = KernelDistance(kid.value, kid.extra["standard_error"], kid.extra["degrees"])
        return GateInput(kid.value, distance.interval, kid.n)

    def _prompt_shown(self, gate: Gate) -> Reading:
        scores = Scores.of(self.arms[gate.arm], "p_prompt_shown")
        if scores is None:
            return NoData("the judge cannot tell what the prompt asked for")
        share = scores.share_shown
        return GateInput(share().value, lambda confidence: _ends(share(confidence)), share().n)

    def _shift(self, gate: Gate) -> Reading:
        rows, attribute = self._of(gate)
        found = [s for s in self.shifts if (s.arm, s.attribute) == (gate.arm, attribute.name)]
        if not found:
            return NoData("no prompt has a classified image in both arms")
        [shift], tables = found, shift_tables(self.arms[BASELINE], rows, attribute)
        prompts = "prompt" if shift.prompts == 1 else "prompts"
        return GateInput(
            shift.value,
            lambda confidence: _ends(shift_interval(tables, shift.floor, confidence)),
            int(rows.known(attribute.name).sum()),
            note=f"mean over {shift.prompts} {prompts}, of which chance adds {shift.floor:.3f} at most",
        )

    def _of(self, gate: Gate) -> tuple[ArmRows, Attribute]:
        attribute = next(attribute for attribute in self.attributes if attribute.name == gate.attribute)
        return self.arms[gate.arm], attribute

    def _target(
        self, rows: ArmRows, attribute: Attribute, prompt_id: str | None, *, classified: bool
    ) -> tuple[float, ...]:
        """Return the target of a prompt; of a pool that of its classified images, or of all of them."""
        if prompt_id is not None:
            return target_of(self.targets, prompt_id, attribute)
        known = {prompt: rows.known(attribute.name, prompt) for prompt in rows.prompts}
        images = {prompt: int(found.sum()) if classified else len(found) for prompt, found in known.items()}
        return pooled_target(self.targets, images, attribute)

    def _discrepancy_bounds(self, gate: Gate, prompt_id: str) -> Range:
        rows, attribute = self._of(gate)
        counts, _ = _counts(rows, attribute, prompt_id)
        return discrepancy_bounds(
            counts, rows.counts(attribute.name, prompt_id), target_of(self.targets, prompt_id, attribute)
        )


def _counts(rows: ArmRows, attribute: Attribute, prompt_id: str | None) -> tuple[NDArray[np.int64], int]:
    counts = fairness.hard_counts(rows.classified(attribute.name, prompt_id))
    return counts, int(counts.sum())


def _unclassified_share(rows: ArmRows, attribute: Attribute, prompt_id: str | None) -> float:
    return float(1 - rows.known(attribute.name, prompt_id).mean())


def _root_mean_square(values: Sequence[float]) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def _ends(estimate: Estimate) -> tuple[float, float]:
    return estimate.low, estimate.high


def _displayed(squared: Estimate) -> tuple[float, float]:
    return display(squared.low), display(squared.high)
