"""Atomic text updates in an object store, without locks.

Each version is an object with the next number, written only if it does not exist (S3: ``If-None-Match: *``). If several
processes change the same version, one succeeds and the others read again. The highest number is the current version. It
is never deleted, so a slow process that writes a number which was already used and deleted finds a higher one and
deletes its own.
"""

from __future__ import annotations

from collections.abc import Callable

from audit.storage.object_store import ObjectStore, StorageError
from audit.storage.place import ObjectPath

NO_OBSERVERS = "null\n"
"""Represents no text: deleting the highest number instead would restart the numbering."""

PROBE = "may this be put over what is there?\n"


class LeaseChain:
    """The numbered objects of one folder.

    Args:
        folder: The directory of the objects.
    """

    def __init__(self, folder: ObjectPath) -> None:
        self._store = ObjectStore(folder.parent)
        self._folder = folder.name
        self._proven = False

    def change(self, decide: Callable[[str | None], str | None]) -> None:
        """Replace the text by ``decide(text)``; the text is None if there is none. An exception leaves it unchanged.

        Raises:
            StorageError: If the store does not answer, or overwrites an existing object.
        """
        while True:
            numbers = self._numbers()
            last = max(numbers, default=0)
            try:
                before = self._store.read(self._name(last)).decode(errors="replace") if last else NO_OBSERVERS
            except FileNotFoundError:  # a higher number was written in the meantime
                continue
            after = decide(None if before == NO_OBSERVERS else before) or NO_OBSERVERS
            if after == before or self._put(last + 1, after):
                break
        for number in numbers:
            if number < last:
                self._store.delete(self._name(number))

    def _put(self, number: int, text: str) -> bool:
        """Write the next version; return whether it is the current one."""
        if not self._store.create(self._name(number), text.encode()):
            return False
        if not self._proven:
            self._prove(number)
        if max(self._numbers()) > number:
            self._store.delete(self._name(number))
            return False
        return True

    def _prove(self, number: int) -> None:
        """Try to overwrite the object that was just written; the store must refuse."""
        if self._store.create(self._name(number), PROBE.encode()):
            raise StorageError(
                "expected a store that never overwrites an object if If-None-Match is set, found that "
                f"{self._store.root} does; keep a schedule's results in a store with this feature, or on a path"
            )
        self._proven = True

    def _numbers(self) -> tuple[int, ...]:
        return tuple(int(name) for name in self._store.names(self._folder) if name.isdecimal())

    def _name(self, number: int) -> str:
        return f"{self._folder}/{number:012d}"
