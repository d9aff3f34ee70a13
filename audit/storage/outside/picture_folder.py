"""Lists the pictures of a directory, and reports every file that cannot be used.

Hidden files and folders are skipped: thumbnails, and copies made by file managers, notebooks and archives. Links are
followed. Each folder is visited once, and a link to a picture that is already counted does not count again. Two links
to one file outside the directory count twice, because content-addressed stores keep equal pictures only once.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from audit.storage.outside.picture import PictureError, read_picture

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp"})
"""Suffixes of pictures that are read."""

_OTHER_PICTURES = frozenset(
    {
        ".apng", ".arw", ".avif", ".bmp", ".cr2", ".cr3", ".dib", ".dng", ".exr", ".gif", ".heic", ".heif", ".hif",
        ".ico", ".j2k", ".jp2", ".jxl", ".mng", ".nef", ".pbm", ".pcx", ".pgm", ".pnm", ".ppm", ".psd", ".qoi", ".raf",
        ".svg", ".tga", ".tif", ".tiff",
    }
)  # fmt: skip
"""Suffixes of pictures that are not read. They are reported, because skipping them silently would change the
measurement."""

_COPIES = frozenset({"__MACOSX", "@eaDir", "$RECYCLE.BIN"})
"""Folders of copies that archives and file servers create, in addition to those whose names start with a dot."""


@dataclass(frozen=True)
class Unusable:
    """A file or folder that cannot be used.

    Attributes:
        path: The file or folder.
        reason: Why, and what to do.
    """

    path: Path
    reason: str


@dataclass(frozen=True)
class PictureFolder:
    """The pictures of a directory.

    Attributes:
        pictures: Files that are pictures by their suffix, sorted by path.
        unusable: Files in other picture formats, broken links, and folders that cannot be listed.
    """

    pictures: tuple[Path, ...]
    unusable: tuple[Unusable, ...]


def picture_folder(directory: Path) -> PictureFolder:
    """List the pictures under a directory, at any depth."""
    walk = _Walk()
    walk.enter(directory)
    walk.follow_links()
    return PictureFolder(tuple(sorted(walk.pictures)), tuple(sorted(walk.unusable, key=lambda found: found.path)))


def unreadable_pictures(pictures: Sequence[Path], side: int | None = None) -> tuple[Unusable, ...]:
    """Decode every picture, and return those that cannot be used.

    Args:
        pictures: The picture files.
        side: Required width and height, None for any size.
    """
    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as threads:
        warnings.simplefilter("ignore")  # Pillow warns about files that are refused or corrected here
        return tuple(found for found in threads.map(partial(_unreadable, side=side), pictures) if found is not None)


def _unreadable(path: Path, side: int | None) -> Unusable | None:
    try:
        height, width, _ = read_picture(path).shape
    except PictureError as error:
        return Unusable(path, str(error))
    if side is not None and (height, width) != (side, side):
        return Unusable(path, f"{width} × {height} pixels instead of {side} × {side}; resize it")
    return None


@dataclass
class _Walk:
    """One traversal of a directory tree.

    Attributes:
        pictures: Pictures found so far.
        unusable: Unusable files and folders found so far.
        links: Links that were found and not followed yet.
        entered: Real paths of the folders that were listed.
        counted: Real paths of the pictures that are not links.
    """

    pictures: list[Path] = field(default_factory=list)
    unusable: list[Unusable] = field(default_factory=list)
    links: list[Path] = field(default_factory=list)
    entered: set[str] = field(default_factory=set)
    counted: set[str] = field(default_factory=set)

    def enter(self, directory: Path) -> None:
        """List everything under a directory that can be reached without a link."""
        waiting = [directory]
        while waiting:
            folder = waiting.pop()
            real = os.path.realpath(folder)
            if real in self.entered:
                continue
            self.entered.add(real)
            for entry in self._entries(folder):
                if entry.is_symlink():
                    self.links.append(folder / entry.name)
                elif entry.is_dir():
                    waiting.append(folder / entry.name)
                elif self._note(folder / entry.name):
                    self.counted.add(os.path.join(real, entry.name))

    def follow_links(self) -> None:
        """Enter the linked folders first, then add the linked files; only then all files without links are known."""
        files = []
        while self.links:
            link = self.links.pop()
            if link.is_dir():
                self.enter(link)
            elif link.exists():
                files.append(link)
            else:
                self.unusable.append(Unusable(link, "the link is broken; restore its target, or remove the link"))
        for link in files:
            if os.path.realpath(link) not in self.counted:
                self._note(link)

    def _entries(self, folder: Path) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(folder) as entries:
                shown = [entry for entry in entries if not entry.name.startswith(".") and entry.name not in _COPIES]
            return sorted(shown, key=lambda entry: entry.name)
        except OSError as error:
            self.unusable.append(Unusable(folder, f"the folder cannot be listed ({error.strerror}); make it readable"))
            return []

    def _note(self, path: Path) -> bool:
        """Record a file, and return whether it is a picture by its suffix."""
        suffix = path.suffix.lower()
        if suffix in SUFFIXES:
            self.pictures.append(path)
        elif suffix in _OTHER_PICTURES:
            self.unusable.append(Unusable(path, f"{suffix} pictures are not read; save it as PNG"))
        return suffix in SUFFIXES
