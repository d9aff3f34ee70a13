"""What changed between two finished runs, and which of it is more than chance.

First what went in: weights, instruments, versions, config. Then every figure that both runs have: the share of each
group, the debiased squared discrepancy and the share of images without a group, per prompt and arm, and the mean of the
squared discrepancy over the prompts. All are of counted shares, worked out here from the images of both runs: those of
older releases, whose own discrepancies are of mean probabilities, compare like any other. Two runs with the same seed
drew their images from the same noise, and images are compared in pairs by their key; otherwise the runs are two
independent samples.

A hundred figures of a model that did not change at all hold five changes that look significant. The p-values of all
compared figures are therefore adjusted together (Benjamini and Hochberg 1995): of the changes flagged, at most the
share ``error_rate`` is expected to be false, and where nothing changed the chance of any flag is at most
``error_rate``. That rests on exact tests (McNemar 1947 for pairs, Fisher 1935 otherwise) and on tests that are
independent or positively dependent. A finding of one run that the other does not show is named only where a change of
its place was flagged: near the threshold of a test, two samples of one model disagree half of the time. Intervals are
those of one figure alone, without adjustment.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from audit.measure.discrepancy.changes import discrepancy_change, two_sample_discrepancy_change
from audit.measure.discrepancy.estimate import debiased_squared, parity_p_value
from audit.measure.inference import multiplicity
from audit.measure.prompts.over_prompts import change_of_these_prompts
from audit.measure.shares.changes import (
    fisher_p_value,
    mcnemar_p_value,
    paired_share_difference,
    two_sample_share_difference,
)
from audit.planning.targets import target_of
from audit.records.attributes import Attribute
from audit.records.estimates import Change, Estimate
from audit.records.result import COUNTED_SINCE
from audit.results.comparison.differences import Difference, differences, plain_hash
from audit.results.comparison.finished_run import FinishedRun, PromptImages, read_finished_run
from audit.storage.run_directory import RunDirectory

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Target = tuple[float, ...]
Figure = Literal["share", "squared_discrepancy", "unclassified"]
Judgement = Literal["worse", "better", "changed", "none"]

ERROR_RATE = 0.05
"""Share of false changes to expect among those flagged, at most."""

SAME_SHARE = 1e-9
"""Targets closer than this are the same, worked out in another order."""

CONDITIONS = ("sampling", "prompts.template", "judge", "instruments.judge")
"""Keys of the config and inputs that change the pictures of one and the same model, or what is seen in them.
Between runs that differ here no change is the model's getting better or worse."""

PROJECT = "difflens-audit"
"""This package, as its provenance names it among the versions."""

LEAST_IMAGES = 2
"""Fewer have no spread, and without it a squared discrepancy cannot be debiased."""


class NothingToCompareError(ValueError):
    """The two runs have no figure in common."""


@dataclass(frozen=True)
class Place:
    """What a figure is of.

    Attributes:
        arm: The arm.
        prompt_id: The prompt, None for the mean over the prompts that both runs have.
        attribute: The attribute, None where images without a group are counted.
    """

    arm: str
    prompt_id: str | None
    attribute: str | None


@dataclass(frozen=True)
class Cell:
    """One figure in both runs.

    Attributes:
        place: What it is of.
        figure: ``share`` of a group, ``squared_discrepancy`` (debiased: below 0 by chance near parity), or
            ``unclassified``: the share of images without a group.
        group: The group, for a share.
        first: Value in the first run; of pairs, over the paired images.
        second: Value in the second run.
        change: second − first with its 95 % interval.
        n: Images behind either value, prompts where the figure is a mean over them.
        paired: Whether images with the same noise were compared.
        p_value: Of no change.
        adjusted_p_value: The same, adjusted for all figures compared.
        judgement: ``worse`` or ``better`` where a figure of which less is better was flagged, ``changed`` where a share
            was, ``none`` where there is no evidence of a change, which is no evidence that there was none.
    """

    place: Place
    figure: Figure
    group: str | None
    first: float
    second: float
    change: Estimate
    n: tuple[int, int]
    paired: bool
    p_value: float
    adjusted_p_value: float = 1.0
    judgement: Judgement = "none"


