"""What a dissection records: its trajectories in parts, and the streams that its lenses are made from.

Several lenses are made from the same images: for other hookpoints, or with other autoencoders.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property

from audit.dissect.recording.trajectories import Groups, Trajectory, plan_trajectories, recorded_trajectories
from audit.dissect.settings import Dissection
from audit.records.work import Prompt


@dataclass(frozen=True, order=True)
class Stream:
    """What one autoencoder is trained from, and what decides how many of its vectors are recorded.

    Attributes:
        hookpoint: Module whose output is read.
        whole_map: One vector for the whole map.
        sae_steps: Optimiser steps, which limit the vectors that are read.
    """

    hookpoint: str
    whole_map: bool
    sae_steps: int

    @classmethod
    def of(cls, settings: Dissection) -> Stream:
        """Return the stream of a lens."""
        return cls(settings.hookpoint, settings.whole_map, settings.sae_steps)


@dataclass(frozen=True)
class Part:
    """A batch of trajectories, which one worker samples and stores.

    Attributes:
        id: Name of its folder.
        first: First trajectory.
        last: First trajectory after it.
    """

    id: str
    first: int
    last: int


@dataclass(frozen=True)
class RecordingPlan:
    """What is recorded.

    Attributes:
        trajectories: All images to sample.
        lenses: Settings of the lenses that are made from them.
    """

    trajectories: tuple[Trajectory, ...]
    lenses: tuple[Dissection, ...]

    @classmethod
    def of(
        cls, prompts: Sequence[Prompt], groups: Groups, template: str, lenses: Sequence[Dissection]
    ) -> RecordingPlan:
        """Plan a recording.

        Args:
            prompts: The prompts that the lenses are made from.
            groups: Groups by attribute.
            template: Template of the prompts; groups are named before the occupation.
            lenses: Settings of the lenses, at least one; they differ only in what they make of an image.

        Raises:
            ValueError: The lenses need different images.
        """
        sampled = {(s.trajectories, s.recorded, s.steps, s.guidance, s.batch, s.seed) for s in lenses}
        if len(sampled) != 1:
            raise ValueError(f"expected lenses of the same images, found {len(sampled)} ways to sample them")
        return cls(tuple(plan_trajectories(prompts, groups, template, lenses[0])), tuple(lenses))

    @cached_property
    def recorded(self) -> tuple[int, ...]:
        """Trajectories whose whole maps are recorded, ascending."""
        return tuple(recorded_trajectories(self.trajectories, self.lenses[0]))

    @cached_property
    def streams(self) -> tuple[Stream, ...]:
        """The streams, each once, in order."""
        return tuple(sorted({Stream.of(lens) for lens in self.lenses}))

    def settings_of(self, stream: Stream) -> Dissection:
        """Return settings that record a stream, for the trajectories that there are."""
        counted = replace(self.lenses[0], trajectories=len(self.trajectories), recorded=len(self.recorded))
        return replace(counted, **asdict(stream))

    @property
    def hookpoints(self) -> tuple[str, ...]:
        """The hookpoints, each once."""
        return tuple(dict.fromkeys(lens.hookpoint for lens in self.lenses))

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """The batches, in order."""
        count, batch = len(self.trajectories), self.lenses[0].batch
        return tuple(Part(f"{first:07d}", first, min(first + batch, count)) for first in range(0, count, batch))

    def rows_of(self, part: Part) -> Sequence[int]:
        """Return the recorded trajectories of a part."""
        return [i for i in self.recorded if part.first <= i < part.last]
