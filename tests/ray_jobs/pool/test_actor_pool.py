"""Tests that every task has exactly one outcome, for any kind of failure."""

import os
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
import ray

from ray_jobs.pool.actor_pool import Failed, Fault, Finished, PoolError, RefusedError, run_on_pool
from ray_jobs.pool.limits import ErrorBudget, PoolLimits

pytestmark = pytest.mark.usefixtures("cluster")


@dataclass(frozen=True)
class Number:
    """A task; ``do`` determines what happens to its actor: '', 'die', 'die once', 'raise' or 'memory'."""

    value: int
    do: str = ""

    @property
    def id(self) -> str:
        return f"number-{self.value}"


class Squarer:
    """Writes one file per start of a task and one per finish, so that tests can count them across processes."""

    def __init__(self, directory: str) -> None:
        self._directory = Path(directory)

    def square(self, task: Number) -> int:
        starts = len(list(self._directory.glob(f"{task.id}-start-*")))
        (self._directory / f"{task.id}-start-{starts}").touch()
        if task.do == "die" or (task.do == "die once" and starts == 0):
            time.sleep(0.5)  # or the answer to the task before could be lost too, and that task would be charged
            os._exit(1)
        if task.do == "raise":
            raise ValueError(f"{task.value} has no square")
        if task.do == "memory" and starts == 0:
            raise MemoryError("no room")
        time.sleep(0.02)
        (self._directory / f"{task.id}-finish-{starts}").touch()
        return task.value**2


def pool(directory, tasks, *, size=2, error_budget=0, **limits):
    squarer = ray.remote(Squarer).options(num_cpus=1)
    outcomes = run_on_pool(
        lambda _number: squarer.remote(str(directory)),
        tasks,
        size=size,
        submit=lambda actor, task, _attempt: actor.square.remote(task),
        error_budget=ErrorBudget(error_budget),
        limits=PoolLimits(resources={"CPU": 1}, **limits),
    )
    with closing(outcomes):
        return [outcome for outcome in outcomes if not isinstance(outcome, Fault)]


def finishes(directory, task):
    return len(list(directory.glob(f"{task.id}-finish-*")))


def starts(directory, task):
    return len(list(directory.glob(f"{task.id}-start-*")))


@pytest.mark.parametrize("size", [1, 3])
def test_the_answers_do_not_depend_on_how_many_actors_there_are(tmp_path, size):
    tasks = [Number(value) for value in range(12)]
    outcomes = pool(tmp_path, tasks, size=size)
    assert {outcome.task.value: outcome.value for outcome in outcomes} == {value: value**2 for value in range(12)}
    assert all(starts(tmp_path, task) == 1 for task in tasks)


def test_outcomes_come_in_the_order_of_completion_and_only_so_many_are_in_flight(tmp_path):
    tasks = [Number(value) for value in range(8)]
    squarer = ray.remote(Squarer).options(num_cpus=1)
    submitted = []

    def submit(actor, task, _attempt):
        submitted.append(task)
        return actor.square.remote(task)

    outcomes = run_on_pool(
        lambda _number: squarer.remote(str(tmp_path)), tasks, size=1, submit=submit, error_budget=ErrorBudget(0)
    )
    with closing(outcomes):
        for settled, _ in enumerate(outcomes):
            assert len(submitted) - settled <= 2


def test_no_task_gives_no_outcome_and_starts_no_actor():
    assert list(run_on_pool(pytest.fail, [], size=2, submit=pytest.fail, error_budget=ErrorBudget(0))) == []


def test_a_pool_of_no_actors_is_refused():
    with pytest.raises(ValueError, match=r"at least one actor, got size 0"):
        run_on_pool(pytest.fail, [Number(1)], size=0, submit=pytest.fail, error_budget=ErrorBudget(0))


def test_tasks_of_a_lost_actor_are_done_by_another_and_finished_ones_are_not_repeated(tmp_path):
    tasks = [Number(value, "die once" if value in (2, 7) else "") for value in range(12)]
    outcomes = pool(tmp_path, tasks)
    assert {outcome.task.value for outcome in outcomes if isinstance(outcome, Finished)} == set(range(12))
    assert {outcome.task.value: outcome.attempts for outcome in outcomes if outcome.attempts > 1} == {2: 2, 7: 2}
    assert all(finishes(tmp_path, task) == 1 for task in tasks)


def test_a_task_that_kills_every_actor_fails_after_its_attempts_and_costs_no_other_task(tmp_path):
    tasks = [Number(0, "die"), *(Number(value) for value in range(1, 8))]
    outcomes = pool(tmp_path, tasks, error_budget=1)
    [failed] = [outcome for outcome in outcomes if isinstance(outcome, Failed)]
    assert (failed.task, failed.attempts) == (tasks[0], 3)
    assert "died" in failed.reason
    assert starts(tmp_path, tasks[0]) == 3
    assert {outcome.task.value for outcome in outcomes if isinstance(outcome, Finished)} == set(range(1, 8))


