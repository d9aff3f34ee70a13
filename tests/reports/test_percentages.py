"""Tests that percentages have one style everywhere: ``66 %``, with a space."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from audit.records.estimates import exact_percent, percent
from ray_jobs.cli.terminal import show_edits, show_verdicts
from reports.export.junit import to_junit
from reports.export.markdown import to_markdown
from reports.export.model_card import to_model_card
from reports.figures.pictures import Pictures
from reports.html import render
from reports.index.story import story_of

ROOT = Path(__file__).resolve().parents[2]
UNSPACED = re.compile(r".{0,30}\d%.{0,10}")
NBSP = "\N{NO-BREAK SPACE}"


class Text(HTMLParser):
    """Collects the visible text of a page, without the style sheet."""

    def __init__(self, html):
        super().__init__()
        self.hidden, self.text = False, []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.hidden = tag == "style"

    def handle_endtag(self, tag):
        self.hidden = False

    def handle_data(self, data):
        if not self.hidden:
            self.text.append(data)


@pytest.fixture(scope="module")
def gated(result, verdict):
    note = f"{percent(0.25, 1)} of the images have no perceived group"
    return replace(result, verdicts=(verdict("fail", note=note), verdict("pass", arm="difflens-gender")))


def on_terminal(result):
    console = Console(record=True, width=200, file=StringIO())
    show_edits(story_of(result), console)
    show_verdicts(result.verdicts, console)
    return console.export_text()


@pytest.mark.parametrize(
    "written",
    [
        lambda result: " ".join(Text(render(result, Pictures({}, {}))).text),
        to_markdown,
        to_junit,
        lambda result: str(to_model_card(result)),
        on_terminal,
    ],
    ids=["report", "markdown", "junit", "model card", "terminal"],
)
def test_no_output_has_a_percentage_without_a_space(gated, written):
    text = written(gated)
    assert UNSPACED.findall(text) == []
    assert re.search(r"\d[ \xa0]%", text) or "model-index" in text


def test_no_module_formats_a_percentage_by_itself():
    """Python's own ``:.0%`` omits the space."""
    own = re.compile(r":[\d.,<>^]*%}")
    sources = [path for package in ("audit", "ray_jobs", "reports") for path in (ROOT / package).rglob("*.py")]
    assert len(sources) > 100
    assert [str(path) for path in sources if own.search(path.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize(
    ("share", "decimals", "text"),
    [(0.66, 0, "66"), (0.005, 0, "0"), (0.925, 1, "92.5"), (-0.0001, 0, "0"), (-0.25, 0, "−25"), (1, 0, "100")],
)
def test_a_share_becomes_a_percentage(share, decimals, text):
    assert percent(share, decimals) == f"{text}{NBSP}%"


def test_a_chosen_level_keeps_its_digits():
    assert [exact_percent(level) for level in (0.95, 0.975, 0.99444444)] == [
        f"{x}{NBSP}%" for x in ("95", "97.5", "99.44")
    ]
