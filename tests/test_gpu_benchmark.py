"""The GPU benchmark runs whole at tiny size, asks for a GPU in words, and compares its targets with its figures."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu import Figures, table, verdicts

ROOT = Path(__file__).parents[1]


def bench(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", *arguments],
        cwd=ROOT,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )


def figures(plain=8.0, edit=8.1, scoring=0.2):
    """Three rounds of 32 images; sides and rounds differ, so that a mixed-up one shows."""
    medians = {"stock": 9.0, "plain": plain, "edit": edit, "compiled": 6.4, "compiled edit": 6.5, "scoring": scoring}
    return Figures({side: [median, 0.9 * median, 1.2 * median] for side, median in medians.items()}, 32, 16.0)


def test_without_a_gpu_it_asks_for_one():
    found = bench()
    assert found.returncode == 2
    assert found.stderr.startswith("expected a GPU that CUDA finds, found none")
    assert "--tiny" in found.stderr


def test_the_whole_path_runs_at_tiny_size():
    found = bench("--tiny", "--rounds", "1")
    assert found.returncode == 0, found.stderr
    assert "pictures: an audit's differ from the stock pipeline's by 0 of 255" in found.stdout
    sides = [line.split("  ")[0] for line in found.stdout.splitlines()]
    assert {"stock", "plain", "edit", "compiled", "compiled edit"} <= set(sides)
    assert "scoring adds to plain sampling" in found.stdout
    assert "targets: none at this size" in found.stdout


def test_a_line_has_the_median_and_the_spread_of_images_per_second_and_of_the_ratio_to_stock():
    lines = table(figures())
    assert lines[2].split() == ["plain", "4.00", "(3.33-4.44)", "0.89", "(0.89-0.89)"]
    assert lines[-3].startswith("edit adds to sampling: 1.2%")
    assert lines[-2].startswith("scoring adds to plain sampling: 2.5%")


def test_compiling_is_repaid_after_as_many_images_as_save_its_time():
    assert figures().repaid_after == pytest.approx(16.0 / (8.0 / 32 - 6.4 / 32))
    assert figures(plain=6.0).repaid_after is None
    assert table(figures(plain=6.0))[-1] == "compiling: 16.0 s, not repaid: compiled blocks are not faster"


def test_targets_are_those_of_the_gpu():
    assert verdicts(figures(), "NVIDIA H200")[0].startswith("held: at least 3.5 images/s on NVIDIA H200; found 5.00")
    slow = Figures({name: [4 * x for x in seconds] for name, seconds in figures().seconds.items()}, 32, 16.0)
    assert verdicts(slow, "NVIDIA H100 80GB HBM3")[0].startswith("MISSED: at least 2.4 images/s")
    assert verdicts(slow, "NVIDIA A100")[0].startswith("no target of speed for NVIDIA A100")
    assert [line.split(":")[0] for line in verdicts(figures(edit=8.2, scoring=0.5), "NVIDIA H200")[1:]] == [
        "MISSED"
    ] * 2
    assert [line.split(":")[0] for line in verdicts(figures(), "NVIDIA H200")[1:]] == ["held"] * 2
