"""A comparison of two runs as records: its cells, its findings, and what differs of the inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from audit.records.estimates import Estimate
from audit.records.result import COUNTED_SINCE
from audit.results.comparison.differences import Difference

Figure = Literal["share", "squared_discrepancy", "unclassified"]
Judgement = Literal["worse", "better", "changed", "none"]

CONDITIONS = ("sampling", "prompts.template", "judge", "instruments.judge")
"""Keys of the config and inputs that change the pictures of one and the same model, or what is seen in them.
Between runs that differ here no change is the model's getting better or worse."""


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
