"""Fuzz test of configs: each must give a config or clean error messages, in bounded time.

``python -m benchmarks.fuzz_config --cases 10000`` draws them with hypothesis and prints the results. A case that ends
in another way is shrunk, printed, and ends the command with a traceback.
"""

from __future__ import annotations

import argparse
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audit.config.file import ConfigErrors, read_config
from audit.config.schema import config_schema
from audit.preflight.readiness import check_ready
from audit.storage.outside.safe_text import printable

CONFIGS = Path(__file__).parents[1] / "configs"

_HOSTILE_TEXTS = (
    "", " ", "\0", "\x1b[2J", "\ud800", "\u202e", "\r\n", "=cmd|' /C calc'!A0", "<script>alert(1)</script>",
    "../../etc/passwd", "/dev/zero", "~", "{occupation}{{a}}", "{", "%s%n", "${HOME}",
    "!!python/object/apply:os.system [id]", "a" * 300,
    "s3://key:secret@bucket/p", "sqlite:////", "http://[", "http://h:99999", "nan", "1e999", "é" * 70, "\N{FAMILY}",
)  # fmt: skip


def _keys(schema: object) -> set[str]:
    """Return every key that the config's schema names."""
    if isinstance(schema, dict):
        return set(schema.get("properties", {})).union(*map(_keys, schema.values()))
    return set().union(*map(_keys, schema)) if isinstance(schema, list) else set()


KEYS = st.sampled_from(sorted(_keys(dict(config_schema())))) | st.sampled_from(
    ["gender", "female", "<<", "x y", "__class__"]
)
TEXTS = (
    st.sampled_from(_HOSTILE_TEXTS) | st.text(max_size=8) | st.sampled_from(["all", "auto", "baseline", "calibration"])
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | TEXTS, inner, max_size=5), max_leaves=12
)
SECTIONS = st.sampled_from(sorted(dict(config_schema())["properties"]))
PLAIN = st.dictionaries(SECTIONS, VALUES | st.dictionaries(KEYS, VALUES, max_size=4), max_size=6)


@st.composite
def _yaml_of(draw: st.DrawFn) -> str:
    """Write plain data as YAML with unusual quotes, anchors, tags and documents that no YAML writer produces."""
    return _written(draw, draw(PLAIN))


def _written(draw: st.DrawFn, value: object) -> str:
    mark = draw(st.sampled_from([*[""] * 40, "&a ", "!!str ", "!x ", "!!python/name:os.system ", "*a #"]))
    if isinstance(value, dict):
        return mark + "{" + ", ".join(f"{_quoted(key)}: {_written(draw, item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return mark + "[" + ", ".join(_written(draw, item) for item in value) + "]"
    return mark + (_quoted(value) if isinstance(value, str) else str(value))


def _quoted(text: str) -> str:
    escaped = "".join(c if (c.isascii() and c.isalnum()) or c in " _-{}./:" else f"\\U{ord(c):08x}" for c in text)
    return f'"{escaped}"'


@st.composite
def _damaged(draw: st.DrawFn) -> bytes:
    """Damage a config of the project: bytes cut, doubled or replaced."""
    data = bytearray(draw(st.sampled_from(_SHIPPED)))
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 40)))
        data[start:end] = draw(st.binary(max_size=6) | st.sampled_from(_PIECES) | st.just(bytes(data[start:end]) * 2))
    return bytes(data)


@st.composite
def one_value(draw: st.DrawFn) -> bytes:
    """Replace one value of a valid config, so that later checks are reached too."""
    sections = config_schema()["$defs"]
    section = draw(st.sampled_from(sorted(dict(config_schema())["properties"])))
    named = config_schema()["properties"][section].get("$ref", "").rsplit("/", 1)[-1]
    value = draw(TEXTS | SCALARS | VALUES)
    if named in sections:
        key = draw(st.sampled_from(sorted(sections[named]["properties"])))
        value = {key: value}
    fixed = {"name": "a", "model": {"source": "rendered"}, "tracking": {"enabled": False}} | {section: value}
    return _written(draw, fixed).encode("utf-8", "replace")


