"""An object store that stumbles costs time and nothing else; one that fails is told in a message; listing is cheap."""

import logging

import numpy as np
import pyarrow as pa
import pytest

from audit.storage import object_store
from audit.storage.object_store import TRIES, ObjectStore, StorageError, pause
from audit.storage.place import ObjectPath, place_of
from audit.storage.run_directory import CorruptShardError, RunDirectory
from benchmarks.s3_server import BUCKET, seeded_faults

ROOT = ObjectPath("s3", f"{BUCKET}/retries")


@pytest.fixture
def store(s3, monkeypatch):
    """A store with short pauses, and a client of its own, which reads environment and options when it is made."""
    monkeypatch.setattr(object_store, "FIRST_PAUSE", 0.001)
    object_store.file_system.cache_clear()
    yield ObjectStore(ROOT)
    object_store.file_system.cache_clear()


def first(times, status, at=""):
    """Let the first so many requests meet a fault, of those whose query holds ``at``."""
    left = [status] * times
    return lambda request: left.pop() if left and at in request.query else None


@pytest.mark.parametrize("status", [500, 503])
def test_what_may_pass_is_tried_again_and_bounded(s3, store, status):
    s3.fault = first(TRIES - 1, status)
    store.write("a", b"1")
    assert len(s3.requests) == TRIES
    assert store.read("a") == b"1"
    s3.requests.clear()
    s3.fault = lambda _request: status
    with pytest.raises(StorageError, match=f"{BUCKET}/retries to give a, found no success in {TRIES} tries"):
        store.read("a")
    assert len(s3.requests) == TRIES  # nobody below repeats a repetition


def test_a_server_that_holds_back_its_answer_is_asked_again(s3, store, monkeypatch):
    monkeypatch.setattr(object_store, "PUT_SECONDS", 0.3)
    monkeypatch.setitem(object_store._S3_OPTIONS["config_kwargs"], "read_timeout", 0.3)
    for ask in (lambda: store.write("slow", b"1"), lambda: store.read("slow"), lambda: store.names("")):
        s3.requests.clear()
        s3.fault = first(2, 1.5)
        ask()
        assert len(s3.requests) >= 3  # a busy machine may be late once more


