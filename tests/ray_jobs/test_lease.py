"""One process at a time holds the lease; one that died is followed, one that lost it is told."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from ray_jobs.lease import LEASE, Lease, LeaseHeldError, LeaseLostError


class Clock:
    """Stands still until it is moved."""

    def __init__(self):
        self.now = datetime(2026, 1, 5, 3, tzinfo=UTC)

    def __call__(self):
        return self.now

    def pass_by(self, seconds):
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock():
    return Clock()


def test_while_it_is_held_nobody_else_gets_it_and_the_message_names_the_holder(tmp_path, clock):
    with Lease(tmp_path, clock=clock).held(), pytest.raises(LeaseHeldError, match=f"held by process {os.getpid()} on"):
        Lease(tmp_path, clock=clock).take()
    Lease(tmp_path, clock=clock).take()


def test_an_exception_inside_frees_it(tmp_path):
    with pytest.raises(RuntimeError, match="inside"), Lease(tmp_path).held():
        raise RuntimeError("inside")
    assert not (tmp_path / LEASE).exists()


def test_renewed_in_time_it_lasts_and_stale_it_is_taken_over(tmp_path, clock):
    first, second = Lease(tmp_path, 60, clock), Lease(tmp_path, 60, clock)
    first.take()
    for _ in range(4):
        clock.pass_by(first.renew_seconds)
        first.renew()
    with pytest.raises(LeaseHeldError):
        second.take()
    clock.pass_by(61)
    second.take()
    with pytest.raises(LeaseLostError, match="found it held by process"):
        first.renew()
    first.give_back()  # the other's lease is not its own to free
    with pytest.raises(LeaseHeldError):
        Lease(tmp_path, 60, clock).take()


@pytest.mark.parametrize(
    "content", ["", "{", "[1]", '{"owner": "x"}', '{"owner": "x", "token": "y", "expires": "soon"}']
)
def test_a_file_that_is_no_lease_keeps_nobody_out(tmp_path, content):
    (tmp_path / LEASE).write_text(content)
    with Lease(tmp_path).held():
        assert json.loads((tmp_path / LEASE).read_text())["owner"].startswith("process ")


def test_of_many_processes_that_want_it_at_once_one_gets_it(tmp_path):
    program = (
        "import sys; from pathlib import Path; from ray_jobs.lease import Lease, LeaseHeldError\n"
        "sys.stdin.readline()\n"
        "try:\n    Lease(Path(sys.argv[1])).take(); print('mine')\n"
        "except LeaseHeldError:\n    print('held')"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    wants = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )
        for _ in range(4)
    ]  # fmt: skip
    for process in wants:
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=120)[0].strip() for process in wants]
    assert sorted(answers) == ["held", "held", "held", "mine"]
