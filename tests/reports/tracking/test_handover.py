"""Tests that the handover survives every fault of a tracking server, within its time limit."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from audit.storage.run_directory import AUDIT
from reports.index.story import story_of
from reports.tracking.client import UnreachableError
from reports.tracking.handover import Letter, Messenger, environment
from reports.tracking.log import log_audit
from reports.tracking.metrics import headline_metrics
from reports.tracking.outbox import audit_id, read_outbox
from reports.tracking.runs import AUDIT_ID

mlflow = pytest.importorskip("mlflow")
REFUSED = "http://127.0.0.1:9"
EXPERIMENT = "handed over"
AMPLE = 400.0
"""Time limit in seconds for deliveries that should succeed on a busy machine."""


@pytest.fixture
def _bounded(monkeypatch):
    """The client's settings in the handover process, for tests that log in this process."""
    for name, value in environment({}, seconds=6).items():
        if name.startswith("MLFLOW"):
            monkeypatch.setenv(name, value)


@pytest.fixture
def new_audit(result):
    """An audit that no other test has sent."""
    return replace(result, provenance={**result.provenance, "created": datetime.now(UTC).isoformat()})


@pytest.fixture
def finished_run(store_finished, new_audit):
    return store_finished(new_audit)


@pytest.fixture(scope="module")
def messenger():
    """One process for all tests that do not end it, since importing MLflow takes seconds."""
    with Messenger(AMPLE) as messenger:
        yield messenger


@contextmanager
def serving(answer):
    """An HTTP server on loopback that calls ``answer(handler, body)`` for every request, and counts them."""
    seen = Counter()

    class Handler(BaseHTTPRequestHandler):
        def _any(self):
            seen[f"{self.command} {self.path.partition('?')[0]}"] += 1
            answer(self, self.rfile.read(int(self.headers.get("Content-Length") or 0)))

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _any

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield SimpleNamespace(url=f"http://127.0.0.1:{server.server_port}", seen=seen)
        finally:
            server.shutdown()
            thread.join()