def test_no_server_is_told_after_all_tries(s3, store, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1/hunter2secret")
    monkeypatch.setenv("DEPLOY_TOKEN", "hunter2secret")
    with pytest.raises(StorageError, match="Could not connect to the endpoint URL") as caught:
        store.read("a")
    assert "hunter2" not in str(caught.value)


def test_a_refusal_is_told_at_once_with_what_must_be_allowed(s3, store):
    s3.fault = lambda _request: 403
    with pytest.raises(StorageError, match=r"access denied \(AccessDenied.*allowed to read, list, write and delete"):
        store.write("a", b"1")
    assert len(s3.requests) == 1


def test_no_credentials_are_told_as_such(s3, store, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StorageError, match="found no credentials; give them through the environment"):
        store.read("a")


def test_pauses_grow_are_bounded_and_not_all_alike():
    longest = [max(pause(attempt) for _ in range(50)) for attempt in range(1, TRIES)]
    assert longest == sorted(longest)
    assert sum(longest) <= 32
    assert len({pause(3) for _ in range(9)}) > 1


def test_an_obstacle_is_found_by_trying_and_leaves_nothing(s3, store):
    assert store.obstacle() is None
    assert not s3.keys("retries/difflens")
    assert (
        "expected the bucket 'none' of s3://none/runs, found none" in ObjectStore(place_of("s3://none/runs")).obstacle()
    )
    assert "which is one process's own" in ObjectStore(place_of("memory://runs")).obstacle()
    s3.fault = lambda request: 403 if request.method == "DELETE" else None
    assert "to remove difflens-audit.probe, found access denied" in store.obstacle()


def test_a_bucket_that_vanishes_is_no_empty_one(store):
    with pytest.raises(StorageError, match="expected the bucket 'none'"):
        ObjectStore(place_of("s3://none/runs")).write("a", b"1")


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(object_store.CLIENTS, "gs", object_store.Client("no_such_package"))
    with pytest.raises(StorageError, match="expected no_such_package for addresses with gs://, found none"):
        ObjectStore(place_of("gs://bucket/a")).read("b")


def test_only_one_creates_and_a_lost_answer_is_no_failure(s3, store):
    assert store.create("once", b"mine")
    assert not store.create("once", b"yours")
    assert store.read("once") == b"mine"
    served = []

    def lost_answer(request):  # the server acts, and the client hears of a failure
        if request.creates and not served:
            served.append(s3.objects.put_object(BUCKET, "retries/lost", b"mine"))
            return 500
        return None

    s3.fault = lost_answer
    assert store.create("lost", b"mine")
    with pytest.raises(StorageError, match="not known to"):
        ObjectStore(place_of("abfs://container/a")).create("b", b"")


def test_a_memory_store_is_a_place_for_one_process():
    run = RunDirectory(place_of("memory://bucket/run"))
    run.write_shard("a-0000", pa.table({"index": [1]}), {"attribution": {"images": np.array(1)}})
    assert run.finished() == {"a-0000"}
    assert run.read_shard("a-0000").num_rows == 1
    assert run.is_finished("a-0000")
    assert not run.is_finished("a-0001")


def test_finished_shards_are_one_listing_of_a_thousand_a_page_and_no_request_each(s3, monkeypatch):
    monkeypatch.setattr(object_store, "FIRST_PAUSE", 0.001)
    shards = [f"nurse-{number:04d}" for number in range(1001)]
    for shard in shards:
        s3.objects.put_object(BUCKET, f"listing/shards/{shard}.parquet", b"x")
    s3.objects.put_object(BUCKET, "listing/shards/nurse-0000.attribution.safetensors", b"x")
    run = RunDirectory(ObjectPath("s3", f"{BUCKET}/listing"))
    assert run.finished() == set(shards)
    assert len(s3.requests) == len(s3.asked("GET", "list-type=2")) == 2  # 1,002 objects
    s3.requests.clear()
    s3.fault = first(TRIES - 1, 503, at="continuation-token")
    assert run.finished() == set(shards)
    assert len(s3.requests) == 2 + TRIES - 1  # a page that fails costs itself alone
    s3.requests.clear()
    assert run.is_finished(shards[0])
    assert not run.is_finished("chef-0000")
    assert len(s3.requests) == 2
    assert not s3.asked("GET", "list-type")


def test_a_shard_costs_a_put_for_each_of_its_files(s3):
    run = RunDirectory(ObjectPath("s3", f"{BUCKET}/costs"))
    run.write_shard("a-0000", pa.table({"index": [1]}), {"attribution": {"images": np.array(1)}})
    assert [request.method for request in s3.requests] == ["PUT", "PUT"]
    assert s3.requests[-1].path.endswith("/a-0000.parquet")  # the mark comes last
    s3.requests.clear()
    run.read_shard("a-0000")
    assert [request.method for request in s3.requests] == ["GET"]


def test_a_damaged_object_is_a_corrupt_shard_and_is_forgotten(s3):
    run = RunDirectory(ObjectPath("s3", f"{BUCKET}/damaged"))
    run.write_shard("a-0000", pa.table({"index": [1]}), {"attribution": {"images": np.array(1)}})
    s3.objects.put_object(BUCKET, "damaged/shards/a-0000.parquet", b"PAR1 of nothing")
    s3.objects.put_object(BUCKET, "damaged/shards/a-0000.attribution.safetensors", b"nothing")
    with pytest.raises(CorruptShardError, match=r"a-0000\.parquet"):
        run.read_shard("a-0000")
    with pytest.raises(CorruptShardError, match=r"a-0000\.attribution"):
        run.read_part("attribution", "a-0000")
    run.discard_shard("a-0000")
    assert not s3.keys("damaged/")


def test_seeded_faults_change_nothing_that_is_read(s3, store):
    s3.fault = seeded_faults(3, 0.3, kinds=(500, 503, 0.01))
    files = {f"{number}": bytes([number]) for number in range(60)}
    store.write_all(files)
    assert dict(zip(files, store.read_all(files), strict=True)) == files
    assert len(s3.faults) > 20


def test_tries_are_told_without_secrets(s3, store, caplog, monkeypatch):
    monkeypatch.setenv("DEPLOY_TOKEN", "hunter2secret")
    s3.fault = first(1, 503)
    with caplog.at_level(logging.INFO, "audit"):
        store.write("hunter2secret.json", b"1")
    assert "try 1 to take" in caplog.text


def test_a_shard_is_repeated_where_it_was_marked_more_often_than_looked_for_in_vain(s3, store):
    mark = "shards/nurse-0000.parquet"
    assert not store.has(mark)
    assert not store.has(mark)  # by another worker, before the first is done
    for _ in range(2):
        store.write(mark, b"1")
    assert store.has(mark)
    assert s3.finishes("retries") == {"nurse-0000": 2}
    assert s3.repeated("retries") == {}
    store.write(mark, b"1")
    assert s3.repeated("retries") == {"nurse-0000": 1}
