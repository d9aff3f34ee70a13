"""Figures outside hidden parts: which parts, which segmenter, and what is said where nothing is left to compare."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from audit.records.quality import Measurement
from ray_jobs.cli.terminal import show_edits
from reports.export.markdown import to_markdown
from reports.figures.charts import instrument_table, quality_table, signature_table
from reports.index.lookups import quality_figures
from reports.index.story import story_of

SEGMENTER = "outside:cab|by:clipseg:5f6f"


def measured(name, value, n=18):
    return Measurement(value, n, f"metric:{name}|{SEGMENTER}|n:{n}", value, value)


@pytest.fixture
def story_with(result):
    def make(**figures):
        config = result.config | {"quality": {"outside": {"source": "clipseg", "hidden": ["cab"]}}}
        baseline, *arms = result.quality
        found = {name: measured(name, value) for name, value in figures.items()}
        return story_of(replace(result, config=config, quality=(baseline, *(replace(arm, **found) for arm in arms))))

    return make


def row_of(story, start):
    return next(row for row in quality_table(story).rows if row[0].startswith(start))


def test_rows_name_the_hidden_parts_and_signatures_the_segmenter(story_with):
    story = story_with(psnr_outside=31.0, compared_outside=0.8)
    assert row_of(story, "PSNR outside")[0] == "PSNR outside cab, dB"
    assert quality_figures(story)["compared_outside"] == "Pixels outside cab, compared"
    [instrument] = [row for row in instrument_table(story).rows if row[0].startswith("PSNR outside")]
    assert instrument == ("PSNR outside cab, dB", "clipseg:5f6f", "none", "18")
    assert any(row[0] == "PSNR outside cab, dB" and row[2] == "18" for row in signature_table(story).rows)


def test_a_segmenter_that_hides_everything_is_seen(story_with):
    story = story_with(compared_outside=0.0)
    assert "no pixel to compare" in row_of(story, "PSNR outside")
    assert "no pixel to compare" in to_markdown(story.result)
    console = Console(file=io.StringIO(), width=200)
    show_edits(story, console)
    assert "no pixel to compare" in console.file.getvalue()
    assert not any("PSNR outside" in row[0] for row in quality_table(story_with(compared_outside=0.5)).rows)
