"""Fixtures that several packages' tests share: a tiny random Stable Diffusion pipeline, an S3 server on loopback."""

from __future__ import annotations

from pathlib import Path

import pytest

from audit.storage.place import ObjectPath
from benchmarks.s3_server import BUCKET, S3Server, environment, free_port


@pytest.fixture(scope="session")
def tiny_pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Stable Diffusion directory with random weights: 16×16 pictures, 8×8 latents, ε-prediction, PNDM scheduler."""
    from benchmarks.tiny_models import save_tiny_pipeline

    return save_tiny_pipeline(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def s3_port():
    """Where the S3 server listens once there is one; the environment says so before any other process is started."""
    port = free_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(port).items():
            patch.setenv(name, value)
        yield port


@pytest.fixture(scope="session")
def s3_server(s3_port):
    with S3Server(s3_port) as server:
        yield server


@pytest.fixture
def s3(s3_server):
    """The server, well, with nothing asked of it so far."""
    s3_server.fault = lambda _request: None
    s3_server.requests.clear()
    s3_server.faults.clear()
    s3_server.served.clear()
    s3_server.missed.clear()
    yield s3_server
    s3_server.fault = lambda _request: None


@pytest.fixture(params=["local", "s3"])
def place(request, tmp_path):
    """A place that is empty so far: a directory, then a prefix on the server."""
    if request.param == "local":
        return tmp_path / "place"
    request.getfixturevalue("s3")
    return ObjectPath("s3", f"{BUCKET}/{tmp_path.name}/place")
