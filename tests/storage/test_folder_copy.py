"""A folder is copied from disk to a place and back, and moved within it; the file that marks it complete is last."""

from audit.storage.files import storage_of
from audit.storage.folder_copy import folder_on_disk, folder_to_fill, move_folder
from audit.storage.place import ObjectPath
from benchmarks.s3_server import BUCKET


def test_a_filled_folder_can_be_moved_and_read_back(place):
    with folder_to_fill(place / "made", last="lens.json") as directory:
        (directory / "examples").mkdir(parents=True)
        (directory / "lens.json").write_text("{}")
        (directory / "weights.bin").write_bytes(b"w")
        (directory / "examples" / "1-0.webp").write_bytes(b"p")
    move_folder(place / "made", place / "kept", folders=("examples",), last="lens.json")
    with folder_on_disk(place / "kept") as directory:
        assert (directory / "weights.bin").read_bytes() == b"w"
        assert (directory / "lens.json").read_text() == "{}"
    assert storage_of(place / "kept").read("examples/1-0.webp") == b"p"
    assert storage_of(place / "made").names("") == ()


def test_in_an_object_store_the_last_file_is_written_last(s3):
    with folder_to_fill(ObjectPath("s3", f"{BUCKET}/filled"), last="a.json") as directory:
        for name in ("a.json", "b.json", "c.json"):
            (directory / name).write_text("{}")
    assert [request.path[-6:] for request in s3.asked("PUT")][-1] == "a.json"
