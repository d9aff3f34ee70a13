"""A local directory and an object-store prefix fulfil the same storage interface."""

import threading
from pathlib import Path

import pytest

from audit.storage.files import storage_of


@pytest.fixture
def storage(place):
    return storage_of(place)


def test_a_written_file_can_be_read_and_replaced(storage):
    assert not storage.has("a/b.json")
    storage.write("a/b.json", b"first, and longer")
    storage.write("a/b.json", b"second")
    assert storage.has("a/b.json")
    assert (storage.read("a/b.json"), storage.read("a/b.json", most=3)) == (b"second", b"sec")
    assert not storage.has("a")  # a folder is not a file


def test_reading_a_missing_file_fails_and_removing_it_does_not(storage):
    with pytest.raises(FileNotFoundError, match="place/a"):
        storage.read("a")
    with pytest.raises(FileNotFoundError):
        storage.written("a")
    storage.delete("a")
    assert storage.names("a") == storage.folders() == storage.lines("a") == ()


def test_several_files_are_read_in_the_requested_order(storage):
    files = {f"{number}.bin": bytes([number]) for number in range(40)}
    storage.write_all(files)
    names = [*reversed(files), "none.bin", *files]
    assert list(storage.read_all(names)) == [files.get(name) for name in names]


def test_listings_are_not_recursive_and_separate_files_from_folders(storage):
    storage.write_all({"a.json": b"1", "shards/a.parquet": b"2", "shards/deep/b.parquet": b"3", "lens/c": b"4"})
    assert storage.names("") == ("a.json",)
    assert storage.names("shards") == ("a.parquet",)
    assert storage.folders() == ("lens", "shards")
    storage.delete("shards/a.parquet")
    assert storage.names("shards") == ()


def test_the_half_file_of_a_killed_process_is_in_no_listing(tmp_path, monkeypatch):
    storage = storage_of(tmp_path)
    storage.write("parts/whole.json", b"{}")

    def killed(*_given, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)
    monkeypatch.setattr(Path, "unlink", lambda *_given, **_options: None)
    with pytest.raises(KeyboardInterrupt):
        storage.write("parts/half.json", b"{}")
    assert len(list((tmp_path / "parts").iterdir())) == 2
    assert storage.names("parts") == ("whole.json",)


def test_lines_appended_at_the_same_time_are_all_kept_and_complete(storage):
    threads = [threading.Thread(target=storage.append, args=("j.jsonl", f"line {n}" * 50)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(storage.lines("j.jsonl")) == [f"line {n}" * 50 for n in range(8)]
    storage.append("j.jsonl", "last")
    assert storage.lines("j.jsonl")[-1] == "last"


def test_a_local_file_of_the_same_name_is_provided(storage):
    storage.write("tables/results.csv", b"1,2")
    with storage.on_disk("tables/results.csv") as path:
        assert (path.name, path.read_bytes()) == ("results.csv", b"1,2")


@pytest.mark.parametrize("name", ["../secret", "a/../../secret", "a\0b", "/etc/passwd"])
def test_a_name_that_points_outside_is_not_owned(storage, name):
    assert not storage.owns(name)
    assert storage.owns("images/nurse/00000-baseline.webp")
