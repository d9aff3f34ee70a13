"""The GPU benchmark runs whole at tiny size, asks for a GPU in words, and compares its targets with its figures."""

import pytest
import torch

from benchmarks import gpu
from benchmarks.gpu import Figures, table, verdicts


@pytest.fixture
def bench(monkeypatch):
    """Call the benchmark's command on a machine without a GPU."""
    threads = torch.get_num_threads()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    def call(*arguments):
        monkeypatch.setattr("sys.argv", ["benchmarks.gpu", *arguments])
        gpu.main()

    yield call
    torch.set_num_threads(threads)


def figures(plain=8.0, edit=8.1, scoring=0.2):
    """Three rounds of 32 images; sides and rounds differ, so that a mixed-up one shows."""
    medians = {"stock": 9.0, "plain": plain, "edit": edit, "compiled": 6.4, "compiled edit": 6.5, "scoring": scoring}
    return Figures({side: [median, 0.9 * median, 1.2 * median] for side, median in medians.items()}, 32, 16.0)


def test_without_a_gpu_it_asks_for_one(bench, capsys):
    with pytest.raises(SystemExit) as ended:
        bench()
    assert ended.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith("expected a GPU that CUDA finds, found none")
    assert "--tiny" in message


def test_the_whole_path_runs_at_tiny_size(bench, capsys):
    bench("--tiny", "--rounds", "1")
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("pictures: an audit's differ from the stock pipeline's by 0 of 255") for line in lines)
    assert {"stock", "plain", "edit", "compiled", "compiled edit"} <= {line.split("  ")[0] for line in lines}
    assert any(line.startswith("scoring adds to plain sampling") for line in lines)
    assert lines[-1].startswith("targets: none at this size")


def test_other_pictures_than_the_stock_pipeline_s_end_it(bench, monkeypatch):
    class Darker(gpu.Bench):
        def stock(self):
            return super().stock() // 2

    monkeypatch.setattr(gpu, "Bench", Darker)
    with pytest.raises(SystemExit, match="expected equal pictures, found a difference of"):
        bench("--tiny", "--rounds", "1")


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
