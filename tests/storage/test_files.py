"""What is promised of a place holds for a directory and for a prefix in an object store alike."""

import threading

import pytest

from audit.storage.files import storage_of


@pytest.fixture
def storage(place):
    return storage_of(place)


def test_what_was_written_is_read_and_replaced_whole(storage):
    assert not storage.has("a/b.json")
    storage.write("a/b.json", b"first, and longer")
    storage.write("a/b.json", b"second")
    assert storage.has("a/b.json")
    assert (storage.read("a/b.json"), storage.read("a/b.json", most=3)) == (b"second", b"sec")
    assert not storage.has("a")  # a folder is no file


def test_what_is_not_there_is_told_and_removing_it_is_no_fault(storage):
    with pytest.raises(FileNotFoundError, match="place/a"):
        storage.read("a")
    with pytest.raises(FileNotFoundError):
        storage.written("a")
    storage.delete("a")
    assert storage.names("a") == storage.folders() == storage.lines("a") == ()


def test_many_are_read_in_the_order_in_which_they_are_asked_for(storage):
    files = {f"{number}.bin": bytes([number]) for number in range(40)}
    storage.write_all(files)
    names = [*reversed(files), "none.bin", *files]
    assert list(storage.read_all(names)) == [files.get(name) for name in names]


def test_a_listing_has_files_of_the_folder_itself_and_folders_apart(storage):
    storage.write_all({"a.json": b"1", "shards/a.parquet": b"2", "shards/deep/b.parquet": b"3", "lens/c": b"4"})
    assert storage.names("") == ("a.json",)
    assert storage.names("shards") == ("a.parquet",)
    assert storage.folders() == ("lens", "shards")
    storage.delete("shards/a.parquet")
    assert storage.names("shards") == ()


def test_lines_of_many_who_append_at_once_are_all_there_and_whole(storage):
    threads = [threading.Thread(target=storage.append, args=("j.jsonl", f"line {n}" * 50)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(storage.lines("j.jsonl")) == [f"line {n}" * 50 for n in range(8)]
    storage.append("j.jsonl", "last")
    assert storage.lines("j.jsonl")[-1] == "last"


def test_a_reader_of_local_files_is_lent_one_of_the_same_name(storage):
    storage.write("tables/results.csv", b"1,2")
    with storage.on_disk("tables/results.csv") as path:
        assert (path.name, path.read_bytes()) == ("results.csv", b"1,2")


@pytest.mark.parametrize("name", ["../secret", "a/../../secret", "a\0b", "/etc/passwd"])
def test_a_name_that_leads_out_is_foreign(storage, name):
    assert not storage.owns(name)
    assert storage.owns("images/nurse/00000-baseline.webp")
