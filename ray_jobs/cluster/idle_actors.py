"""Actors that wait for further tasks, so that a command that runs several pools starts its processes once.

A new process imports torch, transformers and diffusers, which takes seconds of processor time. An idle actor keeps the
resources that it was started with. So every pool first stops those that were started with other options.
"""

from __future__ import annotations

from typing import Any

import ray


class IdleActors:
    """The idle actors of this process's connection to a cluster, by the options that they were started with."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[Any]] = {}

    def keep(self, options: str, actor: Any) -> None:  # noqa: ANN401 - a handle of Ray
        """Let an actor wait."""
        self._waiting.setdefault(options, []).append(actor)

    def take(self, options: str) -> Any | None:  # noqa: ANN401
        """Return an actor with these options, which no longer waits; None if no such actor waits."""
        waiting = self._waiting.get(options)
        return waiting.pop() if waiting else None

    def stop(self, *, but: str | None = None, most: int = 0) -> None:
        """Stop all actors, but not ``most`` of those with the given options."""
        for options, actors in self._waiting.items():
            kept = most if options == but else 0
            for actor in actors[kept:]:
                ray.kill(actor)
            del actors[kept:]

    def forget(self) -> None:
        """Drop all handles at the end of the connection, which stops the actors."""
        self._waiting.clear()


IDLE = IdleActors()
"""Ray has one connection for each process."""
