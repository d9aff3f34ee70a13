"""Tests the lease: one holder at a time, expiry after its death, and a report of a lost lease."""

import json
import os
import subprocess
import sys
import threading

import pytest

from audit.storage.object_store import StorageError
from audit.storage.place import ObjectPath
from benchmarks.s3_server import BUCKET, seeded_faults
from ray_jobs.schedule.lease import LEASE, Lease, LeaseHeldError, LeaseLostError
from ray_jobs.schedule.lease_chain import LeaseChain


def test_a_held_lease_cannot_be_acquired_and_the_message_names_the_holder(place, clock):
    with Lease(place, clock=clock).held(), pytest.raises(LeaseHeldError, match=f"held by process {os.getpid()} on"):
        Lease(place, clock=clock).take()
    Lease(place, clock=clock).take()


def test_an_exception_inside_frees_it(tmp_path):
    with pytest.raises(RuntimeError, match="inside"), Lease(tmp_path).held():
        raise RuntimeError("inside")
    assert not (tmp_path / LEASE).exists()


def test_renewed_in_time_it_lasts_and_stale_it_is_taken_over(place, clock):
    first, second = Lease(place, 60, clock), Lease(place, 60, clock)
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
        Lease(place, 60, clock).take()


@pytest.mark.parametrize(
    "content", ["", "{", "[1]", '{"owner": "x"}', '{"owner": "x", "token": "y", "expires": "soon"}']
)
def test_an_invalid_lease_file_does_not_block(tmp_path, content):
    (tmp_path / LEASE).write_text(content)
    with Lease(tmp_path).held():
        assert json.loads((tmp_path / LEASE).read_text())["owner"].startswith("process ")


def test_of_many_processes_that_want_it_at_once_one_gets_it(tmp_path):
    program = (
        "import sys; from pathlib import Path; from ray_jobs.schedule.lease import Lease, LeaseHeldError\n"
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


def test_of_many_who_want_it_at_once_one_gets_it_in_a_store_that_locks_nothing(s3):
    place, answers = ObjectPath("s3", f"{BUCKET}/crowd"), []

    def want():
        try:
            Lease(place).take()
            answers.append("mine")
        except LeaseHeldError:
            answers.append("held")

    for _ in range(2):  # without a holder, and after a release
        threads = [threading.Thread(target=want) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(answers) == ["held"] * 5 + ["mine"]
        answers.clear()
        LeaseChain(place / LEASE).change(lambda _text: None)


def test_versions_are_removed_but_for_the_last_two_and_a_slow_process_does_not_begin_again(s3, monkeypatch):
    chain, slow = (LeaseChain(ObjectPath("s3", f"{BUCKET}/slow/{LEASE}")) for _ in range(2))
    chain.change(lambda _text: "1")
    seen = []

    def overtaken(text):
        seen.append(text)
        if len(seen) == 1:  # while this one thinks, others change it three times, and version 2 is removed
            for number in (2, 3, 4):
                chain.change(lambda _text, number=number: str(number))
        return "slow"

    slow.change(overtaken)
    assert seen == ["1", "4"]
    assert [key[-2:] for key in s3.keys("slow/")] == ["04", "05"]


def test_a_store_that_overwrites_objects_is_refused_for_a_lease(s3):
    s3.conditional = False
    try:
        with pytest.raises(StorageError, match=r"found that s3://.* does; keep a schedule's results in a store with"):
            Lease(ObjectPath("s3", f"{BUCKET}/careless")).take()
    finally:
        s3.conditional = True


def test_a_store_that_stumbles_costs_no_lease(s3, clock, monkeypatch):
    monkeypatch.setattr("audit.storage.object_store.FIRST_PAUSE", 0.001)
    s3.fault = seeded_faults(5, 0.3, kinds=(500, 503))
    lease = Lease(ObjectPath("s3", f"{BUCKET}/stumbling"), 60, clock)
    for _ in range(3):
        with lease.held():
            for _ in range(3):
                clock.pass_by(lease.renew_seconds)
                lease.renew()
    assert len(s3.faults) > 10
