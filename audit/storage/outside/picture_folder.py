"""The pictures of a directory: which files count, which are passed over, and all that cannot be used.

Hidden files and folders do not count: thumbnails and the copies that file managers, notebooks and archives leave
behind. Links are followed. A folder is entered once, and a link to a picture that counts by itself does not count
again. Two links to one file elsewhere count twice, as the two equal pictures do that a store of contents keeps once.
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
"""Ends of the names of pictures that are read."""

_OTHER_PICTURES = frozenset(
    {
        ".apng", ".arw", ".avif", ".bmp", ".cr2", ".cr3", ".dib", ".dng", ".exr", ".gif", ".heic", ".heif", ".hif",
        ".ico", ".j2k", ".jp2", ".jxl", ".mng", ".nef", ".pbm", ".pcx", ".pgm", ".pnm", ".ppm", ".psd", ".qoi", ".raf",
        ".svg", ".tga", ".tif", ".tiff",
    }
)  # fmt: skip
"""Ends of the names of pictures that are not: left out in silence, they would change what is measured."""

_COPIES = frozenset({"__MACOSX", "@eaDir", "$RECYCLE.BIN"})
"""Folders of copies that archives and file servers make, beside those whose names begin with a dot."""


@dataclass(frozen=True)
class Unusable:
    """A file or folder that stands in the way.

    Attributes:
        path: Which.
        reason: Why, and what to do.
    """

    path: Path
    reason: str


@dataclass(frozen=True)
class PictureFolder:
    """What a directory holds.

    Attributes:
        pictures: Files that are pictures by their names, in the order of their paths.
        unusable: What cannot be counted: other picture formats, links that lead nowhere, folders that cannot be listed.
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
        pictures: Their files.
        side: Width and height that each must have, None where any will do.
    """
    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as threads:
        warnings.simplefilter("ignore")  # of Pillow, about what is refused or put right here
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
    """One visit of a directory tree.

    Attributes:
        pictures: Found so far.
        unusable: Likewise.
        links: Links that were met and not followed yet.
        entered: Folders that were listed, without links in their paths.
        counted: The same of pictures that are no links.
    """

    pictures: list[Path] = field(default_factory=list)
    unusable: list[Unusable] = field(default_factory=list)
    links: list[Path] = field(default_factory=list)
    entered: set[str] = field(default_factory=set)
    counted: set[str] = field(default_factory=set)

    def enter(self, directory: Path) -> None:
        """Look at everything under a directory that is reached without a link."""
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
        """Enter the folders that links lead to, then note the files: only then it is known which count already."""
        files = []
        while self.links:
            link = self.links.pop()
            if link.is_dir():
                self.enter(link)
            elif link.exists():
                files.append(link)
            else:
                self.unusable.append(Unusable(link, "the link leads nowhere; restore what it means, or remove it"))
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
        """Note a file, and return whether it is a picture by its name."""
        suffix = path.suffix.lower()
        if suffix in SUFFIXES:
            self.pictures.append(path)
        elif suffix in _OTHER_PICTURES:
            self.unusable.append(Unusable(path, f"{suffix} pictures are not read; save it as PNG"))
        return suffix in SUFFIXES
