"""Fuzz test of reference picture folders: ``validate`` refuses each, or it is read as a viewer shows it.

``python -m benchmarks.fuzz_references --cases 1500`` draws folders with all kinds of pictures, copies, links and
unusual names, and prints the results. An accepted folder must have the right number of pictures, each with the pixels
that both Pillow and the picture's maker give.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from audit.calibration.canvas import SIZE
from benchmarks.drawn_pictures import SPOILED, WHOLE, DrawnPicture, Pixels, Rng, plainly_read
from benchmarks.fuzz_cases import Drawn, FindingError, run_cases
from ray_jobs.run.prepare import reference

_NAMES = (
    "a b", "a%20b", "naïve", "nai\u0308ve", "日本", "-n", "[1]", "{x}", "'", '"', "a:b", "a#b", "a?b", "*", "~",
    "$HOME", "x" * 200, " led", "trailed ", "two\nlines", "\x1b[2J", "\u202eabc", "a.b.c", "png", "=1+1",
    "\N{GRINNING FACE}", "back\\slash", os.fsdecode(b"\xff\xfe"),
)  # fmt: skip
_IN_CONFIGS = tuple(name for name in _NAMES if name.isprintable() and name == name.strip())
"""The names that a config may contain."""
_HIDDEN = (".thumbnails", ".ipynb_checkpoints", "__MACOSX", "@eaDir", ".git")
_NEAR = 1
"""Allowed rounding differences of alpha and colour in grey levels: Pillow blends in whole numbers."""


@dataclass
class _Folder:
    """A folder during its construction.

    Attributes:
        path: Path of the folder.
        outside: A directory beside it, the target of links.
        rng: Random generator.
        side: Width and height of its pictures; None for any size.
        shown: Pictures that must be counted.
        spoiled: Contents that must be refused.
        ways: Kinds of content.
    """

    path: Path
    outside: Path
    rng: Rng
    side: int | None
    shown: list[Pixels] = field(default_factory=list)
    spoiled: list[str] = field(default_factory=list)
    ways: list[str] = field(default_factory=list)

    def write(self, directory: Path, drawn: DrawnPicture) -> Path:
        """Write a picture under a new name, which is sometimes unusual."""
        directory.mkdir(parents=True, exist_ok=True)
        stem = str(self.rng.choice(_NAMES)) if self.rng.random() < 0.3 else "face"
        path = next(p for n in range(99) if not os.path.lexists(p := directory / f"{stem}{n or ''}{drawn.suffix}"))
        path.write_bytes(drawn.data)
        return path

    def whole(self) -> DrawnPicture:
        """Draw a readable picture; its maker and Pillow must agree, otherwise the fuzz test is wrong."""
        kind = str(self.rng.choice(list(WHOLE)))
        drawn = WHOLE[kind](self.rng, self.side)
        self.ways.append(kind)
        assert drawn.shown is not None
        _same(plainly_read(drawn.data), drawn.shown, f"Pillow and the maker of {kind}")
        return drawn

    def count(self, drawn: DrawnPicture) -> None:
        """Record that a picture must be counted."""
        assert drawn.shown is not None
        self.shown.append(drawn.shown)


def _same(found: Pixels, expected: Pixels, what: str) -> None:
    if found.shape != expected.shape or int(np.abs(found.astype(int) - expected.astype(int)).max()) > _NEAR:
        raise FindingError(f"{what} differ: shapes {found.shape} and {expected.shape}")


# ---- what is put into a folder -------------------------------------------------------------------------------------


def _picture(folder: _Folder, deep: Path = Path()) -> None:
    drawn = folder.whole()
    folder.write(folder.path / deep, drawn)
    folder.count(drawn)


def _deep(folder: _Folder) -> None:
    _picture(folder, Path("of.png") / str(folder.rng.choice(_NAMES)))


def _spoiled(folder: _Folder) -> None:
    kind = str(folder.rng.choice(list(SPOILED)))
    folder.write(folder.path, SPOILED[kind](folder.rng, folder.side))
    folder.spoiled.append(kind)


def _another_size(folder: _Folder) -> None:
    if folder.side is not None:
        drawn = WHOLE["RGB"](folder.rng, int(folder.rng.choice([1, 63, 65])))
        folder.write(folder.path, drawn)
        folder.spoiled.append("another size")


def _hidden(folder: _Folder) -> None:
    """Add hidden copies and files that are not pictures."""
    drawn = folder.whole()
    folder.write(folder.path / str(folder.rng.choice(_HIDDEN)), drawn)
    (folder.path / "._face.png").write_bytes(b"no picture")
    (folder.path / ".gone.png").unlink(missing_ok=True)
    (folder.path / ".gone.png").symlink_to("nowhere")


def _beside(folder: _Folder) -> None:
    for name in ("notes.txt", "Thumbs.db", "faces.csv", "png", "face.png.part"):
        (folder.path / name).write_bytes(b"beside")


def _empty_folders(folder: _Folder) -> None:
    (folder.path / "empty" / "emptier.png").mkdir(parents=True, exist_ok=True)


def _link_out(folder: _Folder) -> None:
    drawn = folder.whole()
    target = folder.write(folder.outside / f"linked{len(folder.shown)}", drawn)
    link = folder.path / f"link{len(folder.shown)}"
    if folder.rng.integers(2):
        link.symlink_to(target.parent)
    else:
        link.with_suffix(drawn.suffix).symlink_to(target)
    folder.count(drawn)


def _link_again(folder: _Folder) -> None:
    """Link a picture that already counts: it counts once."""
    drawn = folder.whole()
    target = folder.write(folder.path, drawn)
    folder.count(drawn)
    link = folder.path / f"again{len(folder.shown)}{drawn.suffix}"
    link.symlink_to(target if folder.rng.integers(2) else target.name)


def _linked_twice(folder: _Folder) -> None:
    """Link one outside file twice, as a content store keeps two equal pictures: both count."""
    drawn = folder.whole()
    target = folder.write(folder.outside / f"twice{len(folder.shown)}", drawn)
    for name in ("one", "two"):
        (folder.path / f"{name}{len(folder.ways)}{drawn.suffix}").symlink_to(target)
        folder.count(drawn)


def _hard_link(folder: _Folder) -> None:
    """Add a hard link, which counts like any other file, as in sets that are made by copying."""
    drawn = folder.whole()
    target = folder.write(folder.path, drawn)
    os.link(target, folder.path / f"hard{len(folder.shown)}{drawn.suffix}")
    folder.count(drawn)
    folder.count(drawn)


def _loop(folder: _Folder) -> None:
    inner = folder.path / f"loop{len(folder.ways)}"
    inner.mkdir()
    (inner / "up").symlink_to("..")
    (inner / "here").symlink_to(".")


def _stored(folder: _Folder) -> None:
    """Store the files in a hidden directory and link them, like git-annex and the hub's cache."""
    drawn = folder.whole()
    store = folder.path / ".store"
    store.mkdir(exist_ok=True)
    blob = store / f"{len(folder.shown):x}"
    blob.write_bytes(drawn.data)
    (folder.path / f"stored{len(folder.shown)}{drawn.suffix}").symlink_to(Path(".store") / blob.name)
    folder.count(drawn)


