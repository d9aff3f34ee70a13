"""An S3 server on loopback for tests and benchmarks: moto, with a request log and optional faults.

It stores nothing on disk and listens only on 127.0.0.1. Credentials are invented, since they are not checked.
"""

import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

BUCKET = "audits"

CODES = {500: "InternalError", 503: "SlowDown", 403: "AccessDenied"}

Fault = int | float | None
"""An HTTP status to answer with, a delay in seconds, or None."""


@dataclass(frozen=True)
class Request:
    """A client's request: ``GET``, ``/audits/runs/a/config.json``, the query, and whether it may only create."""

    method: str
    path: str
    query: str
    creates: bool


@dataclass
class S3Server:
    """An S3 server that runs inside ``with``; its bucket is empty at first.

    Attributes:
        port: Port of the server.
        fault: Decides on a fault for each request before it is served; can be replaced at any time.
        conditional: Whether it supports ``If-None-Match``, which some stores do not.
        requests: All requests, including those with a fault.
        faults: Requests with a fault.
        served: Requests that the store itself answered, in the order of the answers.
        missed: Served requests for a missing object.
        under_way: Requests without an answer yet.
    """

    port: int
    fault: Callable[[Request], Fault] = lambda _request: None
    conditional: bool = True
    requests: list[Request] = field(default_factory=list)
    faults: list[Request] = field(default_factory=list)
    served: list[Request] = field(default_factory=list)
    missed: list[Request] = field(default_factory=list)
    under_way: list[Request] = field(default_factory=list)

    def __enter__(self):
        """Start to serve, in a thread."""
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import WSGIRequestHandler, make_server

        class Quiet(WSGIRequestHandler):
            def log(self, *_):
                pass

        self._moto = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", self.port, self._answer, threaded=True, request_handler=Quiet)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.objects.create_bucket(BUCKET, "us-east-1")
        return self

    def __exit__(self, *_):
        """Stop, and delete all objects."""
        self._server.shutdown()
        self._server.server_close()
        self.objects.reset()

    @property
    def objects(self):
        """The server's memory, for direct access without a request."""
        from moto.s3.models import s3_backends

        return s3_backends["123456789012"]["aws"]

    def keys(self, prefix=""):
        """Return the names of the bucket's objects with a prefix."""
        return sorted(key for key in self.objects.buckets[BUCKET].keys if key.startswith(prefix))

    def asked(self, method, part=""):
        """Return the requests with this method whose path or query contains ``part``."""
        return [r for r in self.requests if r.method == method and part in f"{r.path}?{r.query}"]

    def finishes(self, run):
        """Return how often each shard of a run was marked as finished."""
        return _shards(run, (request for request in self.served if request.method == "PUT"))

    def repeated(self, run):
        """Return how often each shard was marked as finished by a worker that must have seen the mark.

        Two workers can run one shard at the same time: the mark of a killed worker can arrive after another has
        started. Both checked and found no mark. A shard can therefore have as many marks as checks that found none.
        """
        return self.finishes(run) - _shards(run, (request for request in self.missed if request.method == "GET"))

    def _answer(self, environ, start_response):
        request = Request(
            environ["REQUEST_METHOD"],
            environ["PATH_INFO"],
            environ["QUERY_STRING"],
            creates=environ.get("HTTP_IF_NONE_MATCH") == "*",
        )
        self.requests.append(request)
        self.under_way.append(request)
        try:
            return self._answer_to(request, environ, start_response)
        finally:
            self.under_way.remove(request)

    def _answer_to(self, request, environ, start_response):
        fault = self.fault(request)
        if fault is not None:
            self.faults.append(request)
        if isinstance(fault, float):
            time.sleep(fault)
        elif fault is not None:
            return _refused(fault, environ, start_response)
        if not self.conditional:
            environ.pop("HTTP_IF_NONE_MATCH", None)

        def noticed(status, headers, *rest):
            if status.startswith("404"):
                self.missed.append(request)
            return start_response(status, headers, *rest)

        answer = self._moto(environ, noticed)
        self.served.append(request)
        return answer


def _shards(run, requests):
    """Count the requests for a run's finished marks, by shard."""
    prefix, end = f"/{BUCKET}/{run}/shards/", ".parquet"
    names = (request.path for request in requests if request.path.startswith(prefix) and request.path.endswith(end))
    return Counter(name.removeprefix(prefix).removesuffix(end) for name in names)


def _refused(status, environ, start_response):
    environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))  # otherwise the client's write fails
    body = f"<Error><Code>{CODES[status]}</Code><Message>Please try again later</Message></Error>".encode()
    start_response(f"{status} Fault", [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
    return [body]


def seeded_faults(seed, share, kinds=(500, 503, 0.2)):
    """Return a function that selects requests to fail with this probability, in the order of a seed."""
    rng, lock = np.random.default_rng(seed), threading.Lock()

    def fault(_request):
        with lock:
            hit, kind = rng.random() < share, kinds[rng.integers(len(kinds))]
        return kind if hit else None

    return fault


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def environment(port):
    """Environment variables that point a client to the server."""
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "key-of-nobody",
        "AWS_SECRET_ACCESS_KEY": "secret-of-nobody",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