@dataclass(frozen=True)
class Finding:
    """A departure from the target that only one of the runs shows, at a place where a change was flagged.

    Attributes:
        place: Which prompt, arm and attribute.
        kind: ``new`` where only the second run shows it, ``vanished`` where only the first does.
        p_values: Of parity in either run, before adjustment.
    """

    place: Place
    kind: Literal["new", "vanished"]
    p_values: tuple[float, float]


@dataclass(frozen=True)
class Comparison:
    """Two runs side by side.

    Attributes:
        runs: Their names.
        schema_versions: Of their ``audit.json``, None where it does not say.
        config_hashes: Of the parts of their configs that can change a result.
        inputs: What differs of weights, instruments, lens and versions, the decisive first.
        config: What differs of the config, as far as it can change a result.
        verdicts: Gates whose verdict is another one, where both runs judged them on the same figure.
        targets: Where the runs were held against other targets; here both are held against the second's.
        cells: Every figure compared.
        findings: New ones and vanished ones, where a change was flagged.
        not_compared: What only one run has, or too little of, in words.
        missing: What the files do not say, in words; there the runs may differ without anybody knowing.
        error_rate: Share of false changes to expect among those flagged, at most.
    """

    runs: tuple[str, str]
    schema_versions: tuple[int | None, int | None]
    config_hashes: tuple[str, str]
    inputs: tuple[Difference, ...]
    config: tuple[Difference, ...]
    verdicts: tuple[Difference, ...]
    targets: tuple[Difference, ...]
    cells: tuple[Cell, ...]
    findings: tuple[Finding, ...]
    not_compared: tuple[str, ...]
    missing: tuple[str, ...]
    error_rate: float

    @property
    def of_mean_probabilities(self) -> tuple[bool, bool]:
        """Whether either run's own files hold discrepancies of mean probabilities; the cells here are of counts."""
        first, second = (version is None or version < COUNTED_SINCE for version in self.schema_versions)
        return first, second

    @property
    def same_config(self) -> bool:
        """Whether nothing in the config could make the results differ."""
        return self.config_hashes[0] == self.config_hashes[1]

    @property
    def other_conditions(self) -> tuple[Difference, ...]:
        """What differs of the ``CONDITIONS``."""
        return tuple(
            difference
            for difference in (*self.inputs, *self.config)
            if any(difference.path == name or difference.path.startswith(f"{name}.") for name in CONDITIONS)
        )

    def judged(self, judgement: Judgement) -> tuple[Cell, ...]:
        """Return the cells of one judgement, the clearest first."""
        cells = [cell for cell in self.cells if cell.judgement == judgement]
        return tuple(sorted(cells, key=lambda cell: cell.p_value))


def compare(first: RunDirectory, second: RunDirectory, error_rate: float = ERROR_RATE) -> Comparison:
    """Compare two finished runs, both against the targets of the second.

    Args:
        first: The earlier run, from ``audit.json`` and ``results.parquet``.
        second: The later one.
        error_rate: Share of false changes to expect among those flagged, at most; in (0, 1).

    Raises:
        UnreadableRunError: If a directory holds no finished run.
        NothingToCompareError: If the runs have no figure in common.
        ValueError: If the error rate is not in (0, 1).
    """
    if not 0 < error_rate < 1:
        raise ValueError(f"expected an error rate in (0, 1), found {error_rate}")
    old, new = read_finished_run(first), read_finished_run(second)
    pair = _Pair(old, new)
    cells = _judged([*pair.cells(), *pair.means()], error_rate)
    if not cells:
        raise NothingToCompareError(
            f"expected figures that both runs have, found none in {old.run_id} and {new.run_id}: "
            f"{'; '.join(pair.not_compared())}. Compare runs of the same prompts, arms and attributes"
        )
    return Comparison(
        runs=(old.run_id, new.run_id),
        schema_versions=(old.schema_version, new.schema_version),
        config_hashes=(plain_hash(old.config), plain_hash(new.config)),
        inputs=differences(*_told_alike(old.inputs, new.inputs)),
        config=differences(old.config, new.config),
        verdicts=differences(*pair.verdicts()),
        targets=tuple(pair.other_targets()),
        cells=cells,
        findings=_findings(pair, cells, error_rate),
        not_compared=pair.not_compared(),
        missing=tuple(
            f"the {which} run does not say its {name}"
            for which, run in (("first", old), ("second", new))
            for name in run.missing
        ),
        error_rate=error_rate,
    )


