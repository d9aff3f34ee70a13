"""A person, a log and a program each see how far an audit is, and how it ended."""

import io
import json

import pytest

from audit.records.work import ShardReceipt
from audit.storage.run_directory import PROGRESS, RunDirectory
from ray_jobs.run.progress import display as progress
from ray_jobs.run.progress.display import show_progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def receipt(number, images=64):
    return ShardReceipt(f"doctor-{number:04d}", images=images, seconds=1.0, statuses={"classified": images})


def told(run):
    return json.loads(run.file(PROGRESS).read_text())


@pytest.fixture
def run(tmp_path):
    return RunDirectory(tmp_path)


def test_the_file_counts_finished_shards_of_earlier_tries_and_images_of_this_one(run):
    with show_progress(run, total=4, done=2, stream=io.StringIO()) as shown:
        shown.finished(receipt(2))
        shown.finished(receipt(3))
    assert told(run).items() >= {"state": "done", "done": 4, "total": 4, "failed": 0, "images": 128}.items()
    assert told(run)["images_per_second"] > 0


def test_the_file_exists_before_the_first_shard_and_gives_no_time_it_cannot_know(run):
    with show_progress(run, total=4, done=0, stream=io.StringIO()):
        assert told(run).items() >= {"state": "running", "done": 0, "eta_seconds": None}.items()


def test_the_expected_time_is_that_of_the_open_shards_at_the_rate_of_this_try(run, monkeypatch):
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    with show_progress(run, total=10, done=4, stream=io.StringIO()) as shown:
        shown.finished(receipt(4))
        shown.finished(receipt(5))
        now = shown.snapshot("running")
    seconds = now.images / now.images_per_second
    assert now.eta_seconds == pytest.approx(seconds / 2 * 4, rel=0.01)


def test_a_missing_shard_ends_incomplete_and_its_reason_is_told_at_once(run):
    log = io.StringIO()
    with show_progress(run, total=2, done=0, stream=log) as shown:
        shown.failed("doctor-0000", "ValueError: [bold] no face")
        assert "shard doctor-0000 failed: ValueError: [bold] no face" in log.getvalue()
        shown.finished(receipt(1))
    assert told(run).items() >= {"state": "incomplete", "done": 1, "failed": 1}.items()


@pytest.mark.parametrize(("error", "state"), [(RuntimeError, "failed"), (KeyboardInterrupt, "interrupted")])
def test_an_error_and_a_person_are_told_apart(run, error, state):
    with pytest.raises(error), show_progress(run, total=2, done=0, stream=io.StringIO()):
        raise error
    assert told(run)["state"] == state


def test_a_log_gets_some_twenty_lines_however_large_the_audit_and_no_control_codes(run):
    log = io.StringIO()
    with show_progress(run, total=1000, done=0, stream=log) as shown:
        for number in range(1000):
            shown.finished(receipt(number))
    lines = log.getvalue().splitlines()
    assert 20 <= len(lines) <= 22
    assert lines[-1].startswith("1000 of 1000 shards, ")
    assert "\x1b" not in log.getvalue()


def test_a_terminal_gets_a_bar(run, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    screen = Terminal()
    with show_progress(run, total=2, done=1, stream=screen) as shown:
        shown.finished(receipt(1))
    assert "━" in screen.getvalue()
    assert "2/2" in screen.getvalue()


def test_the_file_is_not_written_for_every_shard(run, monkeypatch):
    writes = []
    monkeypatch.setattr(RunDirectory, "write_json", lambda _self, name, _data: writes.append(name))
    monkeypatch.setattr(progress, "WRITE_SECONDS", 3600.0)
    with show_progress(run, total=100, done=0, stream=io.StringIO()) as shown:
        for number in range(100):
            shown.finished(receipt(number))
    assert writes == [PROGRESS, PROGRESS]  # the first word and the last
