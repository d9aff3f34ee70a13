"""The driver logs how far a training is, from the header of its checkpoint."""

import logging
import time

import torch

from audit.mitigate.training import StoredCheckpoint
from audit.planning.fits import LOSSES, TRAINING_FILE
from audit.storage.files import storage_of
from ray_jobs.run.prepare.training_progress import reported, steps_done


def write(place, steps):
    state = {"parameter/a": torch.zeros(1000), LOSSES: torch.zeros(steps, dtype=torch.float64)}
    StoredCheckpoint(storage_of(place), TRAINING_FILE).write(state)


def test_steps_are_read_from_the_header_in_a_directory_and_in_an_object_store(place):
    storage = storage_of(place)
    assert steps_done(storage) == 0
    write(place, 7)
    assert steps_done(storage) == 7
    storage.write(TRAINING_FILE, storage.read(TRAINING_FILE)[:20])
    assert steps_done(storage) == 0


def test_every_new_checkpoint_is_one_line(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    write(tmp_path, 5)
    with reported("Fit of m", 20, storage_of(tmp_path), every=0.02):
        for steps in (10, 15):
            write(tmp_path, steps)
            end = time.monotonic() + 5
            while f"step {steps} of 20" not in caplog.text and time.monotonic() < end:
                time.sleep(0.01)
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        "Fit of m: training, 5 of 20 steps are done",
        "Fit of m: step 10 of 20",
        "Fit of m: step 15 of 20",
    ]


def test_a_fit_without_training_logs_nothing(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    with reported("Fit of m", 0, storage_of(tmp_path)):
        pass
    assert not caplog.records
