"""Fixtures that several packages' tests share: a tiny random pipeline, an S3 server on loopback, photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from audit.storage.place import ObjectPath
from benchmarks.s3_server import BUCKET, S3Server, environment, free_port


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip tests of faces only if the extra is not installed; its model files must then be there."""
    if item.get_closest_marker("faces"):
        for name in ("dlib", "onnxruntime", "skimage"):
            pytest.importorskip(name)


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


@pytest.fixture(scope="session")
def portrait():
    """RGB, (512, 512, 3)."""
    import skimage.data

    return np.ascontiguousarray(skimage.data.astronaut())


@pytest.fixture(scope="session")
def small_faces():
    """100 faces and 100 pictures without one, grey, enlarged from 25 to 150 pixels: (200, 150, 150, 3)."""
    import skimage.data
    from PIL import Image

    grey = (skimage.data.lfw_subset() * 255).astype(np.uint8)
    return np.stack([np.asarray(Image.fromarray(one).resize((150, 150), 3).convert("RGB")) for one in grey])


@pytest.fixture(scope="session")
def two_people(portrait):
    """The portrait, and beside it the portrait at three quarters of its size: (512, 900, 3)."""
    from PIL import Image

    picture = np.zeros((512, 900, 3), np.uint8)
    picture[:, :512] = portrait
    picture[60:444, 514:898] = np.asarray(Image.fromarray(portrait).resize((384, 384)))
    return picture


@pytest.fixture(scope="session")
def as_batch():
    """Turn arrays (H, W, 3) into uint8 images (n, 3, H, W)."""
    import torch

    return lambda *pictures: torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hugging Face hub on loopback, empty so far, with an empty cache on this machine."""
    from huggingface_hub import constants

    from tests.hub import serve_hub

    with serve_hub() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield server
