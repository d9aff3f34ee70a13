"""Paired images of a few prompts, as the runs of a benchmark kept them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from audit.config.sections import ReportConfig
from audit.records.work import ImageKey
from audit.results.benchmark.rows import MethodRow
from audit.storage.run_directory import RunDirectory
from reports.benchmark.findings import Findings, Strip
from reports.figures.pictures import read_pictures

IMAGES = 8
"""Most images of a strip."""
MAX_BYTES = 12_000_000
"""Most bytes of all pictures of a page; base64 makes them a third larger."""


def strips_of(
    run: RunDirectory, row: MethodRow, arms: Sequence[str], prompts: Sequence[str], report: ReportConfig
) -> Iterator[Strip]:
    """Yield the first images of prompts, in every arm; no image is chosen by its content.

    Args:
        run: The run.
        row: Any row of the run, for its names.
        arms: Arms in their order, the baseline first.
        prompts: Prompt ids.
        report: Section of the run's config: how many of the first images are kept. Random samples are kept beside them.
    """
    first = IMAGES if report.keep == "all" else min(IMAGES, report.images_per_prompt)
    for prompt in prompts:
        keys = [ImageKey(prompt, index) for index in range(first)]
        shown = read_pictures(run, keys, arms, {}).shown
        kept = [key for key in keys if key in shown]
        if kept:
            rows = tuple((arm, tuple(shown[key].get(arm) for key in kept)) for arm in arms)
            yield Strip(row.model, row.balanced, prompt, tuple(key.index for key in kept), rows)


def within_size(findings: Findings) -> Findings:
    """Drop the last strips until the pictures fit the size of a page."""
    kept, total = [], 0
    for strip in findings.strips:
        total += sum(len(picture or b"") for _, pictures in strip.rows for picture in pictures)
        if total <= MAX_BYTES:
            kept.append(strip)
    return replace(findings, strips=tuple(kept))
