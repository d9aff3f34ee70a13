"""Pictures from a hosted endpoint: requested once each, kept in the run directory, and read from there."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np

from audit.config.sections import ModelConfig
from audit.models.closed.budget import Budget, Pace
from audit.models.closed.endpoint import Endpoint, EndpointError, PassingError, RefusedPromptError
from audit.models.closed.interface import PictureBatch, Pixels, batches_by_size, pixel_seed, within
from audit.models.closed.picture_store import PictureRecord, PictureStore
from audit.records.work import Prompt, derive_seed
from audit.storage.files import Storage
from audit.storage.outside.picture import READING, PictureError, read_picture

FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.5, 60.0
"""Waits between retries double from the first to the longest; a longer ``Retry-After`` is obeyed."""

FAILED: Pixels = np.zeros((64, 64, 3), dtype=np.uint8)
"""Stands for a picture that could not be had: one single value, which counts as failed."""


class HostedPictures:
    """Requests pictures of a hosted model, one image per request.

    An endpoint takes no seed that all endpoints share, so a picture is known by prompt and index alone. It is requested
    once in a run, whatever stops the run in between.

    Args:
        model: Section ``model`` with ``source: api``.
        prompt_ids: All prompts of the audit, whose earlier requests count.
        storage: Files of the run directory.
        sleep: Waits for a number of seconds.
    """

    def __init__(
        self,
        model: ModelConfig,
        prompt_ids: Sequence[str],
        storage: Storage,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._limits, self._longest_side, self._sleep = model.limits, model.longest_side, sleep
        self._endpoint, self._store = Endpoint(model), PictureStore(storage)
        self._budget = Budget(model.limits, self._store.totals(prompt_ids))
        self._pace = Pace(model.limits.requests_per_minute, sleep=sleep)
        self._stopped, self._run_key = threading.Event(), self._store.run_key()
        self.sampling: Mapping[str, Any] = {
            "endpoint": self._endpoint.name,
            "model": model.model,
            "size": model.size,
            "parameters": dict(model.parameters),
            "images_per_request": 1,
            "weights": "unknown",
            "read_as": READING,
            "resize": f"lanczos, aspect ratio kept, only above {model.longest_side} pixels a side",
        }

    def batches(self, prompt: Prompt, indices: Sequence[int]) -> tuple[PictureBatch, ...]:
        """Return the pictures of a prompt; those that are not in the run directory are requested.

        Raises:
            EndpointError: The endpoint would refuse every request.
            BudgetError: A limit of the config is reached.
        """
        self._stopped.clear()
        with ThreadPoolExecutor(self._limits.concurrency) as threads:
            asked = [threads.submit(self._record, prompt, index) for index in indices]
        # All threads have ended here, so what was received is stored even if one of them failed.
        records = [one.result() for one in asked]
        return batches_by_size(
            {index: self._read(prompt, index, record) for index, record in zip(indices, records, strict=True)}
        )

    def _record(self, prompt: Prompt, index: int) -> PictureRecord:
        """Return the record of a picture that is here, was refused, or cannot be had."""
        if self._stopped.is_set():
            return PictureRecord()  # another thread raised, and so will the caller
        try:
            record = self._store.record(prompt.id, index)
            paid_in_vain = record.outcome == "failed" and record.received and not record.url
            if record.outcome in ("received", "refused") or paid_in_vain:
                return record
            return self._requested(prompt, index, record)
        except BaseException:
            self._stopped.set()
            raise

    def _requested(self, prompt: Prompt, index: int, record: PictureRecord) -> PictureRecord:
        """Request a picture until it is here, is refused, or no retry is left."""
        for attempt in range(self._limits.max_retries + 1):
            if self._stopped.is_set():
                return record
            try:
                if not record.url:
                    record = self._sent(prompt, index, record)
                    if record.outcome != "pending":
                        return record
                return self._store.keep(prompt.id, index, record, self._endpoint.fetch(record.url))
            except PassingError as error:
                record = self._store.record(prompt.id, index)
                record = self._store.write(prompt.id, index, replace(record, reason=str(error)))
                if attempt < self._limits.max_retries:
                    self._wait(attempt, error.wait_seconds, derive_seed(prompt.id, index, attempt))
        return self._store.write(prompt.id, index, replace(record, outcome="failed"))

    def _sent(self, prompt: Prompt, index: int, record: PictureRecord) -> PictureRecord:
        """Send one request and store what its answer says.

        Raises:
            PassingError: The request may succeed later.
        """
        self._pace.wait()
        self._budget.take()
        sent = replace(record, requests=record.requests + 1, unanswered=record.unanswered + 1, outcome="pending")
        self._store.write(prompt.id, index, sent)
        answered = replace(sent, unanswered=record.unanswered)
        try:
            # The same for every request for this image, in this run alone: another run draws another image.
            answer = self._endpoint.draw(prompt.text, f"{self._run_key}-{derive_seed(prompt.id, index):016x}")
        except PassingError as error:
            if error.answered:
                self._budget.free()
                self._store.write(prompt.id, index, answered)
            raise
        except RefusedPromptError as error:
            self._budget.free()
            return self._store.write(prompt.id, index, replace(answered, outcome="refused", reason=str(error)))
        except EndpointError:
            self._budget.free()
            self._store.write(prompt.id, index, answered)
            raise
        received = replace(answered, received=record.received + 1, url=answer.url, revised_prompt=answer.revised_prompt)
        if answer.url:
            return self._store.write(prompt.id, index, received)
        return self._store.keep(prompt.id, index, received, answer.data)

    def _wait(self, attempt: int, asked: float | None, seed: int) -> None:
        """Wait before a retry: as long as the endpoint asks, else twice as long each time, with some spread."""
        if asked is not None:
            self._pace.hold(asked)
            self._sleep(asked)
            return
        longest = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2**attempt)
        self._sleep(longest * random.Random(seed).uniform(0.5, 1))  # noqa: S311 - spreads retries, protects nothing

    def _read(self, prompt: Prompt, index: int, record: PictureRecord) -> tuple[Pixels, int]:
        """Return a picture and what identifies it; one that could not be had is black and known by its key."""
        nothing = FAILED, derive_seed("no picture", prompt.id, index)
        if record.outcome != "received":
            return nothing
        try:
            with self._store.storage.on_disk(record.file) as path:
                pixels = within(read_picture(path), self._longest_side)
        except PictureError as error:
            self._store.write(prompt.id, index, replace(record, outcome="failed", reason=str(error)))
            return nothing
        return pixels, pixel_seed(pixels)
