"""An S3 server on loopback for tests and benchmarks: moto, with a log of its requests and faults on demand.

Nothing is kept on a disk and nothing listens beyond 127.0.0.1. Credentials are made up, since nobody looks at them.
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
"""A status to answer with, seconds to hold the answer back, or nothing."""


@dataclass(frozen=True)
class Request:
    """What a client asked for: ``GET``, ``/audits/runs/a/config.json``, the query, and whether it only may create."""

    method: str
    path: str
    query: str
    creates: bool


@dataclass
class S3Server:
    """Serves while inside ``with``; its bucket is empty at first.

    Attributes:
        port: Where to listen.
        fault: Decides over each request before it is served; replace it at any time.
        conditional: Whether it heeds ``If-None-Match``, as not every store does.
        requests: Every request so far, those that met a fault included.
        faults: Requests that met a fault.
        served: Requests that were answered by the store itself, in the order of their answers.
        missed: Those of them that asked for an object that was not there.
        under_way: Requests that are not answered yet.
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
        """Begin to serve, in a thread."""
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
        """End, and forget everything."""
        self._server.shutdown()
        self._server.server_close()
        self.objects.reset()

    @property
    def objects(self):
        """The server's own memory, to look into it, or to fill it, without a request."""
        from moto.s3.models import s3_backends

        return s3_backends["123456789012"]["aws"]

    def keys(self, prefix=""):
        """Return the names of the bucket's objects that begin so."""
        return sorted(key for key in self.objects.buckets[BUCKET].keys if key.startswith(prefix))

    def asked(self, method, part=""):
        """Return the requests of a method whose path or query holds ``part``."""
        return [r for r in self.requests if r.method == method and part in f"{r.path}?{r.query}"]

    def finishes(self, run):
        """Return how often each shard of a run was marked finished."""
        return _shards(run, (request for request in self.served if request.method == "PUT"))

    def repeated(self, run):
        """Return how often each shard was marked finished by a worker that must have found it finished.

        Two workers may do one shard at a time: the mark of one that is killed can arrive when another has begun. Both
        looked for it and found nothing. So a shard has as many marks at most as there were looks that found none.
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
    """Count the requests for the file that marks a shard of a run finished, by shard."""
    prefix, end = f"/{BUCKET}/{run}/shards/", ".parquet"
    names = (request.path for request in requests if request.path.startswith(prefix) and request.path.endswith(end))
    return Counter(name.removeprefix(prefix).removesuffix(end) for name in names)


def _refused(status, environ, start_response):
    environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))  # or the client's write would fail instead
    body = f"<Error><Code>{CODES[status]}</Code><Message>Please try again later</Message></Error>".encode()
    start_response(f"{status} Fault", [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
    return [body]


def seeded_faults(seed, share, kinds=(500, 503, 0.2)):
    """Return a decider that lets every so many requests fail, in the order that a seed gives."""
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
    """What tells a client where the server is."""
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "key-of-nobody",
        "AWS_SECRET_ACCESS_KEY": "secret-of-nobody",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
