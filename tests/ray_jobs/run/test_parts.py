"""Parts are computed once, stored under the name of their task, and an interrupted run resumes with those missing."""

import json
import os
import signal
import weakref
from dataclasses import dataclass
from typing import ClassVar

import psutil
import pytest

from audit.config.sections import WorkersConfig
from ray_jobs.cluster.idle_actors import IDLE
from ray_jobs.pool.actor_pool import RefusedError
from ray_jobs.run.parts import PartFiles, PreparationError, WorkerPool, make_parts, results_of


@dataclass(frozen=True)
class Square:
    id: str
    number: int


class Squares:
    """Squares numbers; the settings are the largest that it accepts. It has no negative numbers."""

    def __init__(self, largest):
        self._largest = largest

    def do(self, task):
        if task.number > self._largest:
            raise ValueError(f"expected at most {self._largest}, found {task.number}")
        if task.number < 0:
            raise KeyError(task.number)
        return task.number**2


def encode(value):
    return json.dumps(value).encode()


def decode(data):
    return json.loads(data)


def describe(value):
    return f": {value}"


TASKS = [Square(str(number), number) for number in range(3)]


@pytest.fixture
def pool(cluster):
    return WorkerPool(WorkersConfig(count=2), cluster)


@pytest.fixture
def files(tmp_path):
    return PartFiles("Squares", str(tmp_path), "squares", ".json", encode, decode, describe)


def test_only_missing_parts_are_computed_and_each_is_logged(pool, files, caplog):
    files.write(TASKS[0], "from an earlier run")
    with caplog.at_level("INFO", logger="ray_jobs"):
        make_parts(Squares, 9, TASKS, files, pool)
    assert [files.read(task) for task in TASKS] == ["from an earlier run", 1, 4]
    assert {"Squares: 2 of 3 to do", "Squares: 2 of 2, 2: 4"} & set(caplog.messages)
    assert files.missing(TASKS) == []


def test_a_task_that_fails_ends_the_preparation_and_keeps_the_finished_parts(pool, files):
    with pytest.raises(PreparationError, match=r"step 2 failed: .*expected at most 1, found 2") as failed:
        make_parts(Squares, 1, TASKS, files, pool)
    assert failed.value.of_input
    make_parts(Squares, 9, TASKS, files, None if not files.missing(TASKS) else pool)
    assert [files.read(task) for task in TASKS] == [0, 1, 4]


def test_an_error_of_the_code_is_not_blamed_on_the_input(pool, files):
    with pytest.raises(PreparationError, match="step below failed: KeyError: -1") as failed:
        make_parts(Squares, 9, [Square("below", -1)], files, pool)
    assert not failed.value.of_input
    assert not PreparationError.during("the fit", failed.value).of_input


def test_without_files_results_come_back_to_the_driver(pool):
    assert sorted((task.number, square) for task, square in results_of(Squares, 9, TASKS, pool)) == [
        (0, 0), (1, 1), (2, 4)
    ]  # fmt: skip


class Process:
    """Answers with its process id; the settings are the largest number that it accepts."""

    def __init__(self, largest):
        if largest < 0:
            raise ValueError(f"expected a limit of 0 or more, found {largest}")

    def do(self, task):
        return os.getpid()


def test_the_processes_of_one_pool_do_the_tasks_of_the_next(cluster):
    IDLE.stop()
    one = WorkerPool(WorkersConfig(count=1), cluster)
    ids = [{pid for _, pid in results_of(Process, 9, TASKS, one)} for _ in range(2)]
    assert len(ids[0]) == 1
    assert ids[0] == ids[1]
    assert [square for _, square in results_of(Squares, 9, TASKS[2:], one)] == [4]
    assert {pid for _, pid in results_of(Process, 9, TASKS, one)} == ids[0]


class Holder:
    """Keeps what it was given; tells whether earlier workers of its process are still alive."""

    alive: ClassVar = weakref.WeakSet()

    def __init__(self, _settings):
        Holder.alive.add(self)

    def do(self, _task):
        return os.getpid(), len(Holder.alive)


def test_a_process_that_waits_holds_no_worker_and_those_without_a_seat_are_stopped(cluster):
    IDLE.stop()
    two = WorkerPool(WorkersConfig(count=2), cluster)
    slow = [Square(str(number), number) for number in range(8)]
    first = {pid for _, (pid, _) in results_of(Holder, 0, slow, two)}
    again = list(results_of(Holder, 0, slow[:1], two))
    [(pid, alive)] = [answer for _, answer in again]
    assert pid in first
    assert alive == 1
    for other in first - {pid}:
        assert not psutil.pid_exists(other) or psutil.Process(other).status() == psutil.STATUS_ZOMBIE


def test_a_pool_with_other_resources_does_not_wait_for_processes_that_are_idle(cluster):
    every = WorkerPool(WorkersConfig(count=3), cluster)
    list(results_of(Process, 9, TASKS, every))
    whole = WorkerPool(WorkersConfig(count=1, threads=3), cluster)
    assert len(list(results_of(Process, 9, TASKS, whole))) == 3


def test_settings_that_a_used_process_refuses_are_refused_as_by_a_new_one(cluster):
    one = WorkerPool(WorkersConfig(count=1), cluster)
    IDLE.stop()
    for _ in range(2):  # by a new process, then by one that is used again
        with pytest.raises(RefusedError, match=r"^expected a limit of 0 or more, found -1$"):
            list(results_of(Process, -1, TASKS, one))
        list(results_of(Process, 9, TASKS, one))


def test_a_process_that_died_while_it_was_idle_is_replaced(cluster):
    one = WorkerPool(WorkersConfig(count=1), cluster)
    [dead] = {pid for _, pid in results_of(Process, 9, TASKS, one)}
    os.kill(dead, signal.SIGKILL)
    assert dead not in {pid for _, pid in results_of(Process, 9, TASKS, one)}


def test_deleting_all_parts_removes_their_folder_and_deleting_some_does_not(files, tmp_path):
    for task in TASKS:
        files.write(task, 0)
    files.delete(TASKS[:2])
    assert files.missing(TASKS) == TASKS[:2]
    files.delete(TASKS)
    assert not (tmp_path / "squares").exists()
