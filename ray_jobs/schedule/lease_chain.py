"""A text in an object store that one process at a time changes, though there is nothing to lock.

Each version is an object under the next number, put only where there is none (S3: ``If-None-Match: *``): of those who
change the same version one succeeds, and the others look again. The highest number counts. It is never removed, so a
process that was slow, and puts a number that was used and removed meanwhile, finds a higher one and takes its own back.
"""

from __future__ import annotations

from collections.abc import Callable

from audit.storage.object_store import ObjectStore, StorageError
from audit.storage.place import ObjectPath

NO_OBSERVERS = "null\n"
"""Stands for no text: to remove the highest number would let the count begin again."""

PROBE = "may this be put over what is there?\n"


class LeaseChain:
    """The numbered objects of one folder.

    Args:
        folder: Where they lie.
    """

    def __init__(self, folder: ObjectPath) -> None:
        self._store = ObjectStore(folder.parent)
        self._folder = folder.name
        self._proven = False

    def change(self, decide: Callable[[str | None], str | None]) -> None:
        """Replace the text by what ``decide`` makes of it, None where there is none; what it raises changes nothing.

        Raises:
            StorageError: If the store does not answer, or puts an object over one that is there.
        """
        while True:
            numbers = self._numbers()
            last = max(numbers, default=0)
            try:
                before = self._store.read(self._name(last)).decode(errors="replace") if last else NO_OBSERVERS
            except FileNotFoundError:  # a higher number was put meanwhile
                continue
            after = decide(None if before == NO_OBSERVERS else before) or NO_OBSERVERS
            if after == before or self._put(last + 1, after):
                break
        for number in numbers:
            if number < last:
                self._store.delete(self._name(number))

    def _put(self, number: int, text: str) -> bool:
        """Put the next version; tell whether it is the one that counts."""
        if not self._store.create(self._name(number), text.encode()):
            return False
        if not self._proven:
            self._prove(number)
        if max(self._numbers()) > number:
            self._store.delete(self._name(number))
            return False
        return True

    def _prove(self, number: int) -> None:
        """Try to put another text over the one that was just put, which the store must refuse."""
        if self._store.create(self._name(number), PROBE.encode()):
            raise StorageError(
                f"expected a store that puts an object only where there is none (If-None-Match), found that "
                f"{self._store.root} does not care; keep a schedule's results in one that does, or on a path"
            )
        self._proven = True

    def _numbers(self) -> tuple[int, ...]:
        return tuple(int(name) for name in self._store.names(self._folder) if name.isdecimal())

    def _name(self, number: int) -> str:
        return f"{self._folder}/{number:012d}"
