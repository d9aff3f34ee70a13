"""Tests the pool's scheduling and timeouts with a simulated clock, so that hours take no time."""

import math
from dataclasses import dataclass

import pytest
from ray.exceptions import ActorDiedError, RayTaskError

from benchmarks.simulated_cluster import SimulatedCluster
from ray_jobs.pool.actor_pool import Failed, Fault, Finished, PoolError, RefusedError, run_on_pool
from ray_jobs.pool.faults import FaultKind
from ray_jobs.pool.limits import Deadline, ErrorBudget, PoolLimits, RunningMedian


@dataclass(frozen=True)
class Nap:
    """A task of a length; ``tries`` gives the lengths of its first attempts if they differ, infinity for a hang."""

    number: int
    seconds: float = 10.0
    tries: tuple[float, ...] = ()
    error: Exception | None = None

    @property
    def id(self):
        return f"nap-{self.number}"

    def length(self, attempt):
        return self.tries[attempt - 1] if attempt <= len(self.tries) else self.seconds


@pytest.fixture
def cluster():
    with SimulatedCluster().in_place_of_ray() as cluster:
        yield cluster


def nap(actor, task, attempt):
    return actor.begin(task.length(attempt), task.number, task.error)


def sleep(cluster, naps, *, size=2, start=None, budget=0.0, **limits):
    outcomes = run_on_pool(
        start or (lambda _number: cluster.start(5)),
        naps,
        size=size,
        submit=nap,
        error_budget=ErrorBudget(budget),
        limits=PoolLimits(**limits),
    )
    return list(outcomes)


def faults(outcomes):
    return [outcome for outcome in outcomes if isinstance(outcome, Fault)]


def finished(outcomes):
    return {outcome.task.number for outcome in outcomes if isinstance(outcome, Finished)}


def test_a_hung_worker_is_killed_at_a_multiple_of_the_running_median_and_its_task_is_done_elsewhere(cluster):
    naps = [*(Nap(number) for number in range(12)), Nap(12, tries=(math.inf,))]
    outcomes = sleep(cluster, naps, deadline=Deadline(factor=4, at_least_seconds=1))
    [fault] = faults(outcomes)
    assert (fault.task.number, fault.kind, fault.given_up) == (12, FaultKind.TIMED_OUT, False)
    assert fault.reason == "no answer within 40 s; the limit is 40 s (half of them take less than 10.0 s)"
    assert finished(outcomes) == set(range(13))
    assert cluster.now == pytest.approx(5 + 60 + 40 + 5 + 10)


def test_a_task_that_hangs_everywhere_costs_its_attempts_each_twice_as_long_and_then_fails(cluster):
    naps = [*(Nap(number) for number in range(6)), Nap(6, math.inf)]
    outcomes = sleep(cluster, naps, size=1, budget=1, attempts=3, deadline=Deadline(factor=3, at_least_seconds=1))
    assert [fault.given_up for fault in faults(outcomes)] == [False, False, True]
    limits = [fault.reason.split("; ")[1].split(" (")[0] for fault in faults(outcomes)]
    assert limits == [f"the limit is {seconds} s" for seconds in (30, 60, 120)]
    [failed] = [outcome for outcome in outcomes if isinstance(outcome, Failed)]
    assert (failed.task.number, failed.attempts) == (6, 3)


def test_a_long_task_finishes_after_its_deadline_has_grown(cluster):
    naps = [*(Nap(number) for number in range(6)), Nap(6, 70.0)]
    outcomes = sleep(cluster, naps, size=1, deadline=Deadline(factor=4, at_least_seconds=1))
    assert [fault.kind for fault in faults(outcomes)] == [FaultKind.TIMED_OUT]
    assert finished(outcomes) == set(range(7))


def test_tasks_that_only_waited_behind_a_hung_one_are_not_charged(cluster):
    naps = [Nap(0, tries=(math.inf,)), *(Nap(number) for number in range(1, 12))]
    deadline = Deadline(factor=2, at_least_seconds=1, first_seconds=100)
    outcomes = sleep(cluster, naps, size=1, deadline=deadline)
    assert [fault.task.number for fault in faults(outcomes)] == [0]
    attempts = {outcome.task.number: outcome.attempts for outcome in outcomes if isinstance(outcome, Finished)}
    assert attempts == {0: 2, **dict.fromkeys(range(1, 12), 1)}


def test_the_deadline_has_a_minimum_and_a_default_before_a_median_is_known(cluster):
    slow_start = [Nap(0, 900.0), *(Nap(number, 0.1) for number in range(1, 40))]
    deadline = Deadline(factor=10, at_least_seconds=1000, first_seconds=3600)
    assert faults(sleep(cluster, slow_start, deadline=deadline)) == []


