"""A place of a denoiser: what a module hands over or reads, at some steps, with a form that people type and read."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal, get_args

Kind = Literal["result", "output", "skips", "text", "text-mask", "text-stream", "update", "input"]

_KINDS: tuple[Kind, ...] = get_args(Kind)
_FORM = re.compile(r"(?:(?P<kind>[a-z-]+):)?(?P<module>[A-Za-z0-9_.]+)(?:@(?P<low>[0-9.]+)-(?P<high>[0-9.]+))?")

ALL_STEPS = (0.0, 1.0)
THIRDS = ((0.0, 0.33), (0.33, 0.67), (0.67, 1.0))
"""Windows of the early, middle and late steps; neighbours may share one step."""


@dataclass(frozen=True)
class Place:
    """A place, written for example ``mid_block``, ``skips:down_blocks.0`` or ``text:up_blocks.0@0.33-0.67``.

    Attributes:
        module: Address of the module in the denoiser.
        kind: ``result``, written without a prefix, is what the module returns, wherever it goes: the result of a down
            block of a U-Net is also its last skip connection. ``output`` is the result on its way to the next block
            alone, ``update`` is what the module adds to its input (output minus input), ``skips`` are the skip
            connections that a down block hands over, ``text`` is what the cross-attention of the block reads,
            ``text-mask`` is what hides tokens of this text, ``text-stream`` are the text tokens that a block of a
            transformer with two streams returns, and ``input`` is the first thing that a module reads.
        window: Part of the denoising steps, as fractions from first to last.
    """

    module: str
    kind: Kind = "result"
    window: tuple[float, float] = ALL_STEPS

    @classmethod
    def parse(cls, text: str) -> Place:
        """Read a place from its written form.

        Raises:
            ValueError: The text is not a place.
        """
        found = _FORM.fullmatch(text)
        if found is None:
            raise ValueError(
                f"expected a place such as mid_block, text:up_blocks.0 or skips:down_blocks.0@0.33-0.67, found {text!r}"
            )
        kinds: dict[str | None, Kind] = {None: "result", **{kind: kind for kind in _KINDS if kind != "result"}}
        if found["kind"] not in kinds:
            known = ", ".join(kind for kind in _KINDS if kind != "result")
            raise ValueError(f"expected a place that begins with {known} or a module, found {text!r}")
        return cls(found["module"], kinds[found["kind"]], _window(found["low"], found["high"], text))

    def __str__(self) -> str:
        """Return the written form."""
        low, high = self.window
        prefix = "" if self.kind == "result" else f"{self.kind}:"
        return f"{prefix}{self.module}{'' if self.window == ALL_STEPS else f'@{low:g}-{high:g}'}"

    @property
    def at_all_steps(self) -> Place:
        """The same place without its window."""
        return replace(self, window=ALL_STEPS)


def _window(low: str | None, high: str | None, text: str) -> tuple[float, float]:
    if low is None or high is None:
        return ALL_STEPS
    try:
        window = float(low), float(high)
    except ValueError:
        window = (1.0, 0.0)
    if not 0 <= window[0] < window[1] <= 1:
        raise ValueError(f"expected a window of fractions from 0 to 1, the lower one first, found {text!r}")
    return window