def test_a_task_that_raised_is_never_retried(tmp_path):
    tasks = [Number(0, "raise"), Number(1)]
    outcomes = pool(tmp_path, tasks, error_budget=1)
    [failed] = [outcome for outcome in outcomes if isinstance(outcome, Failed)]
    assert (failed.reason, failed.attempts) == ("0 has no square", 1)
    assert starts(tmp_path, tasks[0]) == 1


def test_an_out_of_memory_error_is_retried_in_a_new_process(tmp_path):
    [outcome] = pool(tmp_path, [Number(3, "memory")], size=1)
    assert (outcome.value, outcome.attempts) == (9, 2)


def test_a_spent_error_budget_stops_new_tasks_and_finishes_running_ones(tmp_path):
    tasks = [Number(0, "raise"), Number(1, "raise"), *(Number(value) for value in range(2, 30))]
    outcomes = pool(tmp_path, tasks, size=1, error_budget=1)
    assert sum(isinstance(outcome, Failed) for outcome in outcomes) == 2
    begun = [task for task in tasks if starts(tmp_path, task)]
    assert {outcome.task for outcome in outcomes} == set(begun)
    assert len(begun) <= 4


def test_actors_that_cannot_start_are_reported_with_the_cause_after_bounded_attempts(tmp_path):
    class Broken:
        def __init__(self, directory):
            (Path(directory) / f"try-{time.monotonic_ns()}").touch()
            raise OSError("weights.safetensors is cut short")

    broken = ray.remote(Broken).options(num_cpus=1)
    outcomes = run_on_pool(
        lambda _number: broken.remote(str(tmp_path)),
        [Number(1)],
        size=1,
        submit=pytest.fail,
        error_budget=ErrorBudget(0),
    )
    with pytest.raises(PoolError, match=r"each of 1 failed 3 times, the last time: weights.safetensors is cut short"):
        list(outcomes)
    assert len(list(tmp_path.iterdir())) == 3


def test_a_cluster_without_room_is_reported_with_requested_and_available_resources(monkeypatch):
    monkeypatch.setattr("ray_jobs.pool.actor_pool.POLL_SECONDS", 0.2)
    greedy = ray.remote(Squarer).options(num_cpus=1000)
    outcomes = run_on_pool(
        lambda _number: greedy.remote("."),
        [Number(1)],
        size=1,
        submit=pytest.fail,
        error_budget=ErrorBudget(0),
        limits=PoolLimits(start_seconds=0.5, resources={"CPU": 1000}),
    )
    with pytest.raises(PoolError, match=r"one requests 1000 CPU, the cluster has 3 CPU, free are"):
        list(outcomes)


def test_actors_are_gone_when_the_caller_leaves_early(tmp_path):
    squarer = ray.remote(Squarer).options(num_cpus=1)
    actors = []

    def make(_number):
        actors.append(squarer.remote(str(tmp_path)))
        return actors[-1]

    outcomes = run_on_pool(
        make, [Number(1), Number(2)], size=1, submit=lambda a, t, _: a.square.remote(t), error_budget=ErrorBudget(0)
    )
    with closing(outcomes):
        next(outcomes)
    with pytest.raises(ray.exceptions.RayActorError):
        ask_until_it_is_gone(actors[0])


def ask_until_it_is_gone(actor, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:  # a kill takes a moment to arrive
        ray.get(actor.__ray_ready__.remote(), timeout=seconds)
        time.sleep(0.1)


class Refuser(Squarer):
    """Counts its starts, and rejects its input."""

    def __init__(self, directory: str, kind: str) -> None:
        (Path(directory) / f"start-{os.getpid()}").touch()
        raise {"refuse": ValueError("expected a lens, found none;\nmake one"), "break": OSError("no such device")}[kind]


@pytest.mark.parametrize(("kind", "error", "starts"), [("refuse", RefusedError, 1), ("break", PoolError, 3)])
def test_a_refusing_worker_is_started_once_and_a_failing_one_again(tmp_path, kind, error, starts):
    refuser = ray.remote(Refuser).options(num_cpus=1)
    outcomes = run_on_pool(
        lambda _number: refuser.remote(str(tmp_path), kind),
        [Number(1), Number(2)],
        size=1,
        submit=lambda actor, task, _attempt: actor.square.remote(task),
        error_budget=ErrorBudget(0),
    )
    faults = []
    with closing(outcomes), pytest.raises(error) as caught:
        faults.extend(outcomes)
    assert len(list(tmp_path.glob("start-*"))) == starts
    if kind == "refuse":
        assert str(caught.value) == "expected a lens, found none; make one"
