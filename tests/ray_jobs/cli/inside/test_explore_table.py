"""The table of an exploration on a terminal: names of files are shown as they are, however odd."""

import io
from dataclasses import replace

from rich.console import Console

from audit.records.inside.read_pictures import Near
from ray_jobs.cli.inside.explore_table import SHOWN, show_exploration
from tests.reports.exploration.test_page import an_exploration
from tests.reports.exploration.test_pictures import given


def shown(names):
    text = io.StringIO()
    show_exploration(an_exploration(pictures=given(names)), Console(file=text, width=200))
    return text.getvalue()


def test_a_name_with_brackets_is_no_markup():
    assert "pho_to [bold]é.jpg" in shown(("pho_to [bold]é.jpg", "b.png"))


def test_names_of_prompts_and_axes_with_brackets_are_no_markup():
    """``[/b]`` closes nothing, which rich refuses; ``[red]`` would vanish."""
    pictures = given(("a.png",))
    axes = (replace(pictures.axes[0], name="own [red]"),)
    scores = tuple(replace(one, axis="own [red]") for one in pictures.scores)
    near = {"a.png": (Near("nurse [/b]", 0.4),)}
    found = an_exploration(
        prompts=("cook [/b]",), pictures=replace(pictures, axes=axes, scores=scores, prompts=near), clusters=None
    )
    text = io.StringIO()
    show_exploration(found, Console(file=text, width=200))
    for name in ("nurse [/b]", "own [red]", "cook [/b]"):
        assert name in text.getvalue()


def test_many_pictures_are_cut_with_a_note():
    text = shown(tuple(f"{number:03d}.png" for number in range(40)))
    assert f"the first {2 * SHOWN} of 40" in text
    assert "039.png" not in text
