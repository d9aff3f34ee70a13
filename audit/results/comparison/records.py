"""Records of a comparison of two runs: its cells, its findings and the differences of the inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from audit.records.estimates import Estimate
from audit.records.result import COUNTED_SINCE
from audit.results.comparison.differences import Difference

Figure = Literal["share", "squared_discrepancy", "unclassified"]
Judgement = Literal["worse", "better", "changed", "none"]

CONDITIONS = ("sampling", "prompts.template", "judge", "instruments.judge")
"""Keys of the config and inputs that change the images of the same model, or how they are judged. If two runs differ
here, a change does not mean that the model became better or worse."""


@dataclass(frozen=True)
class Place:
    """The arm, prompt and attribute that a figure describes.

    Attributes:
        arm: The arm.
        prompt_id: The prompt, None for the mean over the prompts that both runs have.
        attribute: The attribute, None for the share of images without a group.
    """

    arm: str
    prompt_id: str | None
    attribute: str | None


@dataclass(frozen=True)
class Cell:
    """One figure in both runs.

    Attributes:
        place: Its arm, prompt and attribute.
        figure: ``share`` of a group, ``squared_discrepancy`` (debiased, so it can be negative near parity), or
            ``unclassified``: the share of images without a group.
        group: The group, for a share.
        first: Value in the first run; for pairs, over the paired images.
        second: Value in the second run.
        change: second − first with its 95 % interval.
        n: Images that each value is based on; number of prompts for a mean over prompts.
        paired: Whether images with the same noise were compared.
        p_value: p-value of no change.
        adjusted_p_value: The same, adjusted for all compared figures.
        judgement: ``worse`` or ``better`` for a flagged figure for which smaller is better, ``changed`` for a flagged
            share, ``none`` if there is no evidence of a change; this does not prove that there was no change.
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
        place: Its prompt, arm and attribute.
        kind: ``new`` if only the second run shows it, ``vanished`` if only the first does.
        p_values: p-value of parity in each run, before adjustment.
    """

    place: Place
    kind: Literal["new", "vanished"]
    p_values: tuple[float, float]


@dataclass(frozen=True)
class Comparison:
    """The comparison of two runs.

    Attributes:
        runs: Their names.
        schema_versions: Versions of their ``audit.json``, None if a file has none.
        config_hashes: Hashes of the parts of their configs that can change a result.
        inputs: Differences of weights, instruments, lens and versions, the most important first.
        config: Differences of the config that can change a result.
        verdicts: Gates with different verdicts, if both runs used the same figure.
        targets: Differences between the targets of the runs; this comparison uses the targets of the second run.
        cells: All compared figures.
        findings: New and vanished findings at places with a flagged change.
        not_compared: Descriptions of what cannot be compared, because only one run has it or has enough images.
        missing: Descriptions of the fields that the files do not have; the runs may differ there without notice.
        error_rate: Largest expected share of false changes among the flagged ones.
        unknown_weights: Whether a run asked an endpoint, whose weights can change without notice.
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
    unknown_weights: bool = False

    @property
    def of_mean_probabilities(self) -> tuple[bool, bool]:
        """Whether the files of each run have discrepancies of mean probabilities; the cells here use counted shares."""
        first, second = (version is None or version < COUNTED_SINCE for version in self.schema_versions)
        return first, second

    @property
    def same_config(self) -> bool:
        """Whether the configs are equal in all parts that can change a result."""
        return self.config_hashes[0] == self.config_hashes[1]

    @property
    def other_conditions(self) -> tuple[Difference, ...]:
        """Differences in the ``CONDITIONS``."""
        return tuple(
            difference
            for difference in (*self.inputs, *self.config)
            if any(difference.path == name or difference.path.startswith(f"{name}.") for name in CONDITIONS)
        )

    def judged(self, judgement: Judgement) -> tuple[Cell, ...]:
        """Return the cells with a judgement, the smallest p-value first."""
        cells = [cell for cell in self.cells if cell.judgement == judgement]
        return tuple(sorted(cells, key=lambda cell: cell.p_value))
