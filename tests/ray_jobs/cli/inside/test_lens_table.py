"""The lenses of a dissection, side by side; the lens that ships with the calibration model is one of them."""

import io
import json
from pathlib import Path

from rich.console import Console

from audit.config.file import read_config
from audit.config.slices import DissectionRequest
from audit.dissect.settings import LENS_FILE
from ray_jobs.cli.inside.lens_table import _table, lenses_as_data, show_lenses
from ray_jobs.run.prepare.lens import Dissected, find_lens

SHIPPED = read_config(Path(__file__).parents[4] / "configs" / "occupations.yaml")


def shown(lenses):
    console = Console(file=io.StringIO(), width=240)
    show_lenses(lenses, console)
    return console.file.getvalue()


def lens():
    return Dissected(SHIPPED.lens, find_lens(DissectionRequest.of(SHIPPED), SHIPPED.output))


def test_one_lens_is_its_directory_alone():
    assert shown([lens()]).split() == ["Lens:", str(lens().place)]


def test_several_lenses_are_rows_with_their_quality():
    text = shown([lens(), lens()])
    assert text.count("mid_block") == 2
    assert "gender 0.9" in text
    assert "Strengths are searched for the first lens" in text


def test_features_in_common_are_counted_where_the_latents_are_the_same():
    first, hot, wider = (json.loads((lens().place / LENS_FILE).read_text()) for _ in range(3))
    hot["settings"] |= {"temperature": 1000.0, "shared_features": True}
    hot["features"]["gender"]["female"] = hot["features"]["gender"]["female"][:20]
    wider["settings"]["expansion"] = 16
    console = Console(file=io.StringIO(), width=250)
    console.print(_table([first, hot, wider]))
    rows = [line for line in console.file.getvalue().splitlines() if "mid_block" in line]
    assert "zero, T = 1 " in rows[0]
    assert "270 of 270" in rows[0]
    assert "zero, T = 1000, shared" in rows[1]
    assert "260 of 260" in rows[1]
    assert " of " not in rows[2]


def test_lenses_as_data_hold_settings_and_quality():
    plain = lenses_as_data([lens()])
    assert plain["lens"] == str(lens().place)
    assert plain["lenses"][0]["settings"]["k"] == 16
    assert 0 < plain["lenses"][0]["quality"]["unexplained_variance"][0] < 1
