"""Reads the text of a user's file; a file that cannot be read is reported like any other config error."""

from __future__ import annotations

from pathlib import Path

from audit.config.errors import ConfigError, ConfigErrors


def read_text(path: Path, kind: str, max_bytes: int) -> str:
    """Return a file's text, without a byte-order mark.

    Args:
        path: The file.
        kind: What is expected, for messages: ``YAML file``.
        max_bytes: Size limit of the file.

    Raises:
        ConfigErrors: The file cannot be read, is too large or is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        message = f"expected a readable {kind}, found none ({error.strerror}); check the path"
        raise ConfigErrors([ConfigError(str(path), None, None, "", message)]) from error
    if len(data) > max_bytes:
        message = f"expected a {kind} of at most {max_bytes} bytes, found more; is this the right file?"
        raise ConfigErrors([ConfigError(str(path), None, None, "", message)])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        message = f"expected UTF-8 text, found the byte 0x{data[error.start]:02x}; save the file as UTF-8"
        raise ConfigErrors([ConfigError(str(path), line, 1, "", message)]) from error
