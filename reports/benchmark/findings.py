"""What the page of a benchmark shows, and how its rows are grouped."""

from __future__ import annotations

from dataclasses import dataclass

from audit.results.benchmark.rankings import Agreement
from audit.results.benchmark.rows import MethodRow


@dataclass(frozen=True)
class Strip:
    """The first images of one prompt: one row of WebP pictures per arm, None for a picture that was not kept."""

    model: str
    balanced: tuple[str, ...]
    prompt: str
    indices: tuple[int, ...]
    rows: tuple[tuple[str, tuple[bytes | None, ...]], ...]


@dataclass(frozen=True)
class Findings:
    """The figures of a benchmark.

    Attributes:
        name: Name of the benchmark.
        rows: One row for each model, attribute and arm.
        agreements: Whether rankings agree.
        strips: Paired images.
        waiting: Titles of the audits that have not run yet.
        incomplete: Titles of the audits in which shards are missing.
    """

    name: str
    rows: tuple[MethodRow, ...] = ()
    agreements: tuple[Agreement, ...] = ()
    strips: tuple[Strip, ...] = ()
    waiting: tuple[str, ...] = ()
    incomplete: tuple[str, ...] = ()

    @property
    def parts(self) -> tuple[Part, ...]:
        """The rows by model, attribute and prompts, in their order."""
        keys = dict.fromkeys(_key(row) for row in self.rows)
        return tuple(Part(*key, tuple(row for row in self.rows if _key(row) == key)) for key in keys)


def _key(row: MethodRow) -> tuple[str, tuple[str, ...], str, bool, str]:
    return row.model, row.balanced, row.attribute, row.held_out, row.control


@dataclass(frozen=True)
class Part:
    """The methods that are compared with each other: one model, one attribute, the same prompts."""

    model: str
    balanced: tuple[str, ...]
    attribute: str
    held_out: bool
    control: str
    rows: tuple[MethodRow, ...]

    @property
    def title(self) -> str:
        """The model and the attribute, and what else is balanced."""
        words = self.attribute.replace("_", " ")
        together = [name.replace("_", " ") for name in self.balanced if name != self.attribute]
        also = f", balanced with {' and '.join(together)}" if together else ""
        which = ", held-out prompts" if self.held_out else f", control prompts {self.control}" if self.control else ""
        return f"{self.model}: {words}{also}{which}"
