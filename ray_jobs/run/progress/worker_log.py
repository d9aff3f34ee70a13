"""Log of a worker: one JSON object per line on standard error, where Ray and log collectors read it."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

FIELDS = ("shard", "attempt", "images", "seconds", "batch", "node")
"""Fields that a record may have besides its message; ``LOG.info(..., extra={"shard": ...})``."""


class JsonLines(logging.Formatter):
    """Formats a record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return time, level, logger, message, and the fields that the record carries."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **{name: getattr(record, name) for name in FIELDS if hasattr(record, name)},
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def log_as_json(logger: logging.Logger) -> None:
    """Let ``logger`` write JSON lines to standard error; repeated calls change nothing."""
    if any(isinstance(handler.formatter, JsonLines) for handler in logger.handlers):
        return
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