_SHIPPED = [path.read_bytes() for path in sorted(CONFIGS.glob("*.yaml"))]
_PIECES = [
    b"\n- ",
    b": ",
    b"\t",
    b"&x ",
    b"*x",
    b"<<: *x",
    b"[" * 40,
    b"{",
    b"}",
    b"#",
    b"|\n",
    b">-\n",
    b"? ",
    b"---\n",
    b"%YAML 9\n",
    b"\xff",
]

TEXT_LIKE = st.text(alphabet="abnoseed:{}[]-,&*!?|>#'\"\n\t 019.é\x00\u2028", max_size=80).map(
    lambda text: text.encode("utf-8", "replace")
)
YAML_OF_DATA = _yaml_of().map(lambda text: text.encode("utf-8", "replace"))
CASES = st.one_of(TEXT_LIKE, _damaged(), YAML_OF_DATA, YAML_OF_DATA, YAML_OF_DATA, one_value(), one_value())
OVERRIDES = st.lists(
    st.tuples(st.lists(KEYS | st.sampled_from(["0", "9" * 30, "", "."]), max_size=6).map(".".join), TEXTS).map(
        "=".join
    ),
    max_size=2,
)


@dataclass
class Outcome:
    """Results of the cases so far."""

    configs: int = 0
    refused: int = 0
    slowest: float = 0.0
    mistakes: Counter[str] = field(default_factory=Counter)

    def count(self, found: ConfigErrors) -> None:
        """Count errors by their first words.

        Raises:
            UnicodeError: An error cannot be written to a file or a terminal.
            ValueError: There is no error, an empty one, or one with control characters.
        """
        str(found).encode("utf-8")
        messages = [str(error) for error in found.errors]
        if not messages or not all(error.message for error in found.errors) or any(printable(t) != t for t in messages):
            raise ValueError(f"no clean list of mistakes: {messages!r}")
        self.mistakes.update(error.message.split(",")[0][:40] for error in found.errors)


def try_case(path: Path, data: bytes, overrides: list[str], outcome: Outcome) -> None:
    """Read one hostile config and check it against this machine; other exceptions than clean errors pass."""
    path.write_bytes(data)
    started = time.perf_counter()
    try:
        read_config(path, overrides, [check_ready])
        outcome.configs += 1
    except ConfigErrors as found:
        outcome.refused += 1
        outcome.count(found)
    outcome.slowest = max(outcome.slowest, time.perf_counter() - started)


@contextmanager
def without_network() -> Iterator[None]:
    """Refuse all connections, so that hostile tracking URIs contact no real server."""
    connect, socket.create_connection = socket.create_connection, _nobody
    try:
        yield
    finally:
        socket.create_connection = connect


def _nobody(address: object, *_arguments: object, **_settings: object) -> socket.socket:
    raise ConnectionRefusedError(f"connections are disabled in this test: {address}")


def main() -> int:
    """Run the cases and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=None, help="another stream of cases; the same without it")
    arguments = parser.parse_args()
    outcome, started = Outcome(), time.perf_counter()
    with tempfile.TemporaryDirectory() as directory, without_network():
        path = Path(directory) / "hostile.yaml"

        @settings(
            max_examples=arguments.cases, deadline=None, database=None, derandomize=arguments.seed is None,
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(data=CASES, overrides=OVERRIDES)
        def run(data: bytes, overrides: list[str]) -> None:
            try_case(path, data, overrides, outcome)

        if arguments.seed is not None:
            from hypothesis import seed

            run = seed(arguments.seed)(run)
        run()
    seconds = time.perf_counter() - started
    print(f"{outcome.configs + outcome.refused} cases in {seconds:.0f} s, the slowest {1000 * outcome.slowest:.0f} ms")
    print(f"{outcome.configs} configs, {outcome.refused} refused with clean mistakes, 0 of any other kind")
    for message, count in outcome.mistakes.most_common(12):
        print(f"{count:7d}  {message}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