def forward(handler, body, port):
    """Forward a request to the real server, and return its answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {name: value for name, value in handler.headers.items() if name.lower() != "host"}
    connection.request(handler.command, handler.path, body, headers)
    found = connection.getresponse()
    answer = found.status, found.getheader("Content-Type", "text/plain"), found.read()
    connection.close()
    return answer


def reply(handler, status, kind, body):
    handler.send_response(status)
    handler.send_header("Content-Type", kind)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def drop(handler):
    handler.close_connection = True
    handler.connection.shutdown(socket.SHUT_RDWR)


def letter(run, uri):
    return Letter(run.path, uri, EXPERIMENT)


def runs_of(client, result):
    [experiment] = client.search_experiments(filter_string=f"name = '{EXPERIMENT}'")
    return client.search_runs([experiment.experiment_id], f"tags.`{AUDIT_ID}` = '{audit_id(result)}'")


def assert_told_once(url, run, result):
    """Check for one complete parent and one run per arm, each metric once, and an empty outbox."""
    client = mlflow.MlflowClient(tracking_uri=url)
    tracked = read_outbox(run).tracked
    found = {item.info.run_id: item for item in runs_of(client, result)}
    assert set(found) == {tracked.run_id, *tracked.child_run_ids.values()}
    assert {item.info.status for item in found.values()} == {"FINISHED"}
    assert found[tracked.run_id].data.metrics == pytest.approx(headline_metrics(story_of(result)))
    assert len(client.get_metric_history(tracked.run_id, "prompts")) == 1
    assert len(client.list_artifacts(tracked.run_id)) == 3
    assert len(client.search_logged_models([found[tracked.run_id].info.experiment_id])) == 1
    assert read_outbox(run).left == ()


@pytest.mark.usefixtures("_bounded")
def test_an_outage_at_every_single_request_leaves_one_whole_audit(mlflow_server, finished_run, new_audit):
    """Attempt n loses its n-th request, or only the answer after the server has acted."""
    attempt = SimpleNamespace(number=0, requests=0)

    def unreliable(handler, body):
        attempt.requests += 1
        lost = attempt.requests == attempt.number
        if lost and attempt.number % 2:
            drop(handler)
            return
        answer = forward(handler, body, mlflow_server.port)
        drop(handler) if lost else reply(handler, *answer)

    with serving(unreliable) as server:
        for number in range(1, 100):
            attempt.number, attempt.requests = number, 0
            try:
                log_audit(finished_run, uri=server.url, experiment=EXPERIMENT)
                break
            except UnreachableError:
                continue
    assert number > 10, "too few requests were lost to prove anything"
    assert_told_once(mlflow_server.url, finished_run, new_audit)


def test_a_server_that_is_stopped_half_way_and_started_again_has_one_run(
    mlflow_server, messenger, finished_run, new_audit
):
    allowed = iter(range(12))

    def until_it_stops(handler, body):
        if next(allowed, None) is None:
            mlflow_server.stop()
        try:
            answer = forward(handler, body, mlflow_server.port)
        except OSError:
            drop(handler)
        else:
            reply(handler, *answer)

    with serving(until_it_stops) as server:
        outage = messenger.deliver(letter(finished_run, server.url))
        left = read_outbox(finished_run).left
        allowed = iter(range(1000))
        mlflow_server.start()
        second, third = (messenger.deliver(letter(finished_run, server.url)) for _ in range(2))
    assert outage.unreachable
    assert 0 < len(left) < 7
    assert (second.sent, third.sent) == (len(left), 0)
    assert second.url == third.url
    assert_told_once(mlflow_server.url, finished_run, new_audit)


@pytest.mark.parametrize(
    ("status", "body", "requests", "found"),
    [
        (
            403,
            {"error_code": "PERMISSION_DENIED", "message": "ann may not"},
            1,
            "a refusal: PERMISSION_DENIED: ann may",
        ),
        (500, {"error_code": "INTERNAL_ERROR", "message": "disk full"}, 3, "a server that answers 500"),
        (503, {}, 3, "a server that answers 503"),
    ],
)
def test_a_refusal_by_the_server_is_reported(messenger, finished_run, status, body, requests, found):
    data = json.dumps(body).encode()
    with serving(lambda handler, _: reply(handler, status, "application/json", data)) as server:
        receipt = messenger.deliver(letter(finished_run, server.url))
    assert sum(server.seen.values()) == requests
    assert f"found {found}" in receipt.problem
    assert receipt.unreachable is (status >= 500)
    assert read_outbox(finished_run).problem == receipt.problem


@pytest.mark.usefixtures("_bounded")
def test_a_server_that_does_not_answer_costs_one_timeout(finished_run):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        with pytest.raises(UnreachableError, match="found no answer in time"):
            log_audit(finished_run, uri=f"http://127.0.0.1:{silent.getsockname()[1]}", experiment=EXPERIMENT)
    assert 1 <= time.monotonic() - began < 10


def test_a_server_that_drips_is_cut_off_at_the_deadline_and_the_next_store_is_tried(
    finished_run, new_audit, mlflow_server
):
    """A request timeout does not end an answer of one byte every tenth of a second."""

    def drip(handler, _):
        handler.send_response(200)
        handler.end_headers()
        with suppress(OSError):  # the other end goes away
            while True:
                handler.wfile.write(b" ")
                time.sleep(0.1)

    with Messenger(AMPLE) as messenger, serving(drip) as server:
        messenger.deliver(letter(finished_run, REFUSED))  # the process is there and MLflow imported
        messenger.seconds = 3.0
        began = time.monotonic()
        receipt = messenger.deliver(letter(finished_run, server.url))
        took = time.monotonic() - began
        messenger.seconds = AMPLE
        assert messenger.deliver(letter(finished_run, mlflow_server.url)).problem == ""
    assert sum(server.seen.values()) == 1
    assert 3 <= took < 20
    assert (receipt.problem, receipt.unreachable) == ("the tracking store took more than 3 s", True)
    assert_told_once(mlflow_server.url, finished_run, new_audit)


def test_an_unreadable_audit_is_reported_and_the_process_continues(messenger, finished_run, mlflow_server):
    whole = finished_run.file(AUDIT).read_bytes()
    finished_run.file(AUDIT).write_text("[]")
    receipt = messenger.deliver(letter(finished_run, mlflow_server.url))
    assert "expected a file written by an audit" in receipt.problem
    finished_run.file(AUDIT).write_bytes(whole)
    assert messenger.deliver(letter(finished_run, mlflow_server.url)).problem == ""


def test_a_process_that_dies_is_a_problem_of_one_audit_and_not_of_the_next(messenger, finished_run, mlflow_server):
    with serving(lambda *_: os.kill(messenger._process.pid, signal.SIGKILL)) as server:
        receipt = messenger.deliver(letter(finished_run, server.url))
    assert receipt.problem == "logging to MLflow failed: its process was killed"
    assert messenger.deliver(letter(finished_run, mlflow_server.url)).problem == ""


def test_a_process_whose_caller_is_gone_ends_by_itself(finished_run):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        data = asdict(letter(finished_run, f"http://127.0.0.1:{silent.getsockname()[1]}"))
        command = [sys.executable, "-m", "reports.tracking.handover", "0.5"]
        environ = environment(os.environ, seconds=60)
        with subprocess.Popen(command, stdin=subprocess.PIPE, text=True, env=environ) as process:
            process.stdin.write(json.dumps(data, default=str) + "\n")
            process.stdin.flush()
            assert process.wait(timeout=120) == -signal.SIGALRM


def test_the_bounds_stay_in_the_process_that_hands_over(messenger, finished_run):
    before = dict(os.environ)
    messenger.deliver(letter(finished_run, REFUSED))
    assert dict(os.environ) == before


def test_the_users_own_timeout_is_kept_and_retries_of_single_requests_are_not():
    own = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "77", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "7", "HOME": "/home/ann"}
    given = environment(own, seconds=120)
    assert (given["MLFLOW_HTTP_REQUEST_TIMEOUT"], given["MLFLOW_HTTP_REQUEST_MAX_RETRIES"]) == ("77", "0")
    assert given["HOME"] == "/home/ann"
    assert environment({}, seconds=120)["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "10"
    assert environment({}, seconds=12)["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "2"
