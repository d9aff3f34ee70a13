"""Expected images of two-stage sampling, computed before the pilot, for ``difflens-audit plan``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from audit.measure.shares.two_stage import expected_images
from audit.records.estimates import percent
from audit.results.two_stages import Stages

SHARES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
"""True shares for which the plan lists expected images; a share and its complement need the same number."""


@dataclass(frozen=True)
class Expected:
    """Images of a prompt in each arm if the true share is ``share``, averaged over pilots."""

    share: float
    images: float


@dataclass(frozen=True)
class SamplingPlan:
    """Plan of two-stage sampling for each prompt.

    Attributes:
        attribute: The attribute of the share that determines the design.
        group: The group of this share.
        half_width: Requested half-width of the share's 95 % interval.
        pilot: Images of each prompt and arm in the first stage.
        single_stage: Images of each prompt and arm that a single stage needs; also the maximum of two stages if every
            image can be classified.
        expected: Expected images by true share.
    """

    attribute: str
    group: str
    half_width: float
    pilot: int
    single_stage: int
    expected: tuple[Expected, ...]


def sampling_of(stages: Stages | None) -> SamplingPlan | None:
    """Return the plan of two-stage sampling, None for a fixed number of images."""
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
    """Return the plan of two-stage sampling as plain data."""
    return None if sampling is None else asdict(sampling)


def show_sampling(sampling: SamplingPlan, console: Console) -> None:
    """Print the expected images of two-stage sampling, and the saving."""
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
