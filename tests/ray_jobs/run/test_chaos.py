"""An audit whose workers, node and driver are killed gives the rows of one that nothing happened to."""

import os
import subprocess
import sys
import time
import uuid

import psutil
import pytest

SECONDS = 480
"""After which the trial gives up and says what it waited for: before pytest ends everything without a word."""


@pytest.fixture
def mark():
    """A name in the environment of all processes of a test; whatever happens, none of them outlives it."""
    mark = uuid.uuid4().hex
    yield mark
    for process in marked(mark):
        process.kill()


def marked(mark):
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("DIFFLENS_TEST") == mark:
                found.append(process)
        except psutil.Error:  # it ended meanwhile, or is not ours
            continue
    return found


def none_is_left(mark, seconds=30):
    end = time.monotonic() + seconds
    while marked(mark) and time.monotonic() < end:
        time.sleep(0.2)
    return not marked(mark)


def test_the_rows_do_not_depend_on_nodes_nor_on_what_is_killed(mark):
    command = [sys.executable, "-m", "benchmarks.chaos", "--kills", "3", "--nodes", "2", "--sizes", "1", "2"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "DIFFLENS_TEST": mark}
    done = subprocess.run(
        [*command, "--seconds", str(SECONDS)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        timeout=SECONDS + 60,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "identical rows with 1, 2 nodes" in done.stdout
    assert "identical rows after 3 kills, no finished shard computed twice" in done.stdout
    for killed in ("worker", "node", "driver"):
        assert f"killed a {killed} at " in done.stdout
    assert none_is_left(mark)
