"""Tests webhook posts: a signature that receivers can verify, bounded retries, and no visible secret."""

import hashlib
import hmac
import json
import socket
import time

import pytest
from urllib3.util import Retry

from ray_jobs.schedule.webhook import ID_HEADER, RETRIES, SIGNATURE_HEADER, TIMESTAMP_HEADER, Undelivered, Webhook

SECRET = "only-the-two-of-us"
AT_ONCE = RETRIES.new(backoff_factor=0)


def test_a_receiver_with_the_secret_can_check_who_posted_and_when(receiver_of):
    with receiver_of() as receiver:
        Webhook(receiver.url, SECRET).post("event-1", {"message": "größer"})
    [(headers, body)] = receiver.posts
    assert json.loads(body) == {"message": "größer"}
    assert headers[ID_HEADER] == "event-1"
    assert abs(int(headers[TIMESTAMP_HEADER]) - time.time()) < 60
    signed = f"{headers[TIMESTAMP_HEADER]}.".encode() + body
    assert headers[SIGNATURE_HEADER] == "sha256=" + hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()


def test_what_fails_for_a_while_is_tried_again_with_the_same_id(receiver_of):
    with receiver_of(503, 429, 200) as receiver:
        Webhook(receiver.url, SECRET, AT_ONCE).post("event-1", {})
    assert [headers[ID_HEADER] for headers, _ in receiver.posts] == ["event-1"] * 3


def test_a_receiver_that_never_recovers_gets_a_bounded_number_of_attempts(receiver_of):
    with receiver_of(500) as receiver, pytest.raises(Undelivered, match="found the answer 500"):
        Webhook(receiver.url, SECRET, AT_ONCE).post("event-1", {})
    assert len(receiver.posts) == 1 + RETRIES.total


def test_a_refusal_is_final(receiver_of):
    with receiver_of(403) as receiver, pytest.raises(Undelivered, match="found the answer 403"):
        Webhook(receiver.url, SECRET, AT_ONCE).post("event-1", {})
    assert len(receiver.posts) == 1


def test_a_post_follows_no_redirect(receiver_of):
    with (
        receiver_of() as other,
        receiver_of(307, location=other.url) as receiver,
        pytest.raises(Undelivered, match="307"),
    ):
        Webhook(receiver.url, SECRET, AT_ONCE).post("event-1", {})
    assert other.posts == []


def test_delays_between_attempts_are_bounded_for_any_answer():
    retries, waits = RETRIES, []
    for _ in range(RETRIES.total):
        retries = retries.increment(method="POST", url="/", error=None, response=FakeAnswer())
        waits.append(retries.get_backoff_time())
    assert isinstance(retries, Retry)
    assert waits == [0, 2, 4, 8]
    assert not RETRIES.respect_retry_after_header


class FakeAnswer:
    status, headers = 503, {}

    def get_redirect_location(self):
        return False


@pytest.mark.parametrize("listens", [True, False])
def test_a_failure_message_contains_neither_secret_nor_path(listens, caplog, receiver_of):
    caplog.set_level("DEBUG")
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{held.getsockname()[1]}/hooks/path-token?key=query-token"
    with receiver_of(403) as receiver:
        webhook = Webhook(receiver.url if listens else closed, SECRET, AT_ONCE)
        with pytest.raises(Undelivered) as failure:
            webhook.post("event-1", {})
    shown = f"{failure.value!r} {failure.value.__cause__} {webhook!r} {caplog.text}"
    assert not any(secret in shown for secret in (SECRET, "path-token", "query-token"))
