"""Transient errors of an object store are retried, permanent ones are reported, and listing needs few requests."""

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
    """A store with short pauses and a new client, because a client reads environment and options when created."""
    monkeypatch.setattr(object_store, "FIRST_PAUSE", 0.001)
    object_store.file_system.cache_clear()
    yield ObjectStore(ROOT)
    object_store.file_system.cache_clear()


def first(times, status, at=""):
    """Let the first ``times`` requests fail, of those whose query contains ``at``."""
    left = [status] * times
    return lambda request: left.pop() if left and at in request.query else None


@pytest.mark.parametrize("status", [500, 503])
def test_transient_errors_are_retried_a_limited_number_of_times(s3, store, status):
    s3.fault = first(TRIES - 1, status)
    store.write("a", b"1")
    assert len(s3.requests) == TRIES
    assert store.read("a") == b"1"
    s3.requests.clear()
    s3.fault = lambda _request: status
    with pytest.raises(StorageError, match=f"expected to read a in .*{BUCKET}/retries, found {TRIES} failed attempts"):
        store.read("a")
    assert len(s3.requests) == TRIES  # the client below does not retry as well


def test_a_request_is_retried_if_the_server_does_not_answer_in_time(s3, store, monkeypatch):
    monkeypatch.setattr(object_store, "PUT_SECONDS", 0.3)
    monkeypatch.setitem(object_store._S3_OPTIONS["config_kwargs"], "read_timeout", 0.3)
    for ask in (lambda: store.write("slow", b"1"), lambda: store.read("slow"), lambda: store.names("")):
        s3.requests.clear()
        s3.fault = first(2, 1.5)
        ask()
        assert len(s3.requests) >= 3  # on a busy machine, one more request may time out


def test_an_unreachable_server_is_reported_after_all_attempts(s3, store, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1/hunter2secret")
    monkeypatch.setenv("DEPLOY_TOKEN", "hunter2secret")
    with pytest.raises(StorageError, match="Could not connect to the endpoint URL") as caught:
        store.read("a")
    assert "hunter2" not in str(caught.value)


def test_a_refusal_is_reported_at_once_with_the_required_permissions(s3, store):
    s3.fault = lambda _request: 403
    with pytest.raises(StorageError, match=r"access denied \(AccessDenied.*to read, list, write and delete"):
        store.write("a", b"1")
    assert len(s3.requests) == 1


def test_missing_credentials_are_reported_as_such(s3, store, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StorageError, match="found no credentials; set them in the environment"):
        store.read("a")


def test_pauses_grow_have_a_limit_and_are_random():
    longest = [max(pause(attempt) for _ in range(50)) for attempt in range(1, TRIES)]
    assert longest == sorted(longest)
    assert sum(longest) <= 32
    assert len({pause(3) for _ in range(9)}) > 1


def test_an_obstacle_is_found_by_a_test_object_that_is_removed(s3, store):
    assert store.obstacle() is None
    assert not s3.keys("retries/difflens")
    assert (
        "expected the bucket 'none' of s3://none/runs, found none" in ObjectStore(place_of("s3://none/runs")).obstacle()
    )
    assert "which only one process can" in ObjectStore(place_of("memory://runs")).obstacle()
    s3.fault = lambda request: 403 if request.method == "DELETE" else None
    assert f"to remove difflens-audit.probe in {ROOT}, found access denied" in store.obstacle()


def test_writing_to_a_missing_bucket_is_an_error(store):
    with pytest.raises(StorageError, match="expected the bucket 'none'"):
        ObjectStore(place_of("s3://none/runs")).write("a", b"1")


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(object_store.CLIENTS, "gs", object_store.Client("no_such_package"))
    with pytest.raises(StorageError, match="expected no_such_package for addresses with gs://, found none"):
        ObjectStore(place_of("gs://bucket/a")).read("b")


def test_only_one_call_creates_an_object_and_a_lost_answer_is_not_a_failure(s3, store):
    assert store.create("once", b"mine")
    assert not store.create("once", b"yours")
    assert store.read("once") == b"mine"
    served = []

    def lost_answer(request):  # the server creates the object, but reports a failure
        if request.creates and not served:
            served.append(s3.objects.put_object(BUCKET, "retries/lost", b"mine"))
            return 500
        return None

    s3.fault = lost_answer
    assert store.create("lost", b"mine")
    with pytest.raises(StorageError, match="does not support this"):
        ObjectStore(place_of("abfs://container/a")).create("b", b"")


def test_a_memory_store_can_be_used_within_one_process():
    run = RunDirectory(place_of("memory://bucket/run"))
    run.write_shard("a-0000", pa.table({"index": [1]}), {"attribution": {"images": np.array(1)}})
    assert run.finished() == {"a-0000"}
    assert run.read_shard("a-0000").num_rows == 1
    assert run.is_finished("a-0000")
    assert not run.is_finished("a-0001")


def test_finished_shards_are_listed_a_thousand_per_request(s3, monkeypatch):
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
    assert len(s3.requests) == 2 + TRIES - 1  # only the failed page is requested again
    s3.requests.clear()
    assert run.is_finished(shards[0])
    assert not run.is_finished("chef-0000")
    assert len(s3.requests) == 2
    assert not s3.asked("GET", "list-type")


def test_a_shard_needs_one_put_for_each_of_its_files(s3):
    run = RunDirectory(ObjectPath("s3", f"{BUCKET}/costs"))
    run.write_shard("a-0000", pa.table({"index": [1]}), {"attribution": {"images": np.array(1)}})
    assert [request.method for request in s3.requests] == ["PUT", "PUT"]
    assert s3.requests[-1].path.endswith("/a-0000.parquet")  # the rows mark the shard as finished
    s3.requests.clear()
    run.read_shard("a-0000")
    assert [request.method for request in s3.requests] == ["GET"]


def test_a_damaged_object_is_a_corrupt_shard_and_can_be_discarded(s3):
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


def test_random_faults_do_not_change_the_data_that_is_read(s3, store):
    s3.fault = seeded_faults(3, 0.3, kinds=(500, 503, 0.01))
    files = {f"{number}": bytes([number]) for number in range(60)}
    store.write_all(files)
    assert dict(zip(files, store.read_all(files), strict=True)) == files
    assert len(s3.faults) > 20


def test_failed_attempts_are_logged_without_secrets(s3, store, caplog, monkeypatch):
    monkeypatch.setenv("DEPLOY_TOKEN", "hunter2secret")
    s3.fault = first(1, 503)
    with caplog.at_level(logging.INFO, "audit"):
        store.write("hunter2secret.json", b"1")
    assert "attempt 1 to write" in caplog.text


def test_the_test_server_counts_a_shard_as_repeated_if_it_was_written_more_often_than_found_missing(s3, store):
    mark = "shards/nurse-0000.parquet"
    assert not store.has(mark)
    assert not store.has(mark)  # by another worker, before the first one has finished
    for _ in range(2):
        store.write(mark, b"1")
    assert store.has(mark)
    assert s3.finishes("retries") == {"nurse-0000": 2}
    assert s3.repeated("retries") == {}
    store.write(mark, b"1")
    assert s3.repeated("retries") == {"nurse-0000": 1}
