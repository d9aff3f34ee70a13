"""Every analysis is in the registry under its own name, and its result is shown to people."""

import re
from pathlib import Path

import pytest

from audit.analyses.registry import ANALYSES, OBSERVING, PICTURED, SAMPLING, ready_observers
from ray_jobs.cli.commands import app

TEMPLATE = Path(__file__).parents[2] / "reports" / "templates" / "report.html.j2"


@pytest.mark.parametrize("name", ANALYSES)
def test_an_analysis_is_registered_under_its_name_once(name):
    assert ANALYSES[name].name == name
    assert [name in kind for kind in (OBSERVING, SAMPLING, PICTURED)].count(True) == 1
    assert re.fullmatch(r"[a-z][a-z0-9_-]*", name)  # it is part of file names


@pytest.mark.parametrize("analysis", ANALYSES.values(), ids=lambda one: one.name)
def test_the_section_of_an_analysis_is_in_the_report_or_is_a_command(analysis):
    commands = {command.callback.__name__ for command in app.registered_commands}
    assert f'id="{analysis.section}"' in TEMPLATE.read_text() or analysis.section in commands


def test_without_a_lens_nothing_is_observed():
    assert ready_observers(None) == {}
