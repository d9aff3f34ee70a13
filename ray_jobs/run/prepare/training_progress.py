"""Logs how far a training is, on the driver, from the checkpoint that the worker stores."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from audit.planning.fits import LOSSES, TRAINING_FILE
from audit.storage.files import Storage

LOG = logging.getLogger(__name__)

_LENGTH = 8
"""Bytes of a safetensors file that state the length of its header."""


def steps_done(storage: Storage) -> int:
    """Return the steps that a checkpoint holds, from the header of its file alone; 0 if there is none."""
    if not storage.has(TRAINING_FILE):
        return 0
    try:
        length = int.from_bytes(storage.read(TRAINING_FILE, _LENGTH), "little")
        header = json.loads(storage.read(TRAINING_FILE, _LENGTH + length)[_LENGTH:])
        return int(header[LOSSES]["shape"][0])
    except (FileNotFoundError, ValueError, KeyError, IndexError):  # half a file, which the worker replaces
        return 0


@contextmanager
def reported(title: str, steps: int, storage: Storage, every: float = 10.0) -> Iterator[None]:
    """Log the steps of a training while the block inside waits for it.

    Args:
        title: What is trained.
        steps: Steps of the whole training; 0 logs nothing.
        storage: Files of the fit.
        every: Seconds between two looks.
    """
    if not steps:
        yield
        return
    ended = threading.Event()
    LOG.info("%s: training, %d of %d steps are done", title, steps_done(storage), steps)
    watcher = threading.Thread(target=_watch, args=(title, steps, storage, (ended, every)), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def _watch(title: str, steps: int, storage: Storage, timing: tuple[threading.Event, float]) -> None:
    ended, every = timing
    seen = steps_done(storage)
    while not ended.wait(every):
        done = steps_done(storage)
        if done > seen:
            LOG.info("%s: step %d of %d", title, done, steps)
        seen = done
