"""How a share reads as a percentage, wherever one is printed: ``66 %``, with a space that does not break."""

from __future__ import annotations

NBSP = "\N{NO-BREAK SPACE}"


def percent(share: float, decimals: int = 0) -> str:
    """Format a share as a percentage, for example ``66 %`` for 0.66."""
    rounded = round(100 * share, decimals) + 0.0  # adding 0 turns −0 into 0
    return f"{rounded:.{decimals}f}{NBSP}%".replace("-", "−")


def exact_percent(share: float) -> str:
    """Format a chosen level with the digits that it needs, at most four: ``95 %``, ``97.5 %``, ``99.44 %``."""
    return f"{100 * share:.4g}{NBSP}%"
