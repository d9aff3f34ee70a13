"""Budget and pace of the requests of a run: one object for all threads of its only worker."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from audit.config.kinds.closed import LimitsConfig
from audit.models.closed.picture_store import RequestTotals


class BudgetError(RuntimeError):
    """The requests or the cost that a config allows are spent."""


class Budget:
    """Admits a request only if it stays within the limits of a run.

    Args:
        limits: Section ``model.limits``.
        spent: Requests of the earlier attempts of the run.
    """

    def __init__(self, limits: LimitsConfig, spent: RequestTotals) -> None:
        self._limits, self._requests, self._charged = limits, spent.requests, spent.charged
        self._lock = threading.Lock()

    def take(self) -> None:
        """Count a request that is about to be sent; it may be charged.

        Raises:
            BudgetError: It would exceed a limit.
        """
        with self._lock:
            most, price, cost = self._limits.max_requests, self._limits.price_per_image, self._limits.max_cost
            if most is not None and self._requests + 1 > most:
                raise BudgetError(
                    f"{self._requests} of {most} requests are spent; raise model.limits.max_requests and run again: no "
                    "picture is requested twice"
                )
            # A float sum of prices would drift; the product is rounded once.
            if cost is not None and price is not None and round((self._charged + 1) * price, 9) > cost:
                raise BudgetError(
                    f"{self._charged * price:g} of {cost:g} are spent, and an image costs {price:g}; raise "
                    "model.limits.max_cost and run again: no picture is requested twice"
                )
            self._requests += 1
            self._charged += 1

    def free(self) -> None:
        """Take back the charge of a request whose answer was an error."""
        with self._lock:
            self._charged -= 1


class Pace:
    """Keeps requests at least a fixed time apart.

    Args:
        per_minute: Most requests per minute, None for no limit.
        clock: Monotonic time in seconds.
        sleep: Waits for a number of seconds.
    """

    def __init__(
        self,
        per_minute: float | None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._apart = 60 / per_minute if per_minute else 0.0
        self._clock, self._sleep = clock, sleep
        self._next, self._lock = 0.0, threading.Lock()

    def wait(self) -> None:
        """Wait for this request's turn."""
        with self._lock:
            now = self._clock()
            turn = max(now, self._next)
            self._next = turn + self._apart
        if turn > now:
            self._sleep(turn - now)

    def hold(self, seconds: float) -> None:
        """Send no request for some seconds, since the endpoint said that there are too many."""
        with self._lock:
            self._next = max(self._next, self._clock() + seconds)
