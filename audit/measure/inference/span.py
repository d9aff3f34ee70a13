"""Possible ranges of figures, to which intervals are clipped.

Large-sample intervals ignore the limits of a scale: with two prompts, Student's t interval of a difference of shares
can be [−5.85, 6.85]. A difference of shares is between −1 and 1, so intervals are clipped when they are computed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TypeVar

from audit.records.estimates import Estimate

Held = TypeVar("Held", bound=Estimate)


@dataclass(frozen=True)
class Span:
    """The closed range of possible values of a figure."""

    low: float = -math.inf
    high: float = math.inf

    def held(self, estimate: Held) -> Held:
        """Return the estimate with its interval clipped to the span, but never so that it excludes its value.

        An unbiased estimate can be outside the span by chance; the interval then ends at the estimate.
        """
        low = min(estimate.value, max(estimate.low, self.low))
        return replace(estimate, low=low, high=max(estimate.value, min(estimate.high, self.high)))


SHARE = Span(0.0, 1.0)
CHANGE_OF_SHARE = Span(-1.0, 1.0)
COSINE = Span(-1.0, 1.0)