def _told_alike(first: dict[str, Any], second: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Leave out the hash of the code in this project's version (``0.1.0+3f2a…``) where only one of the runs has it.

    A wheel that was handed to a cluster carries one, an installed package does not: that is no other version.
    """
    versions = [run.get("versions") or {} for run in (first, second)]
    own = [str(known.get(PROJECT, "")) for known in versions]
    if all("+" in version for version in own):
        return first, second
    plain = [
        run | {"versions": known | {PROJECT: version.partition("+")[0]}} if version else run
        for run, known, version in zip((first, second), versions, own, strict=True)
    ]
    return plain[0], plain[1]


@dataclass(frozen=True)
class _Samples:
    """The classified images of one place in either run.

    Attributes:
        first: The most probable group of each image in the first run, one-hot, shape (n₁, K).
        second: The same in the second run, shape (n₂, K).
        paired: Whether row i of both is the same image key drawn from the same noise.
        target: The distribution that counts as fair, K shares.
        strata: The group that each image of either run was steered to, None where none was. Images that are steered
            in fixed numbers vary less than images drawn alike: without the strata an edit would look fairer than it is.
    """

    first: Floats
    second: Floats
    paired: bool
    target: Target
    strata: tuple[Sequence[str] | None, Sequence[str] | None] = (None, None)

    @property
    def n(self) -> tuple[int, int]:
        """Images in either run."""
        return len(self.first), len(self.second)

    @property
    def squared_discrepancies(self) -> tuple[float, float]:
        """The debiased squared discrepancy of either run."""
        old, new = self.strata
        return debiased_squared(self.first, self.target, old), debiased_squared(self.second, self.target, new)

    def discrepancy_change(self) -> Change:
        """Return the change of the debiased squared discrepancy."""
        change = discrepancy_change if self.paired else two_sample_discrepancy_change
        return change(self.first, self.second, self.target, strata=self.strata)


@dataclass(frozen=True)
class _Pair:
    """Two runs; what counts as fair is what the second says."""

    first: FinishedRun
    second: FinishedRun

    @property
    def keys(self) -> tuple[tuple[str, str], ...]:
        """Arms and prompts of both runs, in the order of the second."""
        return tuple(key for key in self.second.images if key in self.first.images)

    @property
    def attributes(self) -> tuple[Attribute, ...]:
        """Attributes with the same groups in both runs, in the order of the second."""
        known = {attribute.name: set(attribute.groups) for attribute in self.first.attributes}
        return tuple(a for a in self.second.attributes if known.get(a.name) == set(a.groups))

    def target(self, prompt_id: str, attribute: Attribute) -> Target:
        """Return the distribution that counts as fair."""
        return target_of(self.second.targets, prompt_id, attribute)

    def other_targets(self) -> Iterator[Difference]:
        """Say where the runs themselves were held against different targets, group by group."""
        groups = {attribute.name: attribute for attribute in self.first.attributes}
        for prompt_id in dict.fromkeys(prompt_id for _, prompt_id in self.keys):
            for attribute in self.attributes:
                own = groups[attribute.name]
                old = dict(zip(own.groups, target_of(self.first.targets, prompt_id, own), strict=True))
                new = dict(zip(attribute.groups, self.target(prompt_id, attribute), strict=True))
                if any(abs(old[group] - share) > SAME_SHARE for group, share in new.items()):
                    yield Difference(f"{attribute.name}.{prompt_id}", old, new)

    def samples(self, key: tuple[str, str], attribute: Attribute) -> _Samples:
        """Return the classified images of a place; of pairs, those that are classified in both runs."""
        first, second, paired = _matched(*self._images(key))
        known = first.known(attribute), second.known(attribute)
        both = known[0] & known[1] if paired else None
        old = first.where(known[0] if both is None else both)
        new = second.where(known[1] if both is None else both)
        target = self.target(key[1], attribute)
        strata = (_strata(old), _strata(new))
        return _Samples(old.labels(attribute), new.labels(attribute), paired, target, strata)

    def cells(self) -> Iterator[Cell]:
        """Compare every figure of every prompt and arm."""
        for arm, prompt_id in self.keys:
            yield self._unclassified(Place(arm, prompt_id, None), *_matched(*self._images((arm, prompt_id))))
            for attribute in self.attributes:
                samples = self.samples((arm, prompt_id), attribute)
                if min(samples.n) >= LEAST_IMAGES:
                    place = Place(arm, prompt_id, attribute.name)
                    yield from _attribute_cells(place, samples, attribute)

    def means(self) -> Iterator[Cell]:
        """Compare the mean over the prompts of the squared discrepancy, where there are at least two."""
        for arm in dict.fromkeys(arm for arm, _ in self.keys):
            for attribute in self.attributes:
                found = [self.samples(key, attribute) for key in self.keys if key[0] == arm]
                samples = [sample for sample in found if min(sample.n) >= LEAST_IMAGES]
                if len(samples) > 1:
                    yield _mean_cell(Place(arm, None, attribute.name), samples)

    def verdicts(self) -> tuple[dict[str, str], dict[str, str]]:
        """Return the verdicts of either run without those that the other judged on another figure."""
        other = self._otherwise_judged()
        first, second = (
            {gate: verdict for gate, verdict in run.verdicts.items() if gate not in other}
            for run in (self.first, self.second)
        )
        return first, second

    def _otherwise_judged(self) -> set[str]:
        both = self.first.verdicts.keys() & self.second.verdicts.keys()
        return both & (self.first.soft_gates ^ self.second.soft_gates)

    def not_compared(self) -> tuple[str, ...]:
        """Say in words what only one run has, or has too little of."""
        return (*self._only_in_one(), *self._other_groups(), *self._too_few(), *self._other_figures())

    def _only_in_one(self) -> Iterator[str]:
        sides = (("first", self.first.images, self.second.images), ("second", self.second.images, self.first.images))
        for name, own, other in sides:
            yield from (
                f"{arm} of {prompt}: only in the {name} run" for arm, prompt in own if (arm, prompt) not in other
            )

    def _other_groups(self) -> Iterator[str]:
        first, second = ({a.name: a.groups for a in run.attributes} for run in (self.first, self.second))
        compared = {attribute.name for attribute in self.attributes}
        for name in (name for name in first | second if name not in compared):
            old, new = (", ".join(groups.get(name, ("not audited",))) for groups in (first, second))
            yield f"{name}: {old} in the first run, {new} in the second"

    def _other_figures(self) -> Iterator[str]:
        for gate in sorted(self._otherwise_judged()):
            soft = "first" if gate in self.first.soft_gates else "second"
            yield f"verdict of {gate}: the {soft} run judged it on mean probabilities, the other on counted shares"

    def _too_few(self) -> Iterator[str]:
        for arm, prompt_id in self.keys:
            first, second, paired = _matched(*self._images((arm, prompt_id)))
            known = {a.name: (first.known(a), second.known(a)) for a in self.attributes}
            counts = {
                name: int((old & new).sum()) if paired else min(int(old.sum()), int(new.sum()))
                for name, (old, new) in known.items()
            }
            what = "images classified in both runs" if paired else "classified images in one of the runs"
            alike = len(set(counts.values())) == 1  # where no image is outside the groups of one attribute alone
            for name, count in list(counts.items())[: 1 if alike else None]:
                if count < LEAST_IMAGES:
                    place = f"{arm} of {prompt_id}" if alike else f"{name} in {arm} of {prompt_id}"
                    yield f"{place}: {count} {what}, at least {LEAST_IMAGES} are needed"

    def _unclassified(self, place: Place, first: PromptImages, second: PromptImages, paired: bool) -> Cell:
        """Compare the share of images without a group of some attribute."""
        old, new = ~first.complete(self.attributes), ~second.complete(self.attributes)
        change, p_value = _share_change(old, new, paired)
        n = (len(old), len(new))
        return Cell(place, "unclassified", None, float(old.mean()), float(new.mean()), change, n, paired, p_value)

    def _images(self, key: tuple[str, str]) -> tuple[PromptImages, PromptImages]:
        return self.first.images[key], self.second.images[key]


def _strata(images: PromptImages) -> list[str] | None:
    """Return the group that each image was steered to, None where none was."""
    return None if images.assigned is None else [str(group) for group in images.assigned]


def _matched(first: PromptImages, second: PromptImages) -> tuple[PromptImages, PromptImages, bool]:
    """Return the common images of two runs in pairs where each was drawn from the same noise, else all of both."""
    common, old, new = np.intersect1d(first.indices, second.indices, return_indices=True)
    if common.size and np.array_equal(first.seeds[old], second.seeds[new]):
        return first.where(old), second.where(new), True
    return first, second, False


def _share_change(first: Bools, second: Bools, paired: bool) -> tuple[Estimate, float]:
    """Return the change of a share and the exact p-value of no change."""
    if paired:
        return paired_share_difference(first, second), mcnemar_p_value(first, second)
    counts = (int(first.sum()), len(first), int(second.sum()), len(second))
    return two_sample_share_difference(*counts), fisher_p_value(*counts)


def _attribute_cells(place: Place, samples: _Samples, attribute: Attribute) -> Iterator[Cell]:
    """Compare the share of every group, then the squared discrepancy."""
    old, new = samples.first.argmax(axis=1), samples.second.argmax(axis=1)
    p_values = []
    for group, name in enumerate(attribute.groups):
        first, second = old == group, new == group
        change, p_value = _share_change(first, second, samples.paired)
        p_values.append(p_value)
        values = (float(first.mean()), float(second.mean()))
        yield Cell(place, "share", name, *values, change, samples.n, samples.paired, p_value)
    moved = samples.discrepancy_change()
    # The t test is approximate. No discrepancy changes unless a share does, and that has an exact test: with both
    # required, chance alone flags no more than it may. Two groups have one share between them.
    tests = 1 if len(p_values) == 2 else len(p_values)
    p_value = max(moved.p_value, min(1.0, tests * min(p_values)))
    values = samples.squared_discrepancies
    yield Cell(place, "squared_discrepancy", None, *values, moved, samples.n, samples.paired, p_value)


def _mean_cell(place: Place, samples: Sequence[_Samples]) -> Cell:
    """Compare the mean over these prompts, which both runs drew: it must exceed what their images vary by."""
    old, new = zip(*(sample.squared_discrepancies for sample in samples), strict=True)
    change = change_of_these_prompts([sample.discrepancy_change() for sample in samples])
    return Cell(
        place=place,
        figure="squared_discrepancy",
        group=None,
        first=float(np.mean(old)),
        second=float(np.mean(new)),
        change=change,
        n=(len(samples), len(samples)),
        paired=all(sample.paired for sample in samples),
        p_value=change.p_value,
    )


def _judged(cells: Sequence[Cell], error_rate: float) -> tuple[Cell, ...]:
    """Adjust all p-values together and say which changes are flagged."""
    if not cells:
        return ()
    adjusted = multiplicity.benjamini_hochberg([cell.p_value for cell in cells])
    return tuple(
        replace(cell, adjusted_p_value=float(p), judgement=_judgement(cell) if p <= error_rate else "none")
        for cell, p in zip(cells, adjusted, strict=True)
    )


def _judgement(cell: Cell) -> Judgement:
    if cell.figure == "share":
        return "changed"
    return "worse" if cell.change.value > 0 else "better"


def _findings(pair: _Pair, cells: Sequence[Cell], error_rate: float) -> tuple[Finding, ...]:
    """Return the flagged places that depart from their target in one run only, each run adjusted for all its places."""
    first, second = _parity(pair, pair.first), _parity(pair, pair.second)
    places = [place for place in second if place in first]
    if not places:
        return ()
    shown = [multiplicity.findings({place: run[place] for place in places}, error_rate) for run in (first, second)]
    flagged = {cell.place for cell in cells if cell.judgement != "none"}
    only_one = [place for place in places if place in flagged and (place in shown[0]) != (place in shown[1])]
    return tuple(
        Finding(place, "new" if place in shown[1] else "vanished", (first[place], second[place])) for place in only_one
    )


def _parity(pair: _Pair, run: FinishedRun) -> dict[Place, float]:
    """Return the p-value of parity of every place that both runs have, over all its classified images in one run."""
    p_values: dict[Place, float] = {}
    for arm, prompt_id in pair.keys:
        images = run.images[arm, prompt_id]
        for attribute in pair.attributes:
            labels = images.where(images.known(attribute)).labels(attribute)
            if len(labels):
                p_values[Place(arm, prompt_id, attribute.name)] = parity_p_value(
                    labels.sum(axis=0), pair.target(prompt_id, attribute)
                )
    return p_values
