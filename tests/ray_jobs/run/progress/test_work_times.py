"""The time of the workers is added up over the attempts of a run."""

import pytest

from audit.records.work import ShardReceipt
from audit.storage.run_directory import TIMES, RunDirectory
from ray_jobs.run.progress.work_times import WorkTimes


def attempt(run, receipts=()):
    with WorkTimes(run) as times:
        for images, seconds in receipts:
            times.add(ShardReceipt("a", images, seconds, {}))


def test_attempts_are_added(tmp_path):
    run = RunDirectory(tmp_path)
    attempt(run, [(8, 2.0), (4, 1.5)])
    attempt(run)
    attempt(run, [(8, 0.5)])
    assert run.read_json(TIMES) == {"images": 20, "seconds": 4.0}


def test_an_attempt_that_is_stopped_keeps_its_times(tmp_path):
    run = RunDirectory(tmp_path)

    def receipts():
        yield 8, 2.0
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attempt(run, receipts())
    assert run.read_json(TIMES)["images"] == 8


def test_a_damaged_file_does_not_stop_an_audit(tmp_path, caplog):
    run = RunDirectory(tmp_path)
    run.write_bytes(TIMES, b'{"images": ')
    attempt(run, [(8, 2.0)])
    assert "could not be written" in caplog.text
