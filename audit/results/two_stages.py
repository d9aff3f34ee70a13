"""Two-stage sampling for each prompt: a pilot, then the images that one share needs for its half-width.

Only the finished shards of a prompt's pilot determine its second stage, so a resumed run continues with the same
images. The share for which the design is made gets the interval of the design (:mod:`audit.measure.shares.two_stage`).
All figures of other arms, attributes and groups have the usual interval, which assumes a fixed number of images. In the
worst case such a figure agrees with the designed share in every image; ``python -m benchmarks.two_stage`` prints the
coverage of the usual interval in this case.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from audit.config.sections import PromptsConfig
from audit.measure.shares.two_stage import TwoStage, images_to_make, two_stage_interval
from audit.planning.plan import further_shards
from audit.records.attributes import Attribute
from audit.records.estimates import Estimate
from audit.records.groups import GroupResult
from audit.records.result import TwoStageSampling
from audit.records.work import BASELINE, Shard
from audit.results.arm_rows import ArmRows
from audit.storage.rows import has_group, probability_column
from audit.storage.run_directory import RunDirectory


@dataclass(frozen=True)
class Stages:
    """Two-stage sampling of one audit.

    Attributes:
        design: The design that gives the number of images; its pilot counts classified and unclassified images.
        attribute: The attribute whose share the design is made for, in the baseline arm.
        group: The group whose share it is; with two groups, both shares are equally precise.
        piloted: Prompts whose pilot is complete.
    """

    design: TwoStage
    attribute: Attribute
    group: str
    piloted: frozenset[str] = frozenset()

    @classmethod
    def of(cls, prompts: PromptsConfig, attributes: Mapping[str, Sequence[str]]) -> Stages | None:
        """Return the two stages that a config asks for, None for a fixed number of images.

        Args:
            prompts: Section ``prompts`` of the config.
            attributes: Audited attributes with their groups.
        """
        asked = prompts.two_stage
        if asked is None:
            return None
        groups = tuple(attributes[asked.attribute])
        design = TwoStage(prompts.images_per_prompt, asked.half_width, largest=asked.max)
        return cls(design, Attribute(asked.attribute, groups), asked.group or groups[0])

    def over(self, shards: Sequence[Shard]) -> Stages:
        """Return the same with ``piloted`` from finished shards; only these prompts have a second stage."""
        made: dict[str, set[int]] = {}
        for shard in shards:
            made.setdefault(shard.prompt.id, set()).update(shard.indices)
        pilot = set(range(self.design.pilot))
        return replace(self, piloted=frozenset(prompt for prompt, indices in made.items() if pilot <= indices))

    def interval(
        self, rows: ArmRows, attribute: str, group: str, prompt_id: str | None, confidence: float = 0.95
    ) -> Estimate | None:
        """Return a share with the interval of the design, None if the design is made for another share.

        Args:
            rows: Rows of an arm, those of each prompt by index.
            attribute: The attribute.
            group: The group.
            prompt_id: The prompt, None for a pool.
            confidence: Confidence level of the interval, in (0, 1).
        """
        mirrored = len(self.attribute.groups) == 2 and group != self.group
        designed = attribute == self.attribute.name and (group == self.group or mirrored)
        if rows.arm != BASELINE or prompt_id is None or prompt_id not in self.piloted or not designed:
            return None
        labels = rows.classified(attribute, prompt_id).argmax(axis=1) == self.attribute.groups.index(self.group)
        pilot = int(rows.known(attribute, prompt_id)[: self.design.pilot].sum())
        if pilot < 2:
            return None  # the labels did not influence the number of images
        design = replace(self.design, pilot=pilot)
        first, every = int(labels[:pilot].sum()), int(labels.sum())
        found = two_stage_interval(design, first, every, n=len(labels), confidence=confidence)
        return Estimate(1 - found.value, 1 - found.high, 1 - found.low, found.n) if mirrored else found

    def applied(self, result: GroupResult, rows: ArmRows) -> GroupResult:
        """Return a result with the design's interval for the shares for which the design is made."""
        found = {group: self.interval(rows, result.attribute, group, result.prompt_id) for group in result.shares}
        return replace(result, shares={group: found[group] or share for group, share in result.shares.items()})

    def sampling(self, results: Sequence[GroupResult], images: dict[str, int]) -> TwoStageSampling:
        """Return the outcome of two-stage sampling.

        Args:
            results: Rows of the summary, with the design's intervals.
            images: Prompt id → its images in each arm.
        """
        own = [row for row in results if (row.arm, row.attribute) == (BASELINE, self.attribute.name)]
        widths = [(row.shares[self.group].high - row.shares[self.group].low) / 2 for row in own if row.shares]
        return TwoStageSampling(
            attribute=self.attribute.name,
            group=self.group,
            half_width=self.design.half_width,
            widest=max(widths, default=None),
            pilot=self.design.pilot,
            single_stage=max(self.design.pilot, self.design.single_stage),
            images=images,
        )


def second_stage(stages: Stages, run: RunDirectory, pilot: Sequence[Shard], batch: int) -> tuple[Shard, ...]:
    """Return the shards of the second stage after finished pilots; the result is deterministic.

    Args:
        stages: Two-stage sampling; prompts without a complete pilot get no second stage yet.
        run: The run directory with the pilot's rows.
        pilot: Finished shards of the pilot, in plan order.
        batch: Images per shard.
    """
    by_prompt: dict[str, list[Shard]] = {}
    for shard in pilot:
        by_prompt.setdefault(shard.prompt.id, []).append(shard)
    piloted = stages.over(pilot).piloted
    found: list[Shard] = []
    for prompt_id, shards in by_prompt.items():
        if prompt_id in piloted:
            labels = np.concatenate([_labels(table, stages) for table in run.read_rows(shard.id for shard in shards)])
            total = images_to_make(stages.design, len(labels), int(labels.sum()))
            found += further_shards(shards, total, batch)
    return tuple(found)


def _labels(table: pa.Table, stages: Stages) -> NDArray[np.bool_]:
    """Return for each classified baseline image of a shard whether it shows the group."""
    known = pc.and_(pc.equal(table["arm"], BASELINE), has_group(table, stages.attribute.name))
    rows = table.filter(known)
    names = [probability_column(stages.attribute.name, group) for group in stages.attribute.groups]
    values = np.stack([rows[name].to_numpy() for name in names], axis=1)
    labels: NDArray[np.bool_] = values.argmax(axis=1) == stages.attribute.groups.index(stages.group)
    return labels