def test_the_last_tasks_are_spread_and_none_waits_behind_another_while_a_worker_is_free(cluster):
    outcomes = sleep(cluster, [Nap(number) for number in range(20)], size=4)
    assert finished(outcomes) == set(range(20))
    assert cluster.now == pytest.approx(5 + 50)


def test_workers_without_work_leave_before_the_last_task_is_done(cluster):
    sleep(cluster, [Nap(0, 1.0), Nap(1, 1.0), Nap(2, 100.0)], size=3)
    assert sorted(actor.killed_at for actor in cluster.actors) == pytest.approx([6, 6, 105])


def test_a_late_worker_takes_its_share(cluster):
    late = {0: 0, 1: 100}
    sleep(cluster, [Nap(number) for number in range(30)], start=lambda number: cluster.start(late[number]))
    alone = 10
    assert cluster.now == pytest.approx(100 + (30 - alone) / 2 * 10)


def test_the_pool_grows_with_the_cluster_while_it_runs(cluster):
    def size():
        return 1 if cluster.now < 100 else 4

    sleep(cluster, [Nap(number) for number in range(50)], size=size, start=lambda _number: cluster.start(0))
    assert len(cluster.actors) == 4
    assert cluster.now < 10 * 50 / 2


def test_more_workers_than_tasks_are_not_started(cluster):
    sleep(cluster, [Nap(0), Nap(1)], size=50)
    assert len(cluster.actors) == 2


def test_every_lost_worker_is_reported_with_its_node_and_costs_one_attempt(cluster):
    mortal = iter([15.0, math.inf, math.inf])  # in the middle of its second task
    outcomes = sleep(
        cluster,
        [Nap(number) for number in range(6)],
        size=1,
        start=lambda _number: cluster.start(0, dies_after=next(mortal)),
    )
    [fault] = faults(outcomes)
    assert (fault.task.number, fault.attempt, fault.kind) == (1, 1, FaultKind.LOST_WORKER)
    assert fault.node == "127.0.0.1 simulated"
    assert finished(outcomes) == set(range(6))


def test_an_error_of_the_task_is_reported_once_and_never_retried(cluster):
    wrong = RayTaskError("nap", "trace", ValueError("no pillow"))
    wrong.cause = ValueError("no pillow")
    outcomes = sleep(cluster, [Nap(0, error=wrong), Nap(1)], budget=1)
    [fault] = faults(outcomes)
    assert (fault.kind, fault.given_up, fault.reason) == (FaultKind.ERROR, True, "no pillow")
    assert finished(outcomes) == {1}


def test_each_failed_start_is_reported_and_then_the_pool_fails(cluster):
    wrong = RayTaskError("nap", "trace", OSError("no weights"))
    wrong.cause = OSError("no weights")
    outcomes = run_on_pool(
        lambda _number: cluster.start(1, wrong), [Nap(0)], size=1, submit=nap, error_budget=ErrorBudget(0)
    )
    shown = [(fault.task, fault.attempt, fault.given_up) for fault in (next(outcomes), next(outcomes), next(outcomes))]
    assert shown == [(None, 1, False), (None, 2, False), (None, 3, True)]
    with pytest.raises(PoolError, match="each of 1 failed 3 times, the last time: no weights"):
        next(outcomes)


def test_a_refused_start_is_reported_once_and_not_retried(cluster):
    trace = "ray::Napper.__init__()\n  File nap.py, line 1\n"
    said = f"{trace}audit.models.files.untrusted_model.UnfitModelError: a.pt: found 9 outputs instead of 18"
    wrong = ActorDiedError(RayTaskError("nap", said, ValueError()))
    outcomes = run_on_pool(
        lambda _number: cluster.start(1, wrong), [Nap(0)], size=1, submit=nap, error_budget=ErrorBudget(0)
    )
    fault = next(outcomes)
    assert (fault.kind, fault.given_up, fault.reason) == (
        FaultKind.REFUSED, True, "a.pt: found 9 outputs instead of 18"
    )  # fmt: skip
    with pytest.raises(RefusedError, match="found 9 outputs instead of 18"):
        next(outcomes)


def test_a_budget_counts_parts_of_a_task(cluster):
    budget = ErrorBudget(1.0)
    budget.charge(0.5)
    budget.charge(0.5)
    assert not budget.spent
    budget.charge(0.01)
    assert budget.spent


def test_a_median_needs_three_tasks_and_drops_old_ones():
    median = RunningMedian()
    for seconds in (1.0, 2.0):
        median.add(seconds)
    assert median.seconds is None
    median.add(6.0)
    assert median.seconds == 2.0
    for _ in range(500):
        median.add(9.0)
    assert median.seconds == 9.0
