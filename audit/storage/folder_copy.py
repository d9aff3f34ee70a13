"""Copies directories between local disk and object storage, for code that uses only local directories."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from audit.storage.files import storage_of
from audit.storage.place import Place


@contextmanager
def folder_on_disk(place: Place) -> Iterator[Path]:
    """Provide the directory itself, or a temporary local copy of the files directly in it."""
    if isinstance(place, Path):
        yield place
        return
    storage = storage_of(place)
    with TemporaryDirectory() as directory:
        names = storage.names("")
        for name, data in zip(names, storage.read_all(names), strict=True):
            if data is not None:
                (Path(directory) / name).write_bytes(data)
        yield Path(directory)


@contextmanager
def folders_on_disk(place: Place, folders: Iterable[str]) -> Iterator[Path]:
    """Provide the directory itself, or a temporary local copy of the files directly in some of its folders."""
    if isinstance(place, Path):
        yield place
        return
    storage = storage_of(place)
    with TemporaryDirectory() as directory:
        for folder in folders:
            (Path(directory) / folder).mkdir()
            for name in storage.names(folder):
                (Path(directory) / folder / name).write_bytes(storage.read(f"{folder}/{name}"))
        yield Path(directory)


@contextmanager
def folder_to_fill(place: Place, last: str) -> Iterator[Path]:
    """Provide a directory whose files are copied to the place afterwards; the file ``last`` is copied last."""
    if isinstance(place, Path):
        yield place
        return
    with TemporaryDirectory() as scratch:
        directory = Path(scratch)
        yield directory
        files = {str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}
        mark = files.pop(last)
        storage = storage_of(place)
        storage.write_all(files)
        storage.write(last, mark)


def move_folder(source: Place, target: Place, folders: tuple[str, ...], last: str) -> None:
    """Move a folder within a store by copying, because an object store cannot rename; ``last`` is copied last.

    Args:
        source: The folder.
        target: Its new address.
        folders: Subfolders whose files are moved as well.
        last: The file that marks the folder as complete.
    """
    old, new = storage_of(source), storage_of(target)
    names = [*old.names(""), *(f"{folder}/{name}" for folder in folders for name in old.names(folder))]
    new.delete(last)
    new.write_all({name: old.read(name) for name in names if name != last})
    new.write(last, old.read(last))
    for name in (last, *names):
        old.delete(name)
