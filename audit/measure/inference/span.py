"""What a figure can be: no interval says more than that.

Large-sample intervals know nothing of the ends of a scale: with two prompts Student's t gives a difference of shares
the interval [−5.85, 6.85]. No share differs by that much, so intervals are cut to the scale where they are made.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TypeVar

from audit.records.estimates import Estimate

Held = TypeVar("Held", bound=Estimate)


@dataclass(frozen=True)
class Span:
    """The values that a figure can have, both ends among them."""

    low: float = -math.inf
    high: float = math.inf

    def held(self, estimate: Held) -> Held:
        """Return the estimate with its interval cut to the span, but never beyond its value.

        An estimate without bias can lie outside of the span by chance; the interval then ends at it.
        """
        low = min(estimate.value, max(estimate.low, self.low))
        return replace(estimate, low=low, high=max(estimate.value, min(estimate.high, self.high)))


SHARE = Span(0.0, 1.0)
CHANGE_OF_SHARE = Span(-1.0, 1.0)
COSINE = Span(-1.0, 1.0)
