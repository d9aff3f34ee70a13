"""Stores how far the features of a lens can be trusted beside the lens."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from audit.dissect.honesty.measure import dissection_of_settings, measure_honesty
from audit.dissect.lens import Lens
from audit.dissect.recording.recording import Recording
from audit.dissect.settings import HONESTY_FILE
from audit.models.device import device_here
from audit.records.inside.honesty import LensHonesty

LOG = logging.getLogger(__name__)


def write_honesty(lens: Lens, recording: Recording, directory: Path) -> LensHonesty:
    """Measure the features of a lens, and write ``honesty.json``.

    Args:
        lens: The lens.
        recording: What it was made from.
        directory: Directory of the lens; it exists.

    Raises:
        ValueError: The settings of the lens are incomplete.
    """
    LOG.info("measuring how far the features can be trusted")
    found = measure_honesty(lens.to(device_here()), recording, dissection_of_settings(lens.settings))
    (directory / HONESTY_FILE).write_bytes(honesty_bytes(found))
    return found


def honesty_bytes(honesty: LensHonesty) -> bytes:
    """Return the content of ``honesty.json``."""
    return (json.dumps(honesty.as_data(), separators=(",", ":"), allow_nan=False) + "\n").encode()