def _dangling(folder: _Folder) -> None:
    name = f"dangling{len(folder.ways)}"
    target = ["nowhere.png", f"{name}.png", "/nowhere/pictures"][int(folder.rng.integers(3))]
    (folder.path / f"{name}.png").symlink_to(target)
    folder.spoiled.append("dangling")


def _pipe(folder: _Folder) -> None:
    os.mkfifo(folder.path / f"pipe{len(folder.ways)}.png")
    folder.spoiled.append("pipe")


_HARMLESS = (
    _picture, _picture, _picture, _picture, _deep, _hidden, _beside, _empty_folders, _link_out, _link_again,
    _linked_twice, _hard_link, _loop, _stored,
)  # fmt: skip
_HARMFUL = (_spoiled, _spoiled, _spoiled, _spoiled, _another_size, _dangling, _pipe)


def draw_folder(rng: Rng, root: Path) -> Drawn:
    """Draw a folder of up to eight pictures and other files; half of the folders have an error."""
    name = str(rng.choice([*_IN_CONFIGS, *["faces"] * 20, ".hidden"]))
    path, outside = root / "in" / name, root / "outside"
    path.mkdir(parents=True)
    outside.mkdir()
    folder = _Folder(path, outside, rng, SIZE if rng.integers(2) else None)
    for _ in range(int(rng.integers(1, 7))):
        _put(folder, _HARMLESS)
    if rng.random() < 0.4:
        for _ in range(int(rng.integers(1, 4))):
            _put(folder, _HARMFUL)
    few = ["fewer than two"] if len(folder.shown) < 2 else []
    features = "bundled" if folder.side else str(root / "network.pth")
    quoted = json.dumps(str(path), ensure_ascii=False)
    config = (
        "name: a\nmodel: {source: rendered}\ntracking: {enabled: false}\n"
        f"output: {root}\nquality: {{clip: none, features: {features}, reference: {quoted}}}\n"
    )
    return Drawn(
        ways=tuple(dict.fromkeys([*folder.ways, *folder.spoiled, *few])),
        config=config,
        check=partial(_check, folder),
        refusable=bool(folder.spoiled or few),
        ignored=frozenset({"quality.features"}),
    )


def _put(folder: _Folder, choices: tuple) -> None:
    what = choices[int(folder.rng.integers(len(choices)))]
    what(folder)
    folder.ways.append(what.__name__.strip("_").replace("_", " "))


def _check(folder: _Folder) -> None:
    """Read an accepted folder like the workers that embed it, and compare."""
    if folder.spoiled:
        raise FindingError(f"accepted with {', '.join(folder.spoiled)}")
    files = [file for part in reference.reference_parts(folder.path) for file in part.files]
    found = [reference._read(Path(file))[0].permute(1, 2, 0).numpy() for file in files]
    if len(found) != len(folder.shown):
        raise FindingError(f"counted {len(found)} pictures of {len(folder.shown)}: {files}")
    left = Counter(range(len(folder.shown)))
    for file, pixels in zip(files, found, strict=True):
        match = next((n for n in left if left[n] and _is_same(pixels, folder.shown[n])), None)
        if match is None:
            raise FindingError(f"{file} is read as a picture that was not put there")
        left[match] -= 1


def _is_same(found: Pixels, expected: Pixels) -> bool:
    return found.shape == expected.shape and int(np.abs(found.astype(int) - expected.astype(int)).max()) <= _NEAR


def main() -> int:
    """Run the cases and print the results."""
    return run_cases(draw_folder, __doc__, "reference folders", 1500)


if __name__ == "__main__":
    sys.exit(main())
