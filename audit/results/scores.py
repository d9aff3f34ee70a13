"""Mean scores of the images of an arm: cosines, PSNR and LPIPS, share of images with the prompted occupation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit.measure.inference.span import COSINE, SHARE, Span
from audit.measure.prompts.over_prompts import like_these
from audit.measure.prompts.stratified import stratified_mean, stratified_share
from audit.records.estimates import OverPrompts
from audit.records.work import Status
from audit.results.arm_rows import ArmRows, Floats
from audit.storage.rows import MOST_PSNR

PAIRED_SPANS: Mapping[str, Span] = {
    "clip_i": COSINE,
    "dino_i": COSINE,
    "lpips": Span(0.0),
    "psnr": Span(0.0, MOST_PSNR),
    "psnr_outside": Span(0.0, MOST_PSNR),
    "lpips_outside": Span(0.0),
    "dino_outside": COSINE,
    "compared_outside": SHARE,
}
"""Possible values of the columns that compare paired images: dB (100 for equal images), distance, cosine."""

PSNR_SIGNATURE = f"peak:255|at_most:{MOST_PSNR:g}dB|equal_images:left_out|resize:none"

SHOWN_FROM = 0.5
"""The prompted occupation counts as shown if the judge's probability of it is at least this."""

LEAST_IMAGES = 2
"""Smallest number of images; with fewer, the variance is unknown and the mean has no interval."""


@dataclass(frozen=True)
class Scores:
    """Scores of the images of an arm, with their prompts. The mean gives every prompt the same weight.

    Attributes:
        values: Shape (n,), n ≥ 1.
        prompts: Index of each image's prompt, shape (n,).
    """

    values: Floats
    prompts: NDArray[np.int64]

    @classmethod
    def of(cls, rows: ArmRows, name: str) -> Scores | None:
        """Return the scores of a column; None if no image has a score."""
        values = rows.scores[name]
        scored = ~np.isnan(values)
        return cls(values[scored], rows.prompt_numbers()[scored]) if scored.any() else None

    @classmethod
    def of_faces(cls, rows: ArmRows) -> Scores:
        """Return 1 for each image with a face and 0 for any other; an image that could not be made has none."""
        without = np.isin(rows.statuses, [Status.NO_FACE.value, Status.FAILED.value])
        return cls((~without).astype(np.float64), rows.prompt_numbers())

    def mean(self, span: Span, confidence: float = 0.95) -> OverPrompts:
        """Return the mean of scores with values in ``span``; for a single image, the interval is the whole range."""
        if self.values.size < LEAST_IMAGES:
            return OverPrompts(float(self.values[0]), span.low, span.high, 1)
        these = span.held(stratified_mean(self.values, self.prompts, confidence))
        return like_these(these, self._by_prompt(self.values), span, confidence)

    def share_shown(self, confidence: float = 0.95) -> OverPrompts:
        """Return the share of images with a score of at least ``SHOWN_FROM``: those that show the occupation."""
        shown = self.values >= SHOWN_FROM
        _, place = np.unique(self.prompts, return_inverse=True)
        these = stratified_share(np.bincount(place, shown), np.bincount(place), confidence, each_prompt_once=True)
        return like_these(these, self._by_prompt(shown), SHARE, confidence)

    def _by_prompt(self, values: NDArray[np.float64] | NDArray[np.bool_]) -> Floats:
        """Return each prompt's mean, shape (P,)."""
        _, place = np.unique(self.prompts, return_inverse=True)
        return np.asarray(np.bincount(place, values) / np.bincount(place))


def rescaled(cosine: float) -> float:
    """Return (cosine + 1) / 2 in [0, 1], the CLIP score reported by DiffLens."""
    return (cosine + 1) / 2
