"""Saving and coverage of two-stage sampling on the planted occupations: ``python -m benchmarks.two_stage``.

Every figure is exact: a sum over all outcomes of both stages, with the shares of the calibration world. A row is a
design for one group's share in every occupation. ``single`` and ``made`` are images per occupation of one stage and of
two, for the same half-width. The design reaches a smaller half-width on average; ``saving at that`` compares with a
single stage that reaches it too. ``covers`` is the smallest coverage of the design's interval over occupations.

The usual interval of a share is shown for comparison, for two stages and for as many images fixed in advance: figures
that the design was not made for have the usual interval, and depend on the pilot at most as much as the designed share.
``bias`` is the largest bias of the pooled share, ``false alarms`` the rate at which a test of parity at 5 % rejects a
true share of one half.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
from scipy.stats import binom

from audit.calibration.world import World
from audit.measure.discrepancy.estimate import parity_p_value
from audit.measure.inference.intervals import share_estimate
from audit.measure.shares.two_stage import TwoStage, expected_images, fixed_images, two_stage_interval

NEGLIGIBLE = 1e-9
"""Outcomes that are less probable are skipped; together they are less than the last printed digit."""

DESIGNS = (
    ("gender", "female", TwoStage(32, 0.1)),
    ("gender", "female", TwoStage(64, 0.05)),
    ("age", "old", TwoStage(64, 0.05)),
    ("skin_tone", "dark", TwoStage(64, 0.05)),
)

Ends = tuple[float, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    columns = (
        "share of",
        "pilot",
        "±",
        "single",
        "made",
        "saving",
        "± reached",
        "saving at that",
        "covers",
        "usual, 2 stages",
    )
    print(" | ".join((*columns, "usual, fixed", "bias", "false alarms")))
    for attribute, group, design in DESIGNS:
        print(" | ".join(_row(attribute, group, design)))


def _row(attribute: str, group: str, design: TwoStage) -> Iterator[str]:
    world = World.bundled()
    shares = [world.share(occupation, attribute)[group] for occupation in world.occupations]
    single, made = fixed_images(design.half_width), np.mean([expected_images(design, share) for share in shares])
    yield from (f"{attribute}={group}", str(design.pilot), f"{design.half_width:g}", str(single), f"{made:.1f}")
    yield f"{single / made:.2f}"
    exact = _remembered(lambda first, k, n: two_stage_interval(design, first, k))
    usual = _remembered(lambda _first, k, n: share_estimate(k, n))
    reached = float(np.mean([_mean(design, share, lambda *key: _half(exact(*key))) for share in shares]))
    yield from (f"{reached:.4f}", f"{fixed_images(reached) / made:.2f}")
    for interval in (exact, usual):
        yield f"{min(_mean(design, p, lambda *key, p=p, i=interval: _holds(i(*key), p)) for p in shares):.4f}"
    yield f"{min(_fixed_coverage(round(expected_images(design, share)), share) for share in shares):.4f}"
    yield f"{max((_mean(design, p, lambda _, k, n: k / n) - p for p in shares), key=abs):+.4f}"
    yield f"{_mean(design, 0.5, lambda _, k, n: float(_parity(k, n) <= 0.05)):.4f}"


def _mean(design: TwoStage, share: float, figure: Callable[[int, int, int], float]) -> float:
    """Return the mean of a figure of (pilot successes, successes, images) over every outcome of both stages."""
    total = 0.0
    for first, weight in enumerate(binom.pmf(np.arange(design.pilot + 1), design.pilot, share)):
        n = int(design.totals[first])
        seconds = np.arange(n - design.pilot + 1)
        for second, given in zip(seconds, binom.pmf(seconds, n - design.pilot, share), strict=True):
            if weight * given > NEGLIGIBLE:
                total += weight * given * figure(first, first + int(second), n)
    return float(total)


def _remembered(interval: Callable[[int, int, int], object]) -> Callable[[int, int, int], Ends]:
    @cache
    def ends(first: int, k: int, n: int) -> Ends:
        found = interval(first, k, n)
        return found.low, found.high

    return ends


def _fixed_coverage(n: int, share: float) -> float:
    held = [_holds((found.low, found.high), share) for found in (share_estimate(k, n) for k in range(n + 1))]
    return float(binom.pmf(np.arange(n + 1), n, share) @ held)


@cache
def _parity(k: int, n: int) -> float:
    return parity_p_value([k, n - k], (0.5, 0.5))


def _half(ends: Ends) -> float:
    return (ends[1] - ends[0]) / 2


def _holds(ends: Ends, share: float) -> bool:
    return ends[0] <= share <= ends[1]


if __name__ == "__main__":
    main()
