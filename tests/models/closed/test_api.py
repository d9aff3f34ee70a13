"""Pictures of an endpoint: retried where it helps, within the limits, never requested twice; the key stays secret."""

import threading
import time

import numpy as np
import pytest
from starlette.responses import JSONResponse

from audit.config.sections import ModelConfig
from audit.models.closed.api import FAILED, HostedPictures
from audit.models.closed.budget import Budget, BudgetError, Pace
from audit.models.closed.endpoint import EndpointError
from audit.models.closed.picture_store import PictureRecord, PictureStore, RequestTotals
from audit.models.source import model_fingerprint
from audit.planning.plan import Prompt
from audit.storage.files import storage_of
from tests.image_endpoint import REFUSAL, ImageEndpoint, error

DOCTOR = Prompt("doctor", "a face photo of a doctor", "doctor")
KEY = "k-4f9c1d7e2b8a4f9c1d7e"


@pytest.fixture
def endpoint():
    with ImageEndpoint() as server:
        yield server


@pytest.fixture
def hosted(endpoint, tmp_path, monkeypatch):
    """Return a maker of sources that keep their pictures in one run directory; waits are recorded, not slept."""
    monkeypatch.setenv("OWN_VARIABLE", KEY)
    waits = []

    def make(directory="run", **keys):
        limits = {"concurrency": 1, "max_retries": 2, "timeout_seconds": 5, **keys.pop("limits", {})}
        model = ModelConfig(
            source="api", base_url=endpoint.url, model="painter", api_key_env="OWN_VARIABLE", limits=limits, **keys
        )
        return HostedPictures(model, ["doctor"], storage_of(tmp_path / directory), sleep=waits.append)

    make.waits, make.path = waits, tmp_path / "run"
    make.totals = lambda: PictureStore(storage_of(make.path)).totals(["doctor"])
    return make


def failed(batches):
    """Return the indices of the pictures that could not be had."""
    return sorted(
        index
        for batch in batches
        for index, image in zip(batch.indices, batch.images, strict=True)
        if image.min() == image.max()
    )


def once(*responses):
    """Return a fault that gives these responses to the first requests."""
    left = list(responses)
    return lambda _body, _number: left.pop(0) if left else None


def test_each_picture_is_requested_once_and_read_again_from_the_run_directory(hosted, endpoint):
    first = hosted(parameters={"quality": "low"}).batches(DOCTOR, range(3))
    again = hosted(parameters={"quality": "low"}).batches(DOCTOR, range(3))
    assert endpoint.paid == {DOCTOR.text: 3}
    assert endpoint.requests == 3
    assert endpoint.bodies[0] == {
        "model": "painter", "prompt": DOCTOR.text, "n": 1, "size": "1024x1024", "quality": "low"
    }  # fmt: skip
    assert [batch.seeds for batch in first] == [batch.seeds for batch in again]
    assert len(set(first[0].seeds)) == 3
    assert failed(first) == []
    assert sorted(path.name for path in (hosted.path / "pictures/doctor").iterdir()) == [
        "00000.png", "00001.png", "00002.png"
    ]  # fmt: skip


def test_every_request_for_an_image_has_one_idempotency_key_and_other_images_and_runs_have_others(hosted, endpoint):
    endpoint.fault = once(error(500), error(503))
    hosted().batches(DOCTOR, [0, 1])
    hosted("another").batches(DOCTOR, [0])
    keys = [headers["idempotency-key"] for headers in endpoint.headers]
    assert keys[0] == keys[1] == keys[2]
    assert len(set(keys)) == 3


@pytest.mark.parametrize("status", [408, 409, 429, 500, 503])
def test_an_error_that_may_pass_is_retried(hosted, endpoint, status):
    endpoint.fault = once(error(status))
    assert failed(hosted().batches(DOCTOR, [0])) == []
    assert (endpoint.requests, endpoint.paid.total()) == (2, 1)
    assert hosted.totals() == RequestTotals(requests=2, received=1)


def test_an_endpoint_that_asks_to_wait_is_obeyed(hosted, endpoint):
    endpoint.fault = once(error(429, **{"Retry-After": "17"}))
    hosted().batches(DOCTOR, [0])
    assert 17 in hosted.waits


