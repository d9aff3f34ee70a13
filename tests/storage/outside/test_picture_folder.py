"""Each picture of a folder counts once; hidden copies and link cycles do not count, and nothing is skipped silently."""

import os

import numpy as np
import pytest
from PIL import Image

from audit.storage.outside.picture_folder import picture_folder, unreadable_pictures


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "pictures"


def draw(path, side=64):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((side, side, 3), 90, np.uint8)).save(path, "PNG")


def counted(folder):
    return [path.relative_to(folder).as_posix() for path in picture_folder(folder).pictures]


def unusable(folder):
    return {found.path.relative_to(folder).as_posix(): found.reason for found in picture_folder(folder).unusable}


def test_pictures_are_counted_at_any_depth_regardless_of_the_case_of_their_suffix(folder):
    for name in ("b.PNG", "a.JpEg", "deep/er/c.webp", "d.jfif", "of.png/e.jpg", "f g\u0301.png"):
        draw(folder / name)
    (folder / "notes.txt").touch()
    (folder / "png").touch()
    assert counted(folder) == sorted(["a.JpEg", "b.PNG", "d.jfif", "deep/er/c.webp", "f g\u0301.png", "of.png/e.jpg"])
    assert unusable(folder) == {}


def test_hidden_copies_do_not_count(folder):
    draw(folder / "face.png")
    for hidden in (
        ".thumbnails/face.png", ".ipynb_checkpoints/face-checkpoint.png", "__MACOSX/._face.png", "._face.png",
        "@eaDir/face.png/thumb.jpg", "sub/.cache/deep/face.png", ".face.png",
    ):  # fmt: skip
        draw(folder / hidden)
    (folder / ".gone.png").symlink_to("nowhere")
    assert counted(folder) == ["face.png"]
    assert unusable(folder) == {}


def test_the_given_folder_may_itself_be_hidden(tmp_path):
    draw(tmp_path / ".faces" / "a.png")
    assert counted(tmp_path / ".faces") == ["a.png"]


def test_links_are_followed_and_count_once(folder, tmp_path):
    draw(tmp_path / "elsewhere" / "a.png")
    draw(tmp_path / "elsewhere" / "deep" / "b.png")
    draw(folder / "own" / "c.png")
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "once-more").symlink_to(tmp_path / "elsewhere")
    (folder / "one.png").symlink_to(tmp_path / "elsewhere" / "deep" / "b.png")
    (folder / "again.png").symlink_to("own/c.png")
    (folder / "own" / "circle").symlink_to("..")
    (tmp_path / "elsewhere" / "back").symlink_to(folder)
    assert len(counted(folder)) == 3
    assert "own/c.png" in counted(folder)


def test_links_into_a_hidden_store_count(folder):
    """Git-annex, DVC and the hub's cache store files in this way."""
    draw(folder / ".store" / "0f3a")
    draw(folder / ".store" / "77b1")
    (folder / "a.png").symlink_to(".store/0f3a")
    (folder / "b.png").symlink_to(".store/77b1")
    assert counted(folder) == ["a.png", "b.png"]


def test_broken_links_are_reported(folder):
    draw(folder / "a.png")
    (folder / "b.png").symlink_to("gone.png")
    (folder / "unmounted").symlink_to("/nowhere/pictures")
    (folder / "itself.png").symlink_to("itself.png")
    assert set(unusable(folder)) == {"b.png", "unmounted", "itself.png"}
    assert counted(folder) == ["a.png"]


def test_pictures_of_other_formats_are_reported(folder):
    draw(folder / "a.png")
    for name in ("b.gif", "c.TIFF", "d.bmp", "e.heic", "f.avif", "g.svg"):
        (folder / name).touch()
    assert set(unusable(folder)) == {"b.gif", "c.TIFF", "d.bmp", "e.heic", "f.avif", "g.svg"}
    assert unusable(folder)["c.TIFF"] == ".tiff pictures are not read; save it as PNG"


@pytest.mark.skipif(os.geteuid() == 0, reason="root can list any folder")
def test_a_folder_that_cannot_be_listed_is_reported(folder):
    draw(folder / "closed" / "a.png")
    (folder / "closed").chmod(0)
    assert "cannot be listed" in unusable(folder)["closed"]
    (folder / "closed").chmod(0o700)


def test_every_unusable_picture_is_reported_once(folder):
    draw(folder / "whole.png")
    draw(folder / "wide.png", side=80)
    (folder / "empty.jpg").touch()
    (folder / "text.webp").write_text("no picture")
    (folder / "cut.png").write_bytes((folder / "whole.png").read_bytes()[:60])
    pictures = picture_folder(folder).pictures
    found = unreadable_pictures(pictures, side=64)
    assert [item.path.name for item in found] == ["cut.png", "empty.jpg", "text.webp", "wide.png"]
    assert found[-1].reason == "80 × 80 pixels instead of 64 × 64; resize it"
    assert [item.path.name for item in unreadable_pictures(pictures)] == ["cut.png", "empty.jpg", "text.webp"]
