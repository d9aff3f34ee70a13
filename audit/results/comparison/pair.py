"""A pair of runs: the images, attributes and verdicts that both have, and those that only one of them has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from audit.planning.targets import target_of
from audit.records.attributes import Attribute
from audit.results.comparison.differences import Difference
from audit.results.comparison.figures import Samples, attribute_cells, mean_cell, share_change
from audit.results.comparison.finished_run import FinishedRun, PromptImages
from audit.results.comparison.records import Cell, Place

Target = tuple[float, ...]

SAME_SHARE = 1e-9
"""Targets that differ by less than this are equal apart from rounding errors."""

LEAST_IMAGES = 2
"""Smallest number of images; with fewer, the variance is unknown and a squared discrepancy cannot be debiased."""


@dataclass(frozen=True)
class RunPair:
    """Two runs, both compared with the targets of the second."""

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
        """Yield the targets that differ between the runs, by attribute and prompt."""
        groups = {attribute.name: attribute for attribute in self.first.attributes}
        for prompt_id in dict.fromkeys(prompt_id for _, prompt_id in self.keys):
            for attribute in self.attributes:
                own = groups[attribute.name]
                old = dict(zip(own.groups, target_of(self.first.targets, prompt_id, own), strict=True))
                new = dict(zip(attribute.groups, self.target(prompt_id, attribute), strict=True))
                if any(abs(old[group] - share) > SAME_SHARE for group, share in new.items()):
                    yield Difference(f"{attribute.name}.{prompt_id}", old, new)

    def samples(self, key: tuple[str, str], attribute: Attribute) -> Samples:
        """Return the classified images of a place; for pairs, the images classified in both runs."""
        first, second, paired = _matched(*self._images(key))
        known = first.known(attribute), second.known(attribute)
        both = known[0] & known[1] if paired else None
        old = first.where(known[0] if both is None else both)
        new = second.where(known[1] if both is None else both)
        target = self.target(key[1], attribute)
        strata = (_strata(old), _strata(new))
        return Samples(old.labels(attribute), new.labels(attribute), paired, target, strata)

    def cells(self) -> Iterator[Cell]:
        """Compare all figures of all prompts and arms."""
        for arm, prompt_id in self.keys:
            yield self._unclassified(Place(arm, prompt_id, None), *_matched(*self._images((arm, prompt_id))))
            for attribute in self.attributes:
                samples = self.samples((arm, prompt_id), attribute)
                if min(samples.n) >= LEAST_IMAGES:
                    place = Place(arm, prompt_id, attribute.name)
                    yield from attribute_cells(place, samples, attribute)

    def means(self) -> Iterator[Cell]:
        """Compare the mean squared discrepancy over the prompts, if there are at least two."""
        for arm in dict.fromkeys(arm for arm, _ in self.keys):
            for attribute in self.attributes:
                found = [self.samples(key, attribute) for key in self.keys if key[0] == arm]
                samples = [sample for sample in found if min(sample.n) >= LEAST_IMAGES]
                if len(samples) > 1:
                    yield mean_cell(Place(arm, None, attribute.name), samples)

    def verdicts(self) -> tuple[dict[str, str], dict[str, str]]:
        """Return the verdicts of both runs, except those that the runs based on different figures."""
        other = self._otherwise_judged()
        first, second = (
            {gate: verdict for gate, verdict in run.verdicts.items() if gate not in other}
            for run in (self.first, self.second)
        )
        return first, second

    def _otherwise_judged(self) -> set[str]:
        first, second = self.first.bases, self.second.bases
        return {gate for gate in first.keys() & second.keys() if first[gate] != second[gate]}

    def not_compared(self) -> tuple[str, ...]:
        """Describe what cannot be compared, because only one run has it or there are too few images."""
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
            old, new = self.first.bases[gate], self.second.bases[gate]
            yield f"verdict of {gate}: based on {old} in the first run, on {new} in the second"

    def _too_few(self) -> Iterator[str]:
        for arm, prompt_id in self.keys:
            first, second, paired = _matched(*self._images((arm, prompt_id)))
            known = {a.name: (first.known(a), second.known(a)) for a in self.attributes}
            counts = {
                name: int((old & new).sum()) if paired else min(int(old.sum()), int(new.sum()))
                for name, (old, new) in known.items()
            }
            what = "images classified in both runs" if paired else "classified images in one of the runs"
            alike = len(set(counts.values())) == 1  # no image is outside the groups of only one attribute
            for name, count in list(counts.items())[: 1 if alike else None]:
                if count < LEAST_IMAGES:
                    place = f"{arm} of {prompt_id}" if alike else f"{name} in {arm} of {prompt_id}"
                    yield f"{place}: {count} {what}, at least {LEAST_IMAGES} are required"

    def _unclassified(self, place: Place, first: PromptImages, second: PromptImages, paired: bool) -> Cell:
        """Compare the share of images without a group of some attribute."""
        old, new = ~first.complete(self.attributes), ~second.complete(self.attributes)
        change, p_value = share_change(old, new, paired)
        n = (len(old), len(new))
        return Cell(place, "unclassified", None, float(old.mean()), float(new.mean()), change, n, paired, p_value)

    def _images(self, key: tuple[str, str]) -> tuple[PromptImages, PromptImages]:
        return self.first.images[key], self.second.images[key]


def _strata(images: PromptImages) -> list[str] | None:
    """Return the group that each image was steered to, None if the images were not steered."""
    return None if images.assigned is None else [str(group) for group in images.assigned]


def _matched(first: PromptImages, second: PromptImages) -> tuple[PromptImages, PromptImages, bool]:
    """Return the common images of two runs as pairs if they have the same noise, otherwise all images of both."""
    common, old, new = np.intersect1d(first.indices, second.indices, return_indices=True)
    if common.size and np.array_equal(first.seeds[old], second.seeds[new]):
        return first.where(old), second.where(new), True
    return first, second, False
