"""Turns the parts of the dictionaries into figures: measures, predictions with intervals, and concepts over time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit.analyses.concepts.dictionaries import CONCEPTS, PLACED, PRIOR, PROBE, PROMPT, REFERENCE, DictionaryTask
from audit.analyses.concepts.recorded import CONDITIONAL, FORECAST
from audit.measure.overlap.pooled_iou import Counts, Floats, iou_estimates, iou_gain, resampling_weights
from audit.records.estimates import Estimate
from audit.records.inside.concepts import DictionaryFigures, Followed, LayoutFigures

RESAMPLES = 1000
_SEED = 0

Part = Mapping[str, NDArray[Any]]


@dataclass
class OverTime:
    """Figures that grow with each part, so that one part at a time is in memory.

    Attributes:
        blocks: Recorded blocks.
        parts: Parts of the segmenter.
        dictionaries: Measures of the dictionaries.
        layout: Predictions of the layout.
        reference: The part of the reference; empty until it is added.
        shown: Block → layouts (S, E, M, M) that its concepts predict in the conditional half, by window.
    """

    blocks: Sequence[str]
    parts: Sequence[str]
    dictionaries: list[DictionaryFigures] = field(default_factory=list)
    layout: list[LayoutFigures] = field(default_factory=list)
    reference: dict[str, NDArray[Any]] = field(default_factory=dict)
    shown: dict[str, list[NDArray[Any]]] = field(default_factory=dict)
    _maps: dict[str, list[tuple[str, Part]]] = field(default_factory=dict)
    _steps: list[int] = field(default_factory=list)
    _weights: Floats | None = None

    def add_all(self, parts: Iterable[tuple[DictionaryTask, Part]]) -> OverTime:
        """Add the parts, the reference first."""
        done: dict[tuple[int, str], int] = {}
        for task, part in parts:
            if task == REFERENCE:
                self._add_reference(part)
                continue
            first = done.get((task.block, task.half), 0)
            steps = self._steps[first : first + len(part["explained"])]
            done[task.block, task.half] = first + len(steps)
            self._add_dictionary(task, part, steps)
        return self

    def followed(self) -> tuple[Followed, ...]:
        """Follow the best latent of each part from window to window, in the conditional half."""
        found = []
        for block, windows in self._maps.items():
            for number, name in enumerate(self.parts):
                maps = np.concatenate([part["maps"][number] for _, part in windows]).astype(np.float64)
                found.append(
                    Followed(
                        block=block,
                        part=name,
                        latents={stage: int(part["best"][number]) for stage, part in windows},
                        iou={stage: float(part["best_iou"][number]) for stage, part in windows},
                        with_last={
                            step: _correlation(one, maps[-1]) for step, one in zip(self._steps, maps, strict=True)
                        },
                    )
                )
        return tuple(found)

    @property
    def steps(self) -> tuple[int, ...]:
        """The recorded steps."""
        return tuple(self._steps)

    def _add_reference(self, part: Part) -> None:
        self.reference = dict(part)
        self._steps = [int(step) for step in part["steps"]]
        self._weights = resampling_weights(part[f"{PRIOR}/both"].shape[1], RESAMPLES, _SEED)
        self.layout += self._figures(part, PRIOR, "", "", [-1])
        self.layout += self._figures(part, PROMPT, "", "", [-1])
        self.layout += self._figures(part, FORECAST, "", "", self._steps)

    def _add_dictionary(self, task: DictionaryTask, part: Part, steps: Sequence[int]) -> None:
        block = self.blocks[task.block]
        cohesion, separability = part["cohesion"].item(), part["separability"].item()
        self.dictionaries.append(
            DictionaryFigures(
                block=block,
                half=task.half,
                stage=task.stage,
                explained={step: float(value) for step, value in zip(steps, part["explained"], strict=True)},
                latents=part["latents"].item(),
                dead=part["dead"].item(),
                named={name: int(count) for name, count in zip(self.parts, part["named"], strict=True)},
                cohesion=None if math.isnan(cohesion) else cohesion,
                separability=None if math.isnan(separability) else separability,
            )
        )
        for reader in (CONCEPTS, PLACED, PROBE):
            self.layout += self._figures(part, reader, block, task.half, steps)
        if task.half == CONDITIONAL:
            self.shown.setdefault(block, []).append(part["shown"])
            kept = {name: part[name] for name in ("maps", "best", "best_iou")}
            self._maps.setdefault(block, []).append((task.stage, kept))

    def _figures(self, part: Part, reader: str, block: str, half: str, steps: Sequence[int]) -> list[LayoutFigures]:
        found = []
        for number, step in enumerate(steps):
            counts = part[f"{reader}/both"][number], part[f"{reader}/either"][number]
            each, mean = iou_estimates(*counts, self._drawn)
            found.append(
                LayoutFigures(
                    reader=reader,
                    block=block,
                    half=half,
                    step=step,
                    mean=mean,
                    parts=dict(zip(self.parts, each, strict=True)),
                    over_prior=None if reader == PRIOR else iou_gain(counts, self._of(PRIOR), self._drawn),
                    over_prompt=None if reader in (PRIOR, PROMPT) else iou_gain(counts, self._of(PROMPT), self._drawn),
                    over_forecast=iou_gain(counts, self._of(FORECAST, step), self._drawn) if block else None,
                    parts_over_prior={} if reader == PRIOR else self._by_part_over_prior(counts, each),
                )
            )
        return found

    def _by_part_over_prior(
        self, counts: tuple[Counts, Counts], each: Sequence[Estimate | None]
    ) -> dict[str, Estimate | None]:
        """Return the gain of each part over the prior; None for a part that no image has."""
        found: dict[str, Estimate | None] = {}
        for number, (part, estimate) in enumerate(zip(self.parts, each, strict=True)):
            own, prior = ((both[:, [number]], either[:, [number]]) for both, either in (counts, self._of(PRIOR)))
            found[part] = None if estimate is None else iou_gain(own, prior, self._drawn)
        return found

    def _of(self, reader: str, step: int | None = None) -> tuple[Counts, Counts]:
        row = 0 if step is None else self._steps.index(step)
        return self.reference[f"{reader}/both"][row], self.reference[f"{reader}/either"][row]

    @property
    def _drawn(self) -> Floats:
        if self._weights is None:
            raise ValueError("expected the reference before any dictionary")
        return self._weights


def _correlation(first: Floats, second: Floats) -> float | None:
    """Return the correlation of two maps over places and images; None if one is the same everywhere."""
    one, other = first.ravel() - first.mean(), second.ravel() - second.mean()
    size = math.sqrt(float(one @ one) * float(other @ other))
    return float(one @ other) / size if size > 0 else None