def test_after_the_last_retry_the_image_counts_as_failed_and_the_others_are_there(hosted, endpoint):
    endpoint.fault = lambda _body, number: error(500, message="overloaded") if number <= 3 else None
    assert failed(hosted().batches(DOCTOR, range(3))) == [0]
    record = PictureStore(storage_of(hosted.path)).record("doctor", 0)
    assert (record.outcome, record.reason, record.requests) == ("failed", "500: overloaded", 3)
    assert hosted.totals() == RequestTotals(requests=5, received=2, failed=1)
    assert failed(hosted().batches(DOCTOR, range(3))) == []  # an attempt that is resumed tries it again


def test_a_timeout_is_retried_and_counts_as_a_request_that_may_be_charged(hosted, endpoint):
    release = threading.Event()
    endpoint.fault = lambda _body, number: release.wait(3) and error(500) if number == 1 else None
    assert failed(hosted(limits={"timeout_seconds": 0.5}).batches(DOCTOR, [0])) == []
    release.set()
    assert hosted.totals() == RequestTotals(requests=2, received=1, unanswered=1)


def test_an_endpoint_that_is_not_there_charges_nothing(hosted, endpoint):
    source = hosted(limits={"max_retries": 1})
    endpoint.__exit__()
    assert failed(source.batches(DOCTOR, [0])) == [0]
    assert hosted.totals() == RequestTotals(requests=2, failed=1)


def test_a_refused_prompt_is_asked_once_and_fails(hosted, endpoint):
    endpoint.fault = once(JSONResponse(REFUSAL, 400))
    assert failed(hosted().batches(DOCTOR, range(2))) == [0]
    assert failed(hosted().batches(DOCTOR, range(2))) == [0]
    assert endpoint.requests == 2
    assert hosted.totals() == RequestTotals(requests=2, received=1, refused=1)


@pytest.mark.parametrize(
    ("status", "code"), [(400, "invalid_size"), (401, "invalid_api_key"), (404, None), (429, "insufficient_quota")]
)
def test_an_error_of_every_request_stops_at_once_without_a_retry_and_without_the_key(hosted, endpoint, status, code):
    endpoint.fault = lambda _body, _number: error(status, code, message=f"Incorrect key {KEY}\nprovided")
    with pytest.raises(EndpointError) as caught:
        hosted(limits={"concurrency": 3}).batches(DOCTOR, range(20))
    assert endpoint.requests <= 3
    assert f"127.0.0.1:{endpoint.port}/v1 refuses requests with {status}: Incorrect key *** provided" in str(
        caught.value
    )
    kept = b"".join(path.read_bytes() for path in hosted.path.rglob("*") if path.is_file())
    assert KEY.encode() not in kept
    chain = caught.value
    while chain is not None:
        assert KEY not in repr(chain)
        chain = chain.__cause__
    assert hosted.totals().charged == 0


@pytest.mark.parametrize(
    "answer",
    [
        {"created": 1, "data": []},
        {"created": 1, "data": [{"b64_json": "!!!"}]},
        {"created": 1, "data": [{"b64_json": "aGVsbG8="}]},
        {"created": 1, "data": [{"b64_json": "iVBORw0KGgo="}]},
        {"created": 1, "data": [{}]},
        {"data": None},
    ],
)
def test_a_paid_answer_without_a_picture_fails_and_is_not_paid_again(hosted, endpoint, answer):
    endpoint.fault = once(JSONResponse(answer))
    assert failed(hosted().batches(DOCTOR, [0])) == [0]
    assert failed(hosted().batches(DOCTOR, [0])) == [0]
    assert endpoint.requests == 1
    assert hosted.totals() == RequestTotals(requests=1, received=1, failed=1)


def test_a_picture_behind_an_address_is_fetched_again_and_not_paid_again(hosted, endpoint):
    endpoint.reachable, endpoint.lost = True, 1
    assert failed(hosted().batches(DOCTOR, [0])) == []
    assert (endpoint.requests, endpoint.fetched.total()) == (1, 2)
    record = PictureStore(storage_of(hosted.path)).record("doctor", 0)
    assert (record.url, record.revised_prompt) == ("", f"{DOCTOR.text}, smiling")
    assert hosted.totals() == RequestTotals(requests=1, received=1, revised=1)


