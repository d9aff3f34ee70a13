"""The forecast of a benchmark: what each of its audits makes, before anything is spent."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from audit.config.benchmark.read import Benchmark


@dataclass(frozen=True)
class Planned:
    """The work of one audit.

    Attributes:
        audit: Its title.
        arms: Arms beside the baseline.
        prompts: Prompts.
        images: Images over all arms; those of the baseline are kept and shared by the audits of a model.
        calls: Calls of the denoiser for them.
        fit_images: Most images for fits, if none is stored yet.
        trial_images: Most images for searches of strengths without a lens.
        lens_images: Most images for a lens, if none fits yet.
    """

    audit: str
    arms: int
    prompts: int
    images: int
    calls: int
    fit_images: int
    trial_images: int
    lens_images: int


def forecast_of(benchmark: Benchmark) -> tuple[Planned, ...]:
    """Count the work of every audit of a benchmark."""
    from audit.preflight.readiness import planned_work

    found, lenses = [], set[str]()
    for audit in benchmark.audits:
        work = planned_work(audit.config)
        lens = work.lens_images if audit.model not in lenses else 0
        lenses |= {audit.model} if work.lens_images else set()
        fit_images = 0 if audit.held_out else work.fit_images
        found.append(
            Planned(
                audit.title, len(work.arms) - 1, len(work.prompts), work.images, work.unet_calls, fit_images,
                work.trial_images, lens,
            )
        )  # fmt: skip
    return tuple(found)


def forecast_as_data(planned: Sequence[Planned]) -> list[dict[str, Any]]:
    """Return the forecast as plain data."""
    return [asdict(one) for one in planned]


def show_forecast(planned: Sequence[Planned], console: Console) -> None:
    """Print the forecast: one line per audit, and the totals."""
    table = Table("audit", box=None, header_style="bold", pad_edge=False)
    for column in ("methods", "prompts", "images", "denoiser calls", "for fits", "for searches", "for a lens"):
        table.add_column(column, justify="right")
    columns = [
        (one.arms, one.prompts, one.images, one.calls, one.fit_images, one.trial_images, one.lens_images)
        for one in planned
    ]
    for one, counts in zip(planned, columns, strict=True):
        table.add_row(one.audit, *(f"{count:,}" for count in counts))
    console.print(table)
    images, calls, *more = (sum(column) for column in list(zip(*columns, strict=True))[2:])
    console.print(
        f"{images:,} images with {calls:,} denoiser calls; at most {sum(more):,} images more for fits, searches and "
        "lenses that are not stored yet. Audits of one model share its baseline images.",
        highlight=False,
    )
