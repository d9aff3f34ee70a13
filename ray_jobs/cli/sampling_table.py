"""What two-stage sampling will make, before a pilot says how much: for ``difflens-audit plan``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from audit.measure.shares.two_stage import expected_images
from audit.records.estimates import percent
from audit.results.two_stages import Stages

SHARES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
"""True shares for which the plan says what to expect; a share and its complement need the same."""


@dataclass(frozen=True)
class Expected:
    """Images of a prompt in each arm, on average over pilots, where the true share is ``share``."""

    share: float
    images: float


@dataclass(frozen=True)
class SamplingPlan:
    """What two stages will make of each prompt.

    Attributes:
        attribute: The attribute whose share the design is made for.
        group: The group whose share it is.
        half_width: Half the length that the share's 95 % interval is to have.
        pilot: Images of each prompt and arm in the first stage.
        single_stage: Images of each prompt and arm that a single stage needs; also the most that two stages make while
            every image can be classified.
        expected: What to expect, by the true share.
    """

    attribute: str
    group: str
    half_width: float
    pilot: int
    single_stage: int
    expected: tuple[Expected, ...]


def sampling_of(stages: Stages | None) -> SamplingPlan | None:
    """Return what two stages will make, None for a fixed number of images."""
    if stages is None:
        return None
    design = stages.design
    return SamplingPlan(
        attribute=stages.attribute.name,
        group=stages.group,
        half_width=design.half_width,
        pilot=design.pilot,
        single_stage=max(design.pilot, design.single_stage),
        expected=tuple(Expected(share, round(expected_images(design, share), 1)) for share in SHARES),
    )


def sampling_as_data(sampling: SamplingPlan | None) -> dict[str, Any] | None:
    """Return the plan of two stages as plain data."""
    return None if sampling is None else asdict(sampling)


def show_sampling(sampling: SamplingPlan, console: Console) -> None:
    """Print what two stages will make, and what that saves."""
    console.print(
        f"\nTwo stages: a pilot of {sampling.pilot:,} images per prompt and arm, then as many as the share of "
        f"{sampling.group} ({sampling.attribute.replace('_', ' ')}) needs for ± {sampling.half_width:g} in the "
        f"baseline. A single stage takes {sampling.single_stage:,}.",
        highlight=False,
        markup=False,
    )
    table = Table("true share", box=None, header_style="bold", pad_edge=False)
    for column in ("images expected", "single stage takes"):
        table.add_column(column, justify="right")
    for row in sampling.expected:
        name = percent(0.5) if row.share == 0.5 else f"{percent(row.share)} or {percent(1 - row.share)}"
        table.add_row(name, f"{row.images:,.0f}", f"{sampling.single_stage / row.images:.2f} times as many")
    console.print(table)