def test_an_address_that_stays_unreachable_is_tried_again_by_the_next_attempt_alone(hosted, endpoint):
    endpoint.reachable, endpoint.lost = True, 3
    assert failed(hosted().batches(DOCTOR, [0])) == [0]
    assert failed(hosted().batches(DOCTOR, [0])) == []
    assert endpoint.requests == 1


def test_a_kill_between_picture_and_record_pays_nothing_twice(hosted, endpoint):
    hosted().batches(DOCTOR, [0])
    store = PictureStore(storage_of(hosted.path))
    store.write("doctor", 0, PictureRecord(requests=1, unanswered=1))
    assert failed(hosted().batches(DOCTOR, [0])) == []
    assert endpoint.requests == 1
    assert store.record("doctor", 0) == PictureRecord(1, 0, 1, "received", file="pictures/doctor/00000.png")


def test_requests_wait_together_up_to_the_limit(hosted, endpoint):
    waiting, most, lock = [0], [0], threading.Lock()

    def slow(_body, _number):
        with lock:
            waiting[0] += 1
            most[0] = max(most[0], waiting[0])
        time.sleep(0.1)
        with lock:
            waiting[0] -= 1

    endpoint.fault = slow
    hosted(limits={"concurrency": 3}).batches(DOCTOR, range(9))
    assert most[0] == 3


def test_the_limit_of_requests_holds_over_attempts_and_keeps_what_is_there(hosted, endpoint):
    endpoint.fault = once(error(500))
    with pytest.raises(
        BudgetError, match=r"3 of 3 requests are spent; raise model\.limits\.max_requests and run again"
    ):
        hosted(limits={"max_requests": 3}).batches(DOCTOR, range(5))
    with pytest.raises(BudgetError, match="3 of 3"):
        hosted(limits={"max_requests": 3}).batches(DOCTOR, range(5))
    assert (endpoint.requests, endpoint.paid.total()) == (3, 2)
    assert failed(hosted(limits={"max_requests": 6}).batches(DOCTOR, range(5))) == []
    assert (endpoint.requests, endpoint.paid.total()) == (6, 5)


def test_the_limit_of_cost_counts_what_may_be_charged_and_no_refusal():
    limits = ModelConfig(limits={"price_per_image": 0.1, "max_cost": 0.3}).limits
    budget = Budget(limits, RequestTotals(requests=9, received=1, unanswered=1, refused=7))
    budget.take()
    with pytest.raises(BudgetError, match=r"0\.3 of 0\.3 are spent, and an image costs 0\.1"):
        budget.take()
    budget.free()
    budget.take()


def test_requests_are_sent_at_the_given_pace():
    now, sent = [0.0], []

    def sleep(seconds):
        now[0] += seconds

    pace = Pace(30, clock=lambda: now[0], sleep=sleep)
    for _ in range(3):
        pace.wait()
        sent.append(now[0])
    pace.hold(60)
    pace.wait()
    assert [*sent, now[0]] == [0, 2, 4, 64]


def test_a_missing_key_is_named_and_no_key_can_be_asked_for(hosted, endpoint, monkeypatch, tmp_path):
    monkeypatch.delenv("OWN_VARIABLE")
    with pytest.raises(ValueError, match="expected a key in the environment variable OWN_VARIABLE"):
        hosted()
    model = ModelConfig(source="api", base_url=endpoint.url, model="painter", api_key_env=None)
    assert failed(HostedPictures(model, ["doctor"], storage_of(tmp_path / "open")).batches(DOCTOR, [0])) == []


def test_the_fingerprint_names_endpoint_and_parameters_and_no_weights():
    keys = {"source": "api", "base_url": "https://host.example/v1/", "model": "painter"}
    first = model_fingerprint(ModelConfig(**keys))
    assert first.startswith("host.example/v1 painter parameters:")
    assert first.endswith("weights:unknown")
    others = ({"size": "512x512"}, {"parameters": {"quality": "low"}}, {"model": "other"})
    assert len({first, *(model_fingerprint(ModelConfig(**{**keys, **other})) for other in others)}) == 4
    assert model_fingerprint(ModelConfig(**keys, limits={"concurrency": 9})) == first


def test_what_stands_for_a_missing_picture_counts_as_failed():
    assert np.ptp(FAILED) == 0
